//! A subscription to the in-memory backend: the channels that it watches and the queue that they fill.

use std::collections::HashSet;
use std::sync::Arc;

use super::Memory;
use crate::event::Event;
use crate::id::ChannelId;
use crate::queue::Queue;

/// A subscription to [`Memory`]; see [`Subscription`](crate::Subscription). Dropping it ends it.
#[derive(Debug)]
pub struct MemorySubscription {
    memory: Memory,
    queue: Arc<Queue>,
    watched: HashSet<ChannelId>,
}

impl MemorySubscription {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, queue: Arc::default(), watched: HashSet::new() }
    }

    pub(crate) fn watch(&mut self, channel: &ChannelId) {
        if self.watched.insert(channel.clone()) {
            self.memory.with_channel(channel, |channel, _| channel.add_watcher(&self.queue));
        }
    }

    pub(crate) fn unwatch(&mut self, channel: &ChannelId) {
        if self.watched.remove(channel) {
            self.stop(channel);
            self.queue.forget(channel);
        }
    }

    /// Never `None`: the state lives as long as its subscriptions.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        Some(self.queue.next().await)
    }

    fn stop(&self, channel: &ChannelId) {
        self.memory.with_channel(channel, |channel, _| channel.remove_watcher(&self.queue));
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        for channel in &self.watched {
            self.stop(channel);
        }
    }
}
