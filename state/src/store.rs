//! The choice of backend, made once at start-up: enums over what the backends are, and nothing else.

use std::time::Duration;

use crate::contract::{JoinError, Leaving, State, StateError, Taken};
use crate::event::{Event, FloorCause, Roster};
use crate::floor::{Floor, Owner};
use crate::id::{ChannelId, NodeId, UserId};
use crate::memory::{Memory, MemorySubscription};
use crate::node::{Node, Nodes};
use crate::redis::{Redis, RedisSubscription};

/// The backend chosen at start-up. Cheap to clone; clones share the state.
#[derive(Debug, Clone)]
pub enum Store {
    /// One process, nothing survives it.
    Memory(Memory),
    /// Any number of processes.
    Redis(Redis),
}

/// A gateway's one subscription: it watches the channels that have local members, and only those.
#[derive(Debug)]
pub enum Subscription {
    /// Of [`Memory`].
    Memory(MemorySubscription),
    /// Of [`Redis`].
    Redis(RedisSubscription),
}

impl Subscription {
    /// Starts to watch a channel. Events that follow this call's return are delivered; read [`State::floor`] afterwards
    /// and drop events whose epoch is not newer. Watching twice is watching once.
    pub async fn watch(&mut self, channel: &ChannelId) -> Result<(), StateError> {
        match self {
            Self::Memory(subscription) => {
                subscription.watch(channel);
                Ok(())
            }
            Self::Redis(subscription) => subscription.watch(channel).await,
        }
    }

    /// Stops watching a channel. None of its events is delivered after this call's return.
    pub async fn unwatch(&mut self, channel: &ChannelId) -> Result<(), StateError> {
        match self {
            Self::Memory(subscription) => subscription.unwatch(channel),
            Self::Redis(subscription) => subscription.unwatch(channel),
        }
        Ok(())
    }

    /// The next event of a watched channel; [`Event::Resync`] when some were lost. Cancel-safe. `None`: the backend has
    /// shut down.
    pub async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Memory(subscription) => subscription.next().await,
            Self::Redis(subscription) => subscription.next().await,
        }
    }
}

impl State for Store {
    async fn take_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        node: &NodeId,
        take_over: Option<u64>,
    ) -> Result<Taken, StateError> {
        match self {
            Self::Memory(memory) => memory.take_floor(channel, owner, node, take_over).await,
            Self::Redis(redis) => redis.take_floor(channel, owner, node, take_over).await,
        }
    }

    async fn release_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: Option<u64>,
        cause: FloorCause,
    ) -> Result<(Floor, bool), StateError> {
        match self {
            Self::Memory(memory) => memory.release_floor(channel, owner, epoch, cause).await,
            Self::Redis(redis) => redis.release_floor(channel, owner, epoch, cause).await,
        }
    }

    async fn renew_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: u64,
        node: &NodeId,
    ) -> Result<bool, StateError> {
        match self {
            Self::Memory(memory) => memory.renew_floor(channel, owner, epoch, node).await,
            Self::Redis(redis) => redis.renew_floor(channel, owner, epoch, node).await,
        }
    }

    async fn expire_floor(&self, channel: &ChannelId) -> Result<Floor, StateError> {
        match self {
            Self::Memory(memory) => memory.expire_floor(channel).await,
            Self::Redis(redis) => redis.expire_floor(channel).await,
        }
    }

    async fn floor(&self, channel: &ChannelId) -> Result<Floor, StateError> {
        match self {
            Self::Memory(memory) => memory.floor(channel).await,
            Self::Redis(redis) => redis.floor(channel).await,
        }
    }

    async fn join(&self, channel: &ChannelId, member: &Owner) -> Result<Roster, JoinError> {
        match self {
            Self::Memory(memory) => memory.join(channel, member).await,
            Self::Redis(redis) => redis.join(channel, member).await,
        }
    }

    async fn leave(&self, channel: &ChannelId, owner: &Owner, leaving: Leaving) -> Result<usize, StateError> {
        match self {
            Self::Memory(memory) => memory.leave(channel, owner, leaving).await,
            Self::Redis(redis) => redis.leave(channel, owner, leaving).await,
        }
    }

    async fn members(&self, channel: &ChannelId) -> Result<Vec<(UserId, String)>, StateError> {
        match self {
            Self::Memory(memory) => memory.members(channel).await,
            Self::Redis(redis) => redis.members(channel).await,
        }
    }

    async fn claim(&self, key: &str, for_time: Duration) -> Result<bool, StateError> {
        match self {
            Self::Memory(memory) => memory.claim(key, for_time).await,
            Self::Redis(redis) => redis.claim(key, for_time).await,
        }
    }

    fn subscribe(&self) -> Subscription {
        match self {
            Self::Memory(memory) => memory.subscribe(),
            Self::Redis(redis) => redis.subscribe(),
        }
    }
}

impl Nodes for Store {
    async fn register_node(&self, node: &Node, lease: Duration) -> Result<(), StateError> {
        match self {
            Self::Memory(memory) => memory.register_node(node, lease).await,
            Self::Redis(redis) => redis.register_node(node, lease).await,
        }
    }

    async fn unregister_node(&self, node: &NodeId) -> Result<(), StateError> {
        match self {
            Self::Memory(memory) => memory.unregister_node(node).await,
            Self::Redis(redis) => redis.unregister_node(node).await,
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>, StateError> {
        match self {
            Self::Memory(memory) => memory.nodes().await,
            Self::Redis(redis) => redis.nodes().await,
        }
    }
}
