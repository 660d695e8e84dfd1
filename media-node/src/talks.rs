//! Talks that have begun and not been heard yet: how long it takes from the gate to the first packet, and whose press it was.
//!
//! The service notes a gate before it asks the workers for it; the worker that sent the first packet of a talk says so after
//! its turn. The span is made from that by a task, so that a worker never has one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use voiceping_engine::id::ChannelId;
use voiceping_signals::{KeyValue, trace};

use crate::metrics;

/// Talks that may wait to be heard. Beyond that, some are not accounted for.
const ROOM: usize = 16_384;

/// First packets whose spans are not made yet.
const QUEUE: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Talks {
    begun: Mutex<HashMap<ChannelId, Begun>>,
    heard: OnceLock<mpsc::Sender<Heard>>,
}

#[derive(Debug)]
struct Begun {
    epoch: u64,
    at: Instant,
    wall: SystemTime,
    trace: Option<String>,
}

/// The first packet of a talk is out.
#[derive(Debug)]
struct Heard {
    channel: ChannelId,
    begun: Begun,
    at: SystemTime,
}

impl Talks {
    /// A gate is about to be opened, in the trace that is under way here. One that is extended has begun before.
    pub(crate) fn begins(&self, channel: &ChannelId, epoch: u64) {
        let mut begun = self.begun();
        let is_known = begun.get(channel).is_some_and(|known| known.epoch >= epoch);
        if !is_known && begun.len() < ROOM {
            let (at, wall) = (Instant::now(), SystemTime::now());
            begun.insert(channel.clone(), Begun { epoch, at, wall, trace: trace::parent() });
        }
    }

    /// The trace of a talk that has not been heard yet.
    pub(crate) fn trace(&self, channel: &ChannelId, epoch: u64) -> Option<String> {
        let begun = self.begun();
        begun.get(channel).filter(|known| known.epoch == epoch)?.trace.clone()
    }

    /// Called by a worker, after its turn: the first packet of a talk is out.
    pub(crate) fn heard(&self, channel: &ChannelId, epoch: u64) {
        let mut talks = self.begun();
        if talks.get(channel).is_some_and(|known| known.epoch == epoch)
            && let Some(begun) = talks.remove(channel)
        {
            drop(talks);
            metrics::talk_started(begun.at.elapsed());
            if begun.trace.is_some()
                && let Some(heard) = self.heard.get()
            {
                // If nobody keeps up, the span is lost and nobody waits.
                let _ = heard.try_send(Heard { channel: channel.clone(), begun, at: SystemTime::now() });
            }
        }
    }

    /// A gate has closed: if nothing was heard, nothing will be.
    pub(crate) fn closed(&self, channel: &ChannelId, epoch: u64) {
        let mut begun = self.begun();
        if begun.get(channel).is_some_and(|known| known.epoch <= epoch) {
            begun.remove(channel);
        }
    }

    /// Makes the spans, from now on.
    pub(crate) fn report(&self) -> impl Future<Output = ()> + Send + 'static {
        let (sender, mut heard) = mpsc::channel(QUEUE);
        // Whoever came first reports.
        let is_first = self.heard.set(sender).is_ok();
        async move {
            while is_first && let Some(Heard { channel, begun, at }) = heard.recv().await {
                if let Some(parent) = &begun.trace {
                    let channel = KeyValue::new("voiceping.channel", channel.to_string());
                    trace::passed(parent, "first packet", (begun.wall, at), [channel]);
                }
            }
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<ChannelId, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talk_is_waited_for_from_its_gate_to_its_first_packet_or_its_end() {
        let (talks, lobby) = (Talks::default(), ChannelId::from("lobby"));
        let waits = || talks.begun().len();
        talks.begins(&lobby, 7);
        talks.begins(&lobby, 7);
        talks.begins(&lobby, 6);
        talks.heard(&lobby, 6);
        assert_eq!(waits(), 1, "another talk's packet is not this one's");
        talks.heard(&lobby, 7);
        assert_eq!(waits(), 0);
        talks.begins(&lobby, 8);
        talks.closed(&lobby, 7);
        assert_eq!(waits(), 1, "an older gate");
        talks.closed(&lobby, 8);
        assert_eq!(waits(), 0);
        for number in 0..ROOM + 1 {
            talks.begins(&number.to_string().into(), 1);
        }
        assert_eq!(waits(), ROOM);
    }
}
