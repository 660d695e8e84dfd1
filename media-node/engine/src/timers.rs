//! The engine's timers: an enum and a table. Entries are not removed but found to be stale when they fire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::channel::{ChannelKey, TransportKey};

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A transport may have been without a check for too long.
    Ice(TransportKey),
    /// A handshake may have to repeat a flight.
    Dtls(TransportKey),
    /// A handshake has been over for so long that nobody repeats a part of it.
    Settled(TransportKey),
    /// A client that may have said goodbye may have made no check since.
    Farewell(TransportKey),
    /// The holder under this epoch may have been silent for too long.
    Silence(ChannelKey, u64),
    /// The gate under this epoch may have come to its end.
    Gate(ChannelKey, u64),
    /// An empty channel's epoch may be forgotten.
    Retire(ChannelKey),
    /// Late listeners of a channel may have something to hear.
    Replay(ChannelKey),
    /// Sender and receiver reports.
    Reports,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, Timer)>>);

impl Timers {
    /// Adds a timer.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}
