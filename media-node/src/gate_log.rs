//! The record of every gate of this node: opened, extended, closed, with the wall clock's time in microseconds.
//!
//! An account of who could speak when, from the place that decides it. Under its own target, `voiceping::gate`, so that it
//! can be kept or left out by itself; two gates of one channel that overlap, on whatever nodes, would be a bug.

use std::time::Instant;

use voiceping_engine::{GateChange, GateClosed, GateEvent};

use crate::clock::Clock;

const TARGET: &str = "voiceping::gate";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct GateLog {
    node: String,
    clock: Clock,
}

impl GateLog {
    /// For this node.
    pub(crate) fn new(node: String, clock: Clock) -> Self {
        Self { node, clock }
    }

    /// Writes down what happened at `now`.
    pub(crate) fn record(&self, now: Instant, event: &GateEvent) {
        let us = |at: Instant| u64::try_from(self.clock.reading(at).as_micros()).unwrap_or(u64::MAX);
        let GateEvent { channel, epoch, connection, change } = event;
        let (node, at_us) = (&self.node, us(now));
        match change {
            GateChange::Opened { valid_until } => {
                let until_us = us(*valid_until);
                tracing::info!(target: TARGET, node, %channel, epoch, %connection, at_us, until_us, kind = "opened", "gate");
            }
            GateChange::Extended { valid_until } => {
                let until_us = us(*valid_until);
                tracing::debug!(target: TARGET, node, %channel, epoch, %connection, at_us, until_us, kind = "extended", "gate");
            }
            GateChange::Closed { at, why } => {
                let at_us = us(*at);
                let why = match why {
                    GateClosed::Closed => "closed",
                    GateClosed::Expired => "expired",
                    GateClosed::Superseded => "superseded",
                };
                tracing::info!(target: TARGET, node, %channel, epoch, %connection, at_us, why, kind = "closed", "gate");
            }
        }
    }
}
