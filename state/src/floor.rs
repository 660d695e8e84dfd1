//! The floor: who may speak on a channel, until when, and the pure rules by which that changes.
//!
//! Backends call [`transition`] and store what it answers; nothing else decides about a floor. Nothing here reads a clock
//! or remembers anything.

mod rules;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::id::{ConnectionId, NodeId, UserId};

pub use rules::{Announcement, Answer, Outcome, Request, transition};

/// Settings of the floor, the same for every channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloorRules {
    /// How long a floor outlives the last sign of its holder's gateway.
    pub lease: Duration,
    /// The longest talk; `None`: no limit.
    pub talk_limit: Option<Duration>,
}

/// Who holds or asks for a floor, or is a member: one connection of one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// The name shown to others.
    pub user_name: String,
    /// The connection that speaks.
    pub connection: ConnectionId,
    /// The gateway that serves the connection, and renews its lease.
    pub gateway: String,
}

/// A channel's floor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Floor {
    /// The fencing token: grows with every change, `max(last + 1, now_ms)`. 0: not taken yet. A channel that nobody uses
    /// is forgotten, and may come back with a higher one.
    pub epoch: u64,
    /// Who speaks; `None`: free.
    pub holder: Option<Holder>,
}

/// The holder of a floor. Both times move back with a clock that is set back; nothing else lowers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub owner: Owner,
    /// The media node that has the gate of the talk, as the holder's gateway said last; empty: unknown.
    pub node: NodeId,
    /// Since when.
    pub taken_at_ms: u64,
    /// Until when, unless renewed before. From then on the floor is anybody's, and its holder is named until somebody asks.
    pub lease_until_ms: u64,
}
