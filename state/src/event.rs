//! What the bus carries.

use crate::floor::{Floor, Owner};
use crate::id::ChannelId;

/// Something that happened on a watched channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The floor changed hands.
    Floor(FloorChanged),
    /// A user came or went.
    Member(MemberChanged),
    /// Events were lost: read a snapshot of every watched channel.
    Resync,
}

/// A change of a channel's floor. A receiver drops one whose epoch is not newer than the last that it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorChanged {
    /// Where.
    pub channel: ChannelId,
    /// The floor from now on; its epoch orders the changes.
    pub floor: Floor,
    /// Why.
    pub cause: FloorCause,
    /// Who held it until now.
    pub previous: Option<Owner>,
    /// The trace of the press that changed it, to be continued (W3C `traceparent`); not a part of what happened.
    pub trace: Option<String>,
}

/// Why a floor changed hands; a label of metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloorCause {
    /// Somebody pressed.
    Taken,
    /// The holder released.
    Released,
    /// The holder left the channel or its connection ended.
    Left,
    /// The lease ran out: the holder's gateway is gone.
    Expired,
    /// The talk reached its limit.
    TalkLimit,
    /// The holder sent no media.
    Silent,
    /// The media node did not accept the grant.
    NodeFailed,
}

impl FloorCause {
    /// The cause as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Released => "released",
            Self::Left => "left",
            Self::Expired => "expired",
            Self::TalkLimit => "talk_limit",
            Self::Silent => "silent",
            Self::NodeFailed => "node_failed",
        }
    }
}

/// A user's first connection joined a channel, or its last one left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChanged {
    /// Where.
    pub channel: ChannelId,
    /// Who, and the connection that came or went.
    pub member: Owner,
    /// What happened.
    pub action: MemberAction,
    /// The users on the channel from now on.
    pub roster: Roster,
}

/// How many users a channel has, and which changes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roster {
    /// Each counted once, whatever the number of devices.
    pub users: usize,
    /// Grows with every change that is announced, as a floor's epoch does: a change with this version or a lower one is
    /// counted in `users` already. A join is answered beside the bus, and would otherwise be followed by older news.
    pub version: u64,
}

/// What a member did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberAction {
    /// Came.
    Joined,
    /// Left by its own wish.
    Left,
    /// Its connection ended.
    Disconnected,
}
