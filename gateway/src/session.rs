//! What one connection has: its user, the channels it has joined, its media, and reminders that are due.
//!
//! Owned by the socket's reading half, changed by the requests. However a socket ends, the session is parked, forgotten or
//! dropped; dropping it starts the clean-up, whose steps do not depend on each other.

pub(crate) mod cleanup;
mod expiry;
mod late;
mod resume;
pub(crate) mod ticket;
mod transports;

use std::collections::HashMap;
use std::sync::Arc;

use governor::DefaultDirectRateLimiter;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Code, Response, Status};
use voiceping_proto::media::v1::Direction;
use voiceping_state::{ChannelId, ConnectionId, Owner};

use crate::auth::Identity;
use crate::error::Refusal;
use crate::http::per_second;
use crate::hub::Interest;
use crate::media::MediaClient;
use crate::nodes::{NodeHandle, distinct};
use crate::shared::Shared;
use crate::socket::{Close, Outbox};
use crate::view;
use expiry::Expiry;
use late::LateEntries;
pub(crate) use transports::Transports;

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    gateway: Arc<Shared>,
    identity: Identity,
    owner: Owner,
    outbox: Outbox,
    joined: HashMap<ChannelId, Interest>,
    /// Joins that the state did not answer. They may have been done, so they are undone with the rest.
    in_doubt: HashMap<ChannelId, Interest>,
    /// Where the next transport goes.
    node: Option<Arc<NodeHandle>>,
    transports: Transports,
    late_entries: LateEntries,
    messages: DefaultDirectRateLimiter,
    expiry: Expiry,
    /// It is a client of ours, which can come back: when it needs a new ticket.
    next_ticket: Option<Instant>,
    /// It goes on elsewhere, or may: nothing of it is cleaned up.
    forgotten: bool,
    room: Option<OwnedSemaphorePermit>,
}

impl Session {
    pub(crate) fn new(gateway: Arc<Shared>, identity: Identity, outbox: Outbox, room: OwnedSemaphorePermit) -> Self {
        let owner = Owner {
            user: identity.user.clone(),
            user_name: identity.user_name.clone(),
            connection: format!("{:032x}", rand::random::<u128>()).into(),
            gateway: gateway.id.clone(),
        };
        gateway.connections.add(&owner.connection, &outbox);
        if gateway.draining.is_cancelled() {
            // All sockets were told before this one was known.
            outbox.close(Close::Drain);
        }
        let messages =
            governor::RateLimiter::direct(per_second(gateway.config.message_rate, gateway.config.message_burst));
        Self {
            gateway,
            identity,
            owner,
            outbox,
            joined: HashMap::new(),
            in_doubt: HashMap::new(),
            node: None,
            transports: Transports::default(),
            late_entries: LateEntries::default(),
            messages,
            expiry: Expiry::new(),
            next_ticket: None,
            forgotten: false,
            room: Some(room),
        }
    }

    pub(crate) fn gateway(&self) -> &Arc<Shared> {
        &self.gateway
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The connection as the state knows it.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(crate) fn connection(&self) -> &ConnectionId {
        &self.owner.connection
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// May one more message be handled now?
    pub(crate) fn allows_message(&self) -> bool {
        self.messages.check().is_ok()
    }

    pub(crate) fn has_joined(&self, channel: &ChannelId) -> bool {
        self.joined.contains_key(channel)
    }

    pub(crate) fn joined_count(&self) -> usize {
        self.joined.len()
    }

    /// The channel, if this connection is on it: what every request but a join begins with.
    pub(crate) fn member_of(&self, channel: &str) -> Result<ChannelId, Refusal> {
        let channel = ChannelId::from(channel);
        if self.has_joined(&channel) { Ok(channel) } else { Err(Refusal::NotAMember(channel)) }
    }

    /// The connection is a member from now on.
    pub(crate) fn join(&mut self, channel: ChannelId, interest: Interest) {
        self.in_doubt.remove(&channel);
        self.joined.insert(channel, interest);
    }

    /// The connection may be a member, but nobody can say.
    pub(crate) fn join_in_doubt(&mut self, channel: ChannelId, interest: Interest) {
        self.in_doubt.insert(channel, interest);
    }

    /// It is none any more. Its transports stay.
    pub(crate) fn leave(&mut self, channel: &ChannelId) {
        self.gateway.hub.exit(channel, &self.owner.connection);
        self.joined.remove(channel);
        self.late_entries.stop(channel);
        self.transports.forget_channel(channel);
    }

    /// The node for the connection's media: chosen when it is first needed, and again when that one is lost or, for a
    /// client that can move, about to end.
    pub(crate) fn place(&mut self, channel: &ChannelId) -> Result<Arc<NodeHandle>, Refusal> {
        let current = self.node.take_if(|node| !node.is_lost());
        if let Some(node) = &current
            && !(node.is_draining() && self.is_resumable())
        {
            self.node = current.clone();
            return current.ok_or(Refusal::NoMediaNode);
        }
        // Better a node that ends soon than none.
        let node = self.gateway.nodes.place(channel).or(current);
        self.set_node(node.clone());
        node.ok_or_else(|| {
            tracing::warn!(%channel, "no media node is ready and has room");
            Refusal::NoMediaNode
        })
    }

    /// Does the connection have a node, on which it can stay?
    pub(crate) fn stays(&self) -> bool {
        self.node().is_some_and(|node| !node.is_draining() || !self.is_resumable())
    }

    fn set_node(&mut self, node: Option<Arc<NodeHandle>>) {
        self.gateway.connections.set_node(&self.owner.connection, node.as_ref());
        self.node = node;
        // A ticket names the node.
        if self.is_resumable() {
            self.send_ticket();
        }
    }

    /// The connection's node, if it has one that is there.
    pub(crate) fn node(&self) -> Option<&Arc<NodeHandle>> {
        self.node.as_ref().filter(|node| !node.is_lost())
    }

    /// Asks the nodes on which the connection has something, until one knows what is meant.
    pub(crate) async fn ask_media_nodes<T, F>(&mut self, rpc: impl Fn(MediaClient) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut answer = Err(Status::not_found("the connection has no media"));
        for node in self.transports().nodes() {
            answer = node.call(&rpc).await;
            if !answer.as_ref().is_err_and(|status| status.code() == Code::NotFound) {
                break;
            }
        }
        answer
    }

    /// All nodes on which the connection has or had something.
    pub(crate) fn media_nodes(&self) -> Vec<Arc<NodeHandle>> {
        distinct(self.node.iter().cloned().chain(self.transports.nodes()))
    }

    /// The connection's transports, less those that were closed or lost meanwhile.
    pub(crate) fn transports(&mut self) -> &mut Transports {
        for closed in self.gateway.connections.take_closed_transports(&self.owner.connection) {
            self.transports.remove(&closed);
        }
        self.transports.remove_lost();
        &mut self.transports
    }

    pub(crate) fn late_entries(&self) -> &LateEntries {
        &self.late_entries
    }

    /// Tells a client that has opened a receiving transport who speaks, and reminds it until it consumes: existing
    /// clients begin to listen only when they are told (PROTOCOL section 6, rule 3).
    pub(crate) fn begin_late_entry(&mut self, channel: &ChannelId, direction: Direction) {
        if direction == Direction::Recv {
            self.late_entries.start(channel, Instant::now());
            self.send_late_entry(channel);
        }
    }

    /// The client consumes; it needs no reminders.
    pub(crate) fn end_late_entry(&mut self, channel: &ChannelId) {
        self.late_entries.stop(channel);
    }

    /// Sends the reminders that are due.
    pub(crate) fn send_late_entries(&mut self) {
        for channel in self.late_entries.take_due(Instant::now()) {
            self.send_late_entry(&channel);
        }
    }

    fn send_late_entry(&mut self, channel: &ChannelId) {
        self.gateway.hub.catch_up(channel, &self.outbox);
        let floor = self.gateway.hub.known(channel).map(|known| known.floor);
        let missed = floor.filter(|floor| {
            floor.holder.as_ref().is_some_and(|holder| holder.owner.connection != self.owner.connection)
        });
        match missed {
            Some(floor) => self.outbox.send(view::speaker_changed(channel, &floor, None)),
            // Nobody speaks: who begins now is announced as always.
            None => self.late_entries.stop(channel),
        }
    }

    /// Its socket has ended.
    pub(crate) fn end(mut self, why: Close) {
        if !self.is_resumable() || !why.is_resumable() {
            return;
        }
        if why == Close::Drain || self.gateway.draining.is_cancelled() {
            self.forget();
        } else {
            // The socket's place is free for another.
            self.room = None;
            let gateway = Arc::clone(&self.gateway);
            let grace = gateway.config.resume_grace;
            gateway.connections.park(self, grace);
        }
    }

    /// Lets the connection go without cleaning up: it goes on at another gateway, or its leases end by themselves.
    pub(crate) fn forget(mut self) {
        self.forgotten = true;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gateway.connections.remove(&self.owner.connection);
        let mut joined = std::mem::take(&mut self.in_doubt);
        joined.extend(self.joined.drain());
        if self.forgotten {
            self.gateway.floors.forget(&self.owner.connection);
            for channel in joined.keys() {
                self.gateway.hub.exit(channel, &self.owner.connection);
            }
            return;
        }
        let (gateway, owner, nodes) = (Arc::clone(&self.gateway), self.owner.clone(), self.media_nodes());
        self.gateway.tasks.spawn(cleanup::clean_up(gateway, owner, joined, nodes));
    }
}
