//! Talks whose gates are open: how long it takes from the gate to the first packet, and whose press it was.
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

/// Talks that are followed. Beyond that, some are not accounted for.
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
    /// Its first packet is out.
    heard: bool,
}

/// The first packet of a talk is out.
#[derive(Debug)]
struct Heard {
    channel: ChannelId,
    parent: String,
    from: SystemTime,
    to: SystemTime,
}

impl Talks {
    /// A gate is about to be opened, in the trace that is under way here. One that is extended has begun before.
    pub(crate) fn begins(&self, channel: &ChannelId, epoch: u64) {
        let mut begun = self.begun();
        let is_known = begun.get(channel).is_some_and(|known| known.epoch >= epoch);
        if !is_known && begun.len() < ROOM {
            let (at, wall) = (Instant::now(), SystemTime::now());
            begun.insert(channel.clone(), Begun { epoch, at, wall, trace: trace::parent(), heard: false });
        }
    }

    /// The trace of a talk.
    pub(crate) fn trace(&self, channel: &ChannelId, epoch: u64) -> Option<String> {
        let begun = self.begun();
        begun.get(channel).filter(|known| known.epoch == epoch)?.trace.clone()
    }

    /// Called by a worker, after its turn: the first packet of a talk is out.
    pub(crate) fn heard(&self, channel: &ChannelId, epoch: u64) {
        let mut begun = self.begun();
        let Some(talk) = begun.get_mut(channel).filter(|known| known.epoch == epoch && !known.heard) else { return };
        talk.heard = true;
        let (at, from, parent) = (talk.at, talk.wall, talk.trace.clone());
        drop(begun);
        metrics::talk_started(at.elapsed());
        if let (Some(parent), Some(heard)) = (parent, self.heard.get()) {
            // If nobody keeps up, the span is lost and nobody waits.
            let _ = heard.try_send(Heard { channel: channel.clone(), parent, from, to: SystemTime::now() });
        }
    }

    /// A gate has closed, or was not opened.
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
            while is_first && let Some(Heard { channel, parent, from, to }) = heard.recv().await {
                let channel = KeyValue::new("voiceping.channel", channel.to_string());
                trace::passed(&parent, "first packet", (from, to), [channel]);
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
    fn a_talk_is_followed_from_its_gate_to_its_end_and_heard_once() {
        let (talks, lobby) = (Talks::default(), ChannelId::from("lobby"));
        let heard = || talks.begun().get(&lobby).map(|talk| (talk.epoch, talk.heard));
        talks.begins(&lobby, 7);
        talks.begins(&lobby, 6);
        talks.heard(&lobby, 6);
        assert_eq!(heard(), Some((7, false)), "another talk's packet is not this one's");
        talks.heard(&lobby, 7);
        talks.begins(&lobby, 7);
        assert_eq!(heard(), Some((7, true)), "its gate was kept open: it has not begun again");
        talks.begins(&lobby, 8);
        talks.closed(&lobby, 7);
        assert_eq!(heard(), Some((8, false)), "an older gate");
        talks.closed(&lobby, 8);
        assert_eq!(heard(), None);
        for number in 0..ROOM + 1 {
            talks.begins(&number.to_string().into(), 1);
        }
        assert_eq!(talks.begun().len(), ROOM);
    }
}
