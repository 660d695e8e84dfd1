//! How the node is, for whoever asks: what its workers have done, its gates, its place in the cluster.
//!
//! Each worker writes what it has done down at the end of a turn, and never waits for that: if somebody reads just now, the
//! next turn does it. Cost model: a copy of some three hundred bytes for each turn, whatever the turn did.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use voiceping_engine::{Counters, GateChange, GateEvent, Usage};

use crate::metrics;
use crate::talks::Talks;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    workers: Mutex<Vec<Arc<Published>>>,
    gates_open: AtomicUsize,
    /// Nodes that have asked for talks.
    relays: AtomicUsize,
    capacity: AtomicU32,
    registered: AtomicBool,
    pub(crate) talks: Talks,
}

/// What one worker has done since it began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turns {
    pub(crate) counters: Counters,
    pub(crate) usage: Usage,
    /// Datagrams given to the kernel, and their bytes.
    pub(crate) pushed: u64,
    pub(crate) bytes_pushed: u64,
    /// Those that it did not take.
    pub(crate) send_queue: u64,
    pub(crate) send_calls: u64,
    /// Packets that found another worker's ring full.
    pub(crate) ring_full: u64,
    pub(crate) busy: Duration,
    pub(crate) idle: Duration,
}

/// Where one worker writes it down.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<Turns>);

impl Published {
    /// For the worker: takes this as the latest, unless somebody reads.
    pub(crate) fn publish(&self, turns: &Turns) {
        if let Ok(mut published) = self.0.try_lock() {
            *published = *turns;
        }
    }

    fn read(&self) -> Turns {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vitals {
    /// Another worker begins.
    pub(crate) fn add_worker(&self) -> Arc<Published> {
        let published = Arc::<Published>::default();
        self.published().push(Arc::clone(&published));
        published
    }

    /// Of each worker.
    pub(crate) fn workers(&self) -> Vec<Turns> {
        self.published().iter().map(|worker| worker.read()).collect()
    }

    /// Of all workers together.
    pub(crate) fn total(&self) -> Turns {
        self.workers().into_iter().fold(Turns::default(), |mut sum, one| {
            sum.add(&one);
            sum
        })
    }

    /// A gate on the worker of its connection has changed.
    pub(crate) fn gate(&self, event: &GateEvent) {
        match event.change {
            GateChange::Opened { .. } => {
                self.gates_open.fetch_add(1, Ordering::Relaxed);
                metrics::gate_opened();
            }
            GateChange::Extended { .. } => {}
            GateChange::Closed { why, .. } => {
                self.gates_open.fetch_sub(1, Ordering::Relaxed);
                self.talks.closed(&event.channel, event.epoch);
                metrics::gate_closed(why);
            }
        }
    }

    pub(crate) fn gates_open(&self) -> usize {
        self.gates_open.load(Ordering::Relaxed)
    }

    /// A node has asked for talks, or does not want them any more.
    pub(crate) fn relay(&self, added: bool) {
        if added {
            self.relays.fetch_add(1, Ordering::Relaxed);
        } else {
            self.relays.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn relays(&self) -> usize {
        self.relays.load(Ordering::Relaxed)
    }

    pub(crate) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Whether gateways can find this node, as far as it knows.
    pub(crate) fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Relaxed);
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    fn published(&self) -> MutexGuard<'_, Vec<Arc<Published>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn add(&mut self, other: &Self) {
        self.counters = self.counters + other.counters;
        self.usage.connections += other.usage.connections;
        self.usage.transports += other.usage.transports;
        self.usage.producers += other.usage.producers;
        self.usage.consumers += other.usage.consumers;
        self.pushed += other.pushed;
        self.bytes_pushed += other.bytes_pushed;
        self.send_queue += other.send_queue;
        self.send_calls += other.send_calls;
        self.ring_full += other.ring_full;
        self.busy += other.busy;
        self.idle += other.idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_never_waits_and_is_read_in_one_piece() {
        let vitals = Vitals::default();
        let (one, other) = (vitals.add_worker(), vitals.add_worker());
        one.publish(&Turns { pushed: 1, ..Turns::default() });
        other.publish(&Turns { pushed: 2, ..Turns::default() });
        assert_eq!(vitals.total().pushed, 3);
        let reading = one.0.lock().expect("nobody panicked");
        one.publish(&Turns { pushed: 100, ..Turns::default() });
        drop(reading);
        assert_eq!(vitals.total().pushed, 3, "it went on");
    }
}
