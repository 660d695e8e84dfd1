//! What a media node counts. One static for each metric; docs/metrics.md has the list.
//!
//! The workers count in plain numbers, which are read from [`Vitals`] when somebody asks; only what is rare, or has to be
//! a distribution, is told from here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use voiceping_engine::{Counters, GateClosed};
use voiceping_signals::metric::BOUNDS;
use voiceping_signals::{Counter, Gauge, Histogram, Tally, label};

use crate::vitals::{Turns, Vitals};

static CONNECTIONS: Gauge =
    Gauge::new("voiceping.media.connections", "{connection}", &[], "Clients with transports here");
static CAPACITY: Gauge = Gauge::new("voiceping.media.capacity", "{connection}", &[], "Clients that it may have");
static TRANSPORTS: Gauge = Gauge::new("voiceping.media.transports", "{transport}", &["state"], "Transports");
static PRODUCERS: Gauge = Gauge::new("voiceping.media.producers", "{producer}", &[], "Clients' streams in");
static CONSUMERS: Gauge = Gauge::new("voiceping.media.consumers", "{consumer}", &[], "Listeners' streams out");
static CONNECTED: Tally =
    Tally::new("voiceping.media.transports.connected", "{transport}", &[], "Handshakes that succeeded");
static CLOSED: Tally = Tally::new("voiceping.media.transports.closed", "{transport}", &["reason"], "Transports closed");
static RECEIVED: Tally = Tally::new("voiceping.media.packets.received", "{packet}", &["kind"], "Datagrams in");
static SENT: Tally = Tally::new("voiceping.media.packets.sent", "{packet}", &[], "Datagrams that the kernel took");
static IO: Tally = Tally::new("voiceping.media.io", "By", &["network.io.direction"], "Payload of datagrams");
static ADMITTED: Tally =
    Tally::new("voiceping.media.packets.admitted", "{packet}", &[], "Speakers' packets that passed an open gate");
static FORWARDED: Tally =
    Tally::new("voiceping.media.packets.forwarded", "{packet}", &[], "Packets of talks sealed for a listener");
static DROPPED: Tally = Tally::new("voiceping.media.packets.dropped", "{packet}", &["reason"], "Packets dropped");
static RETRANSMITTED: Tally =
    Tally::new("voiceping.media.retransmissions", "{packet}", &[], "Packets sent again because a listener missed them");
static NACKS: Tally =
    Tally::new("voiceping.media.nacks", "{packet}", &["network.io.direction"], "Packets that were asked for again");
static RELAYED: Tally = Tally::new(
    "voiceping.media.relay.packets",
    "{packet}",
    &["network.io.direction"],
    "Packets of talks from and to other nodes",
);
static RELAYS: Gauge =
    Gauge::new("voiceping.media.relay.nodes", "{node}", &[], "Nodes that have asked this one for talks");
static GATES: Gauge = Gauge::new("voiceping.media.gates.open", "{gate}", &[], "Connections here that may speak now");
static WORKER_TIME: Tally =
    Tally::new("voiceping.media.worker.time", "s", &["worker", "state"], "Time of the worker threads");
static SEND_CALLS: Tally = Tally::new("voiceping.media.send.calls", "{call}", &[], "System calls for sending");

static PACKET_DELAY: Histogram = Histogram::new(
    "voiceping.media.packet.delay",
    "s",
    &[],
    &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0],
    "From the kernel's receiving a packet to all that it caused being handed to the kernel",
);
static GATES_OPENED: Counter = Counter::new("voiceping.media.gates.opened", "{gate}", &[], "Gates opened");
static GATES_CLOSED: Counter = Counter::new("voiceping.media.gates.closed", "{gate}", &["reason"], "Gates closed");
static REFUSED: Counter =
    Counter::new("voiceping.media.floor.refused", "{request}", &["reason"], "Gates that gateways did not get");
static TALK_START: Histogram = Histogram::new(
    "voiceping.media.talk.start.duration",
    "s",
    &[],
    BOUNDS,
    "From a gate's opening to the first packet of its talk being out",
);

voiceping_signals::declared!(
    CONNECTIONS,
    CAPACITY,
    TRANSPORTS,
    PRODUCERS,
    CONSUMERS,
    CONNECTED,
    CLOSED,
    RECEIVED,
    SENT,
    IO,
    ADMITTED,
    FORWARDED,
    DROPPED,
    RETRANSMITTED,
    NACKS,
    RELAYED,
    RELAYS,
    GATES,
    WORKER_TIME,
    SEND_CALLS,
    PACKET_DELAY,
    GATES_OPENED,
    GATES_CLOSED,
    REFUSED,
    TALK_START,
);

/// Says from now on how this node is, for as long as it is there.
pub(crate) fn observe(vitals: &Arc<Vitals>) {
    gauge(&CONNECTIONS, vitals, |vitals| vitals.total().usage.connections as f64);
    gauge(&CAPACITY, vitals, |vitals| vitals.capacity() as f64);
    gauge(&PRODUCERS, vitals, |vitals| vitals.total().usage.producers as f64);
    gauge(&CONSUMERS, vitals, |vitals| vitals.total().usage.consumers as f64);
    gauge(&RELAYS, vitals, |vitals| vitals.relays() as f64);
    gauge(&GATES, vitals, |vitals| vitals.gates_open() as f64);
    let known = Arc::downgrade(vitals);
    TRANSPORTS.observe(move |observe| {
        let Some(total) = total(&known) else { return };
        let connected = total.counters.connected_now;
        observe((total.usage.transports as u64).saturating_sub(connected) as f64, &[label("state", "connecting")]);
        observe(connected as f64, &[label("state", "connected")]);
    });
    tally(&CONNECTED, vitals, |total| total.counters.connected);
    tally(&SENT, vitals, |total| total.pushed.saturating_sub(total.send_queue));
    tally(&ADMITTED, vitals, |total| total.counters.admitted);
    tally(&FORWARDED, vitals, |total| total.counters.forwarded);
    tally(&RETRANSMITTED, vitals, |total| total.counters.retransmitted);
    tally(&SEND_CALLS, vitals, |total| total.send_calls);
    tallies(&CLOSED, vitals, "reason", |Turns { counters, .. }| {
        vec![
            ("requested", counters.closed_requested),
            ("close_notify", counters.closed_close_notify),
            ("ice_timeout", counters.closed_ice_timeout),
            ("dtls_failed", counters.closed_dtls_failed),
            ("fingerprint_mismatch", counters.closed_fingerprint),
        ]
    });
    tallies(&RECEIVED, vitals, "kind", |Turns { counters, .. }| {
        let Counters { rtp, rtcp, stun, dtls, relay, other, .. } = *counters;
        vec![("rtp", rtp), ("rtcp", rtcp), ("stun", stun), ("dtls", dtls), ("relay", relay), ("other", other)]
    });
    tallies(&DROPPED, vitals, "reason", |Turns { counters, ring_full, send_queue, .. }| {
        vec![
            ("gate_closed", counters.gate_closed),
            ("unknown_source", counters.unknown_source),
            ("unknown_stream", counters.unknown_stream),
            ("not_authentic", counters.not_authentic),
            ("over_budget", counters.over_budget),
            ("malformed", counters.malformed),
            ("late", counters.late),
            ("stale_epoch", counters.stale_epoch),
            ("ring_full", *ring_full),
            ("send_queue", *send_queue),
        ]
    });
    const DIRECTION: &str = "network.io.direction";
    tallies(&IO, vitals, DIRECTION, |total| {
        vec![("receive", total.counters.bytes_received), ("transmit", total.bytes_pushed)]
    });
    tallies(&NACKS, vitals, DIRECTION, |Turns { counters, .. }| {
        vec![("receive", counters.nacks_received), ("transmit", counters.nacks_sent)]
    });
    tallies(&RELAYED, vitals, DIRECTION, |Turns { counters, .. }| {
        vec![("receive", counters.relayed_in), ("transmit", counters.relayed_out)]
    });
    let known = Arc::downgrade(vitals);
    WORKER_TIME.observe(move |observe| {
        let workers = known.upgrade().map(|vitals| vitals.workers()).unwrap_or_default();
        for (index, Turns { busy, idle, .. }) in workers.iter().enumerate() {
            for (state, time) in [("busy", busy), ("idle", idle)] {
                let worker = voiceping_signals::KeyValue::new("worker", index as i64);
                observe(time.as_secs_f64(), &[worker, label("state", state)]);
            }
        }
    });
}

fn total(vitals: &Weak<Vitals>) -> Option<Turns> {
    vitals.upgrade().map(|vitals| vitals.total())
}

fn gauge(gauge: &Gauge, vitals: &Arc<Vitals>, value: fn(&Vitals) -> f64) {
    let known = Arc::downgrade(vitals);
    gauge.observe(move |observe| {
        if let Some(vitals) = known.upgrade() {
            observe(value(&vitals), &[]);
        }
    });
}

fn tally(tally: &Tally, vitals: &Arc<Vitals>, value: fn(&Turns) -> u64) {
    let known = Arc::downgrade(vitals);
    tally.observe(move |observe| {
        if let Some(total) = total(&known) {
            observe(value(&total) as f64, &[]);
        }
    });
}

fn tallies(tally: &Tally, vitals: &Arc<Vitals>, name: &'static str, values: fn(&Turns) -> Vec<(&'static str, u64)>) {
    let known = Arc::downgrade(vitals);
    tally.observe(move |observe| {
        for (word, value) in total(&known).iter().flat_map(values) {
            observe(value as f64, &[label(name, word)]);
        }
    });
}

/// A turn of a worker is over that took packets in; the first of them had come so long ago.
pub(crate) fn turn(delay: Duration) {
    PACKET_DELAY.record(delay.as_secs_f64(), &[]);
}

pub(crate) fn gate_opened() {
    GATES_OPENED.add(1, &[]);
}

pub(crate) fn gate_closed(why: GateClosed) {
    let reason = match why {
        GateClosed::Closed => "closed",
        GateClosed::Expired => "expired",
        GateClosed::Superseded => "superseded",
    };
    GATES_CLOSED.add(1, &[label("reason", reason)]);
}

/// A gateway did not get the gate that it asked for.
pub(crate) fn refused(error: &voiceping_engine::Error) {
    // The engine's words, which its tests know.
    let reason = match error {
        voiceping_engine::Error::Conflict("a newer epoch has been seen") => "older_epoch",
        voiceping_engine::Error::Conflict("the epoch has ended") => "ended",
        voiceping_engine::Error::Conflict("the epoch has another holder") => "other_holder",
        voiceping_engine::Error::Conflict("the end of the gate is past") => "past_end",
        _ => return,
    };
    REFUSED.add(1, &[label("reason", reason)]);
}

/// The first packet of a talk is out, so long after its gate was opened.
pub(crate) fn talk_started(after: Duration) {
    TALK_START.record(after.as_secs_f64(), &[]);
}
