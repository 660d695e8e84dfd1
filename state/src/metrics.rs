//! What is counted of the shared state. One static for each metric; docs/metrics.md has the list.

use std::time::Duration;

use voiceping_signals::metric::BOUNDS;
use voiceping_signals::{Counter, Gauge, Histogram, Tally, label};

use crate::event::{Event, FloorCause};

pub(crate) static UP: Gauge = Gauge::new("voiceping.state.up", "", &[], "1: the last command was answered");
pub(crate) static CONNECTIONS: Tally =
    Tally::new("voiceping.state.connections", "{connection}", &[], "Connections made for commands");
pub(crate) static CHANNELS: Gauge =
    Gauge::new("voiceping.state.channels", "{channel}", &[], "Channels whose news this process has asked for");
pub(crate) static RECOVERIES: Counter = Counter::new(
    "voiceping.state.recoveries",
    "{floor}",
    &[],
    "Floors that the state had forgotten and was told again",
);

static OPERATIONS: Histogram = Histogram::new(
    "db.client.operation.duration",
    "s",
    &["db.system.name", "db.operation.name", "error.type"],
    BOUNDS,
    "Commands of Redis",
);
static ANNOUNCEMENTS: Histogram = Histogram::new(
    "voiceping.state.announcement.delay",
    "s",
    &[],
    BOUNDS,
    "From asking for a change of a floor to hearing of it on the bus",
);
static EVENTS: Counter =
    Counter::new("voiceping.state.events", "{event}", &["type"], "News of channels that came over the bus");
static FREED: Counter =
    Counter::new("voiceping.floor.freed", "{floor}", &["cause"], "Talks that ended, by who had it decided");

voiceping_signals::declared!(UP, CONNECTIONS, CHANNELS, RECOVERIES, OPERATIONS, ANNOUNCEMENTS, EVENTS, FREED);

/// A command of Redis is done, or has failed with this.
pub(crate) fn operation(name: &'static str, took: Duration, error: Option<&'static str>) {
    let known = [label("db.system.name", "redis"), label("db.operation.name", name)];
    match error {
        None => OPERATIONS.record(took.as_secs_f64(), &known),
        Some(error) => {
            let [system, name] = known;
            OPERATIONS.record(took.as_secs_f64(), &[system, name, label("error.type", error)]);
        }
    }
}

/// The bus has brought what was asked for so long ago.
pub(crate) fn announced(after: Duration) {
    ANNOUNCEMENTS.record(after.as_secs_f64(), &[]);
}

/// The bus has brought this.
pub(crate) fn event(event: &Event) {
    let kind = match event {
        Event::Floor(_) => "floor",
        Event::Member(_) => "member",
        Event::Resync => "resync",
    };
    EVENTS.add(1, &[label("type", kind)]);
}

/// A talk has ended, or was taken over.
pub(crate) fn freed(cause: FloorCause) {
    FREED.add(1, &[label("cause", cause.as_str())]);
}
