//! The nodes' own account of their gates, and the proof that two of one channel were never open at a time.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::client::PATIENCE;

/// A gate that was open.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) node: String,
    pub(crate) epoch: u64,
    pub(crate) connection: String,
    opened_us: u64,
    /// When it closed, or will at the latest.
    until_us: u64,
}

#[derive(Debug, Default)]
struct Record {
    gates_by_channel: HashMap<String, Vec<Gate>>,
}

static RECORD: OnceLock<Mutex<Record>> = OnceLock::new();

/// Begins to listen to the nodes of this process. Repeating it is fine.
pub(crate) fn watch() {
    RECORD.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Listener);
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        Mutex::default()
    });
}

/// The gates of a channel, in the order in which they opened.
pub(crate) fn of(channel: &str) -> Vec<Gate> {
    record().gates_by_channel.get(channel).cloned().unwrap_or_default()
}

/// The first gate of a channel. The account of it may come a little after the answer to the press.
pub(crate) async fn first(channel: &str) -> Gate {
    until_opened(channel, |_| true).await
}

/// Waits until so many gates of a channel were opened; all of them.
pub(crate) async fn until_count(channel: &str, count: usize) -> Vec<Gate> {
    until_opened(channel, |_| of(channel).len() >= count).await;
    of(channel)
}

/// Waits until a gate of a channel was opened that is this one.
pub(crate) async fn until_opened(channel: &str, is_it: impl Fn(&Gate) -> bool) -> Gate {
    let opened = async {
        loop {
            if let Some(gate) = of(channel).into_iter().find(&is_it) {
                return gate;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, opened).await.unwrap_or_else(|_| panic!("waited for a gate; there were {:?}", of(channel)))
}

/// A node's process ends, and its gates with it.
pub(crate) fn node_ended(node: &str) {
    let now_us = unix_us();
    for gate in record().gates_by_channel.values_mut().flatten().filter(|gate| gate.node == node) {
        gate.until_us = gate.until_us.min(now_us);
    }
}

#[track_caller]
pub(crate) fn assert_never_overlapped(channel: &str) {
    let gates = of(channel);
    for (index, gate) in gates.iter().enumerate() {
        for later in &gates[index + 1..] {
            assert!(
                later.opened_us >= gate.until_us || gate.opened_us >= later.until_us,
                "{gate:?} and {later:?} of {gates:?}"
            );
        }
    }
}

fn record() -> MutexGuard<'static, Record> {
    RECORD.get().expect("it is watched").lock().expect("not poisoned")
}

fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("a time")
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == "voiceping::gate" {
            let mut fields = Fields::default();
            event.record(&mut fields);
            fields.take_in();
        }
    }
}

#[derive(Default)]
struct Fields {
    texts: HashMap<&'static str, String>,
    numbers: HashMap<&'static str, u64>,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.insert(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.texts.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.texts.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Fields {
    fn take_in(mut self) {
        let mut text = |name| self.texts.remove(name).unwrap_or_default();
        let (node, channel, connection, kind) = (text("node"), text("channel"), text("connection"), text("kind"));
        let number = |name| self.numbers.get(name).copied().unwrap_or_default();
        let (epoch, at_us) = (number("epoch"), number("at_us"));
        let mut record = record();
        let gates = record.gates_by_channel.entry(channel).or_default();
        if kind == "opened" {
            return gates.push(Gate { node, epoch, connection, opened_us: at_us, until_us: number("until_us") });
        }
        let gate = gates.iter_mut().rev().find(|gate| (&gate.node, gate.epoch) == (&node, epoch));
        if let Some(gate) = gate {
            gate.until_us = if kind == "closed" { at_us.min(gate.until_us) } else { number("until_us") };
        }
    }
}
