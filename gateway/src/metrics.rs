//! What a gateway counts. One static for each metric; docs/metrics.md has the list.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use voiceping_signals::metric::BOUNDS;
use voiceping_signals::{Counter, Gauge, Histogram, label};

use crate::shared::Shared;
use crate::socket::Close;

static SOCKETS: Gauge = Gauge::new("voiceping.gateway.sockets", "{socket}", &[], "Open WebSockets");
static PARKED: Gauge =
    Gauge::new("voiceping.gateway.sessions.parked", "{session}", &[], "Sessions whose client may come back");
static CHANNELS: Gauge = Gauge::new("voiceping.gateway.channels", "{channel}", &[], "Channels with members here");
static NODES: Gauge =
    Gauge::new("voiceping.gateway.nodes", "{node}", &["state"], "Media nodes as this gateway sees them");
static HANDSHAKES: Counter =
    Counter::new("voiceping.gateway.handshakes", "{handshake}", &["outcome"], "Requests for a WebSocket");
static CLOSED: Counter =
    Counter::new("voiceping.gateway.sockets.closed", "{socket}", &["reason"], "WebSockets that ended");
static MESSAGES: Counter =
    Counter::new("voiceping.gateway.messages", "{message}", &["type", "outcome"], "Requests of clients");
static MESSAGE_DURATION: Histogram = Histogram::new(
    "voiceping.gateway.message.duration",
    "s",
    &["type"],
    BOUNDS,
    "From a request's arrival to the end of its handling",
);
static PUSHES: Counter =
    Counter::new("voiceping.gateway.pushes", "{push}", &["type"], "Messages put into sockets' queues");
static PUSH_DURATION: Histogram = Histogram::new(
    "voiceping.gateway.push.duration",
    "s",
    &["type"],
    BOUNDS,
    "From news of a channel to their being in the queues of all its members here",
);
static REQUESTS: Counter = Counter::new("voiceping.floor.requests", "{request}", &["outcome"], "Presses");
static GRANT_DURATION: Histogram = Histogram::new(
    "voiceping.floor.grant.duration",
    "s",
    &[],
    &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0],
    "Server time of a press that was granted",
);
static HELD: Gauge = Gauge::new("voiceping.floor.held", "{floor}", &[], "Floors that connections here hold");
static WITHOUT_MEDIA: Gauge =
    Gauge::new("voiceping.floor.without_media", "{floor}", &[], "Floors held for over a second without a known packet");
static TALK_DURATION: Histogram = Histogram::new(
    "voiceping.floor.talk.duration",
    "s",
    &[],
    &[0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0, 300.0],
    "How long talks were",
);
static RENEWALS: Counter =
    Counter::new("voiceping.floor.renewals", "{renewal}", &["outcome"], "Renewals of floors' leases");

voiceping_signals::declared!(
    SOCKETS,
    PARKED,
    CHANNELS,
    NODES,
    HANDSHAKES,
    CLOSED,
    MESSAGES,
    MESSAGE_DURATION,
    PUSHES,
    PUSH_DURATION,
    REQUESTS,
    GRANT_DURATION,
    HELD,
    WITHOUT_MEDIA,
    TALK_DURATION,
    RENEWALS,
);

/// Says from now on how this gateway is, for as long as it is there.
pub(crate) fn observe(gateway: &Arc<Shared>) {
    let gauge = |gauge: &Gauge, value: fn(&Shared) -> usize| {
        let known = Arc::downgrade(gateway);
        gauge.observe(move |observe| {
            if let Some(gateway) = known.upgrade() {
                observe(value(&gateway) as f64, &[]);
            }
        });
    };
    gauge(&SOCKETS, |gateway| gateway.config.max_sockets.saturating_sub(gateway.room.available_permits()));
    gauge(&PARKED, |gateway| gateway.connections.parked());
    gauge(&CHANNELS, |gateway| gateway.hub.channels());
    gauge(&HELD, |gateway| gateway.floors.count());
    gauge(&WITHOUT_MEDIA, |gateway| gateway.floors.without_media(Instant::now()));
    let known = Arc::downgrade(gateway);
    NODES.observe(move |observe| {
        let nodes = known.upgrade().map(|gateway| gateway.nodes.all()).unwrap_or_default();
        for state in ["ready", "joining", "away", "draining"] {
            let count = nodes.iter().filter(|node| node.state() == Some(state)).count();
            observe(count as f64, &[label("state", state)]);
        }
    });
}

pub(crate) fn handshake(outcome: &'static str) {
    HANDSHAKES.add(1, &[label("outcome", outcome)]);
}

pub(crate) fn closed(why: Close) {
    CLOSED.add(1, &[label("reason", why.as_str())]);
}

/// A client's request was handled, or refused with this.
pub(crate) fn message(kind: &'static str, outcome: &'static str, took: Duration) {
    MESSAGES.add(1, &[label("type", kind), label("outcome", outcome)]);
    MESSAGE_DURATION.record(took.as_secs_f64(), &[label("type", kind)]);
}

/// News of a channel are in the queues of so many, or will be.
pub(crate) fn pushed(kind: &'static str, count: usize) {
    PUSHES.add(count as u64, &[label("type", kind)]);
}

/// They are in the queues of all.
pub(crate) fn pushed_to_all(kind: &'static str, took: Duration) {
    PUSH_DURATION.record(took.as_secs_f64(), &[label("type", kind)]);
}

/// A press was answered.
pub(crate) fn pressed(outcome: &'static str, took: Duration) {
    REQUESTS.add(1, &[label("outcome", outcome)]);
    if outcome == "granted" {
        GRANT_DURATION.record(took.as_secs_f64(), &[]);
    }
}

/// A talk has ended.
pub(crate) fn talked(time: Duration) {
    TALK_DURATION.record(time.as_secs_f64(), &[]);
}

pub(crate) fn renewed(outcome: &'static str) {
    RENEWALS.add(1, &[label("outcome", outcome)]);
}
