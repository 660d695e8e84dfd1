//! The record of every gate of this node: opened, extended, closed, with the wall clock's time in microseconds.
//!
//! An account of who could speak when, from the place that decides it. Under its own target, `voiceping::gate`, so that it
//! can be kept or left out by itself; two gates of one channel that overlap, on whatever nodes, would be a bug.

use std::time::Instant;

use voiceping_engine::{GateChange, GateClosed, GateEvent};

use voiceping_signals::trace;

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

    /// Writes down what happened at `now`, with the trace that it belongs to, if one does.
    pub(crate) fn record(&self, now: Instant, event: &GateEvent, trace: Option<&str>) {
        let us = |at: Instant| u64::try_from(self.clock.reading(at).as_micros()).unwrap_or(u64::MAX);
        let GateEvent { channel, epoch, connection, change } = event;
        let (node, at_us) = (&self.node, us(now));
        match change {
            GateChange::Opened { valid_until } => {
                let until_us = us(*valid_until);
                let trace_id = trace.and_then(trace::id);
                tracing::info!(
                    target: TARGET, node, %channel, epoch, %connection, at_us, until_us, trace_id, kind = "opened", "gate"
                );
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::Value;
    use voiceping_engine::id::{ChannelId, ConnectionId};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log is as JSON, as the roles write it.
    fn logged(write: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let to = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .json()
            .flatten_event(true)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(log, write);
        let bytes = lines.0.lock().expect("no writer panics").clone();
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    #[test]
    fn a_gates_life_can_be_read_back() {
        let clock = Clock::start();
        let log = GateLog::new("node".to_owned(), clock);
        let (start, _) = clock.origin();
        let us = |seconds| clock.reading(start + Duration::from_secs(seconds)).as_micros() as u64;
        let event = |change| GateEvent {
            channel: ChannelId::from("lobby"),
            epoch: 7,
            connection: ConnectionId::from("alice"),
            change,
        };
        let at = |seconds| start + Duration::from_secs(seconds);
        let lines = logged(|| {
            log.record(at(1), &event(GateChange::Opened { valid_until: at(11) }), None);
            log.record(at(3), &event(GateChange::Extended { valid_until: at(13) }), None);
            log.record(at(14), &event(GateChange::Closed { at: at(13), why: GateClosed::Expired }), None);
        });
        let expected = [("opened", us(1), Some(us(11))), ("extended", us(3), Some(us(13))), ("closed", us(13), None)];
        assert_eq!(lines.len(), expected.len());
        for (line, (kind, at_us, until_us)) in lines.iter().zip(expected) {
            assert_eq!(line["target"], "voiceping::gate");
            assert_eq!((&line["node"], &line["channel"]), (&"node".into(), &"lobby".into()));
            assert_eq!((&line["epoch"], &line["connection"]), (&7.into(), &"alice".into()));
            assert_eq!((&line["kind"], &line["at_us"]), (&kind.into(), &at_us.into()));
            assert_eq!(line.get("until_us").and_then(Value::as_u64), until_us);
        }
        assert_eq!(lines[2]["why"], "expired");
    }
}
