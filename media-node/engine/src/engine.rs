//! The engine itself: what it holds, and which part of it a datagram, a command or a timer goes to.

mod connection;
mod control;
mod floor;
mod forward;
mod ice;
mod relay;
mod replay;
mod report;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use slotmap::SlotMap;

pub use connection::Adopted;
pub use control::{
    ConsumerParameters, NewConsumer, NewProducer, NewTransport, ProducerParameters, TransportParameters,
};
pub use floor::{FloorActivity, GateChange, GateClosed, GateEvent, NewHolder};

use crate::channel::{Channel, ChannelKey, ConsumerKey, Producer, ProducerKey, RelaySlot, TransportKey};
use crate::counters::Counters;
use crate::dtls::Identity;
use crate::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId, RelayId, TransportId};
use crate::relay::{FIRST_BYTE, Incoming, Outgoing};
use crate::timers::{Timer, Timers};
use crate::transport::{Path, Transport};

/// Where the engine's datagrams go.
pub trait Outbound {
    /// Room for the next datagram: [`Self::MAX_DATAGRAM`] bytes at least.
    fn buffer(&mut self) -> &mut [u8];

    /// Sends the first `len` bytes of what [`Self::buffer`] gave.
    fn send(&mut self, len: usize, path: Path);

    /// Hands a packet of a talk, in normal form, to the engines whose bit is set in `peers`.
    fn relay(&mut self, peers: u64, channel: &ChannelId, epoch: u64, packet: &[u8]);

    /// The largest datagram that the engine sends or accepts: an Ethernet MTU.
    const MAX_DATAGRAM: usize = 1500;
}

/// Settings, the same for all engines of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's certificate.
    pub identity: Identity,
    /// A transport that has passed a check and then none for this long is closed (RFC 7675 section 5.1). One that has not been
    /// used yet lives as long as its connection: clients check when they first have something to send or to receive.
    pub ice_timeout: Duration,
    /// A holder that sends nothing for this long, after having sent something, is reported as silent.
    pub silence: Duration,
    /// How long the epoch of a channel that is otherwise empty is remembered: longer than a grant can be late.
    pub retire_after: Duration,
    /// Who begins to hear a talk within this time of its beginning hears it from there. Zero: from where it is. At most what
    /// a floor output keeps, 1.28 s.
    pub replay: Duration,
    /// Transports that one connection may have.
    pub transports_per_connection: usize,
    /// Transports in this engine.
    pub transports: usize,
    /// The wall-clock time of an instant, for sender reports.
    pub epoch: (Instant, SystemTime),
    /// Which of the node's engines this is: [`crate::stun::engine_of`] reads it from the username fragments that it gives.
    pub index: u8,
}

impl Config {
    /// The usual settings.
    pub fn new(identity: Identity, epoch: (Instant, SystemTime)) -> Self {
        Self {
            identity,
            ice_timeout: Duration::from_secs(30),
            silence: Duration::from_secs(4),
            retire_after: Duration::from_secs(60),
            replay: Duration::ZERO,
            transports_per_connection: 160,
            transports: 50_000,
            epoch,
            index: 0,
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What it names does not exist, or belongs to another connection.
    #[error("unknown {0}")]
    NotFound(&'static str),
    /// It does not fit the state of what it names.
    #[error("{0}")]
    Conflict(&'static str),
    /// It can never be right.
    #[error("{0}")]
    Invalid(&'static str),
    /// A limit is reached.
    #[error("too many {0}")]
    Exhausted(&'static str),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// For one gateway.
    Gateway(GatewayId, GatewayEvent),
    /// For the other engines of the node: whether this one has listeners on the channel.
    Listening(ChannelId, bool),
    /// For the other engines of the node: a talk from another node has this epoch, newer than what was known here. They
    /// are told with [`Engine::adopt_epoch`], so that a gate that one of them may have open is closed.
    NewerEpoch(ChannelId, u64),
    /// For the worker: nobody needs this TCP connection any more.
    StreamUnused(Path),
    /// For the log.
    Gate(GateEvent),
}

/// What a gateway is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayEvent {
    /// The handshake is done; audio can flow.
    TransportConnected(ConnectionId, TransportId),
    /// A transport is gone, not by the gateway's wish.
    TransportClosed(ConnectionId, TransportId, ClosedReason),
    /// The first packet of a talk has passed the gate.
    FloorMediaStarted(ChannelId, u64),
    /// The holder has stopped sending.
    FloorMediaStopped(ChannelId, u64),
}

/// Why a transport was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedReason {
    /// No check came for too long.
    IceTimeout,
    /// The handshake or the record layer failed.
    DtlsFailed,
    /// The certificate was not the announced one.
    FingerprintMismatch,
    /// The client said goodbye.
    CloseNotify,
}

/// What an engine holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that have transports.
    pub connections: usize,
    /// Transports.
    pub transports: usize,
    /// Producers.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
}

/// See the crate.
pub struct Engine {
    config: Config,
    rng: StdRng,
    transports: SlotMap<TransportKey, Transport>,
    producers: SlotMap<ProducerKey, Producer>,
    channels: SlotMap<ChannelKey, Channel>,
    transport_by_path: HashMap<Path, TransportKey>,
    transport_by_ufrag: HashMap<String, TransportKey>,
    transport_by_id: HashMap<TransportId, TransportKey>,
    producer_by_id: HashMap<ProducerId, ProducerKey>,
    /// Of several with the same SSRC, which is chance or malice, the newest.
    producer_by_ssrc: HashMap<u32, ProducerKey>,
    consumer_by_id: HashMap<ConsumerId, (ChannelKey, ConsumerKey)>,
    channel_by_id: HashMap<ChannelId, ChannelKey>,
    transports_by_connection: HashMap<ConnectionId, Vec<TransportKey>>,
    /// Nodes that have asked for talks from here.
    relays: SlotMap<RelaySlot, Outgoing>,
    relay_by_id: HashMap<RelayId, RelaySlot>,
    /// No relay that is added may count from below this: see [`Outgoing`].
    relay_counter: u64,
    /// Nodes whose talks this one has asked for.
    incoming_by_session: HashMap<u32, Incoming>,
    timers: Timers,
    events: VecDeque<Event>,
    counters: Counters,
    /// Channels with packets since the last reports, and producers likewise; empty when nobody talks.
    active_channels: Vec<ChannelKey>,
    active_producers: Vec<ProducerKey>,
    report_round: u32,
    reports_scheduled: bool,
    /// Scratch for the packet at hand, opened.
    opened: Vec<u8>,
    /// Scratch for its normal form.
    normal_form: Vec<u8>,
    /// Scratch for what was in the relayed datagram at hand.
    relayed: Vec<u8>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An empty engine. `seed` comes from the system's randomness: ICE passwords, ids and SSRCs are drawn from it.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: StdRng::from_seed(seed),
            transports: SlotMap::with_key(),
            producers: SlotMap::with_key(),
            channels: SlotMap::with_key(),
            transport_by_path: HashMap::new(),
            transport_by_ufrag: HashMap::new(),
            transport_by_id: HashMap::new(),
            producer_by_id: HashMap::new(),
            producer_by_ssrc: HashMap::new(),
            consumer_by_id: HashMap::new(),
            channel_by_id: HashMap::new(),
            transports_by_connection: HashMap::new(),
            relays: SlotMap::with_key(),
            relay_by_id: HashMap::new(),
            relay_counter: 0,
            incoming_by_session: HashMap::new(),
            timers: Timers::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            active_channels: Vec::new(),
            active_producers: Vec::new(),
            report_round: 0,
            reports_scheduled: false,
            opened: Vec::new(),
            normal_form: Vec::new(),
            relayed: Vec::new(),
        }
    }

    /// A datagram came. Demultiplexed by its first byte (RFC 7983 section 7, which leaves 192 to 255 free); what comes from a
    /// client and is not STUN must come from an address that has passed a check, what comes from a node must be sealed.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut impl Outbound) {
        let counters = &mut self.counters;
        counters.bytes_received += datagram.len() as u64;
        match datagram {
            [0..=3, ..] => {
                counters.stun += 1;
                self.handle_stun(now, path, datagram, out);
            }
            [20..=63, ..] => {
                counters.dtls += 1;
                self.handle_dtls(now, path, datagram, out);
            }
            // RFC 5761 section 4: payload types 64 to 95 with the marker bit are RTCP packet types
            [128..=191, 192..=223, ..] => {
                counters.rtcp += 1;
                self.handle_rtcp(now, path, datagram, out);
            }
            [128..=191, ..] => {
                counters.rtp += 1;
                self.handle_rtp(now, path, datagram, out);
            }
            [FIRST_BYTE, ..] => {
                counters.relay += 1;
                self.handle_relay_datagram(now, datagram, out);
            }
            _ => counters.other += 1,
        }
    }

    /// Time has passed: call at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Outbound) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Ice(key) => self.check_ice(now, key),
                Timer::Dtls(key) => self.dtls_timeout(now, key, out),
                Timer::Settled(key) => self.settle(now, key),
                Timer::Farewell(key) => self.check_farewell(now, key),
                Timer::Silence(key, epoch) => self.check_silence(now, key, epoch),
                Timer::Gate(key, epoch) => self.check_gate(now, key, epoch),
                Timer::Retire(key) => self.retire(now, key),
                Timer::Replay(key) => self.replay(now, key, out),
                Timer::Reports => self.send_reports(now, out),
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next event. Drain after every call that changes something.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the engine holds now.
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.transports_by_connection.len(),
            transports: self.transports.len(),
            producers: self.producers.len(),
            consumers: self.consumer_by_id.len(),
        }
    }

    /// What it has seen since it was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn emit(&mut self, gateway: &GatewayId, event: GatewayEvent) {
        self.events.push_back(Event::Gateway(gateway.clone(), event));
    }

    /// The channel with this id, made if there is none.
    fn channel(&mut self, id: &ChannelId) -> ChannelKey {
        if let Some(key) = self.channel_by_id.get(id) {
            return *key;
        }
        let key = self.channels.insert(Channel::new(id.clone(), self.rng.random()));
        self.channel_by_id.insert(id.clone(), key);
        key
    }

    /// Schedules the end of a channel that has become empty.
    fn retire_if_empty(&mut self, now: Instant, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(key).filter(|channel| channel.is_empty()) {
            let at = now + self.config.retire_after;
            channel.retire_at = Some(at);
            self.timers.set(at, Timer::Retire(key));
        }
    }

    fn retire(&mut self, now: Instant, key: ChannelKey) {
        // It may have been in use since the timer was set: then the one that was set afterwards counts.
        let due = |channel: &Channel| channel.is_empty() && channel.retire_at.is_some_and(|at| at <= now);
        if self.channels.get(key).is_some_and(due)
            && let Some(channel) = self.channels.remove(key)
        {
            self.channel_by_id.remove(&channel.id);
        }
    }

    /// 128 random bits in hex.
    fn random_id(&mut self) -> String {
        format!("{:032x}", self.rng.random::<u128>())
    }
}
