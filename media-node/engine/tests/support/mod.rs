//! An engine and its clients in virtual time, over a wire that delays, loses, repeats and reorders as a test likes.
//!
//! Used by the tests and the benchmarks. A client here does what a browser does (checks, handshake, SRTP); its
//! cryptography is the libraries', so it is independent of the engine's own sealing.

#![allow(dead_code, unreachable_pub, unused_imports)] // each test uses its part

mod client;
pub mod nodes;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use voiceping_engine::dtls::{Association, Event as DtlsEvent};
use voiceping_engine::id::{ChannelId, ConnectionId, GatewayId, ProducerId};
use voiceping_engine::rtp::ExtensionIds;
use voiceping_engine::{
    Config, ConsumerParameters, Direction, Engine, Event, GateEvent, GatewayEvent, Identity, NewConsumer, NewHolder,
    NewProducer, NewTransport, Outbound, Path, Role, TransportParameters,
};

pub use client::{Client, Received, binding_request, is_dtls};

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a client to the engine.
    Up,
    /// From the engine to a client.
    Down,
}

/// What the wire does with a datagram: one entry a copy, with its delay. Empty: lost.
pub type Fate = Vec<Duration>;

type Wire = Box<dyn FnMut(Way, &[u8], &mut StdRng) -> Fate>;

/// When, in which order, for which client, upwards or not, what.
type InFlight = Reverse<(Instant, u64, usize, bool, Vec<u8>)>;

/// Collects what the engine sends.
#[derive(Debug, Default)]
pub struct Collected {
    buffer: Vec<u8>,
    pub sent: Vec<(Path, Vec<u8>)>,
    pub relayed: Vec<(u64, ChannelId, u64, Vec<u8>)>,
}

impl Outbound for Collected {
    fn buffer(&mut self) -> &mut [u8] {
        self.buffer.resize(Self::MAX_DATAGRAM, 0);
        &mut self.buffer
    }

    fn send(&mut self, len: usize, path: Path) {
        self.sent.push((path, self.buffer[..len].to_vec()));
    }

    fn relay(&mut self, peers: u64, channel: &ChannelId, epoch: u64, packet: &[u8]) {
        self.relayed.push((peers, channel.clone(), epoch, packet.to_vec()));
    }
}

/// See the module.
pub struct Sim {
    pub now: Instant,
    pub engine: Engine,
    pub out: Collected,
    pub clients: Vec<Client>,
    pub events: Vec<GatewayEvent>,
    /// Which gateway each of all events so far was for.
    pub told: Vec<GatewayId>,
    pub listening: Vec<(ChannelId, bool)>,
    pub gates: Vec<GateEvent>,
    pub newer_epochs: Vec<(ChannelId, u64)>,
    pub unused_streams: Vec<Path>,
    pub rng: StdRng,
    pub fate: Wire,
    /// What the engine sent to no client: to other nodes.
    pub to_nodes: Vec<(Instant, SocketAddr, Vec<u8>)>,
    pub node: Identity,
    wire: BinaryHeap<InFlight>,
    sequence: u64,
}

/// The end of a gate, if a test does not say otherwise.
pub const UNLIMITED: Duration = Duration::from_secs(86_400);

/// One way over the wire, if a test does not say otherwise.
pub const DELAY: Duration = Duration::from_millis(10);

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self::starting_at(Instant::now(), seed)
    }

    pub fn starting_at(now: Instant, seed: u64) -> Self {
        Self::replaying(now, seed, Duration::ZERO)
    }

    /// One whose engine replays this much of a talk.
    pub fn replaying(now: Instant, seed: u64, replay: Duration) -> Self {
        let node = Identity::generate().expect("randomness");
        let mut rng = StdRng::seed_from_u64(seed);
        let config = Config { replay, ..Config::new(node.clone(), (now, SystemTime::now())) };
        let engine = Engine::new(config, rng.random());
        Self {
            now,
            engine,
            out: Collected::default(),
            clients: Vec::new(),
            events: Vec::new(),
            told: Vec::new(),
            listening: Vec::new(),
            gates: Vec::new(),
            newer_epochs: Vec::new(),
            unused_streams: Vec::new(),
            rng,
            fate: Box::new(|_, _, _| vec![DELAY]),
            to_nodes: Vec::new(),
            node,
            wire: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// A number drawn from the test's seed.
    pub fn rng_range(&mut self, range: std::ops::Range<usize>) -> usize {
        self.rng.random_range(range)
    }

    /// Adds a client with an open transport that is told the client's fingerprint.
    pub fn client(&mut self, name: &str, role: Role) -> usize {
        let identity = Identity::generate().expect("randomness");
        let fingerprint = identity.fingerprint();
        let at = self.silent_client(name, role, identity);
        let (connection, transport) = (self.clients[at].connection.clone(), self.clients[at].transport.id.clone());
        self.engine
            .connect_transport(self.now, &connection, &transport, role, vec![fingerprint], &mut self.out)
            .expect("a fresh transport");
        at
    }

    /// Adds a client whose DTLS parameters have not been delivered yet.
    pub fn silent_client(&mut self, name: &str, role: Role, identity: Identity) -> usize {
        let connection = ConnectionId::from(name);
        let direction = Direction::Send;
        let new = NewTransport { gateway: "gateway".into(), connection: connection.clone(), direction };
        let transport = self.engine.create_transport(self.now, new).expect("room");
        let at = self.clients.len();
        self.clients.push(Client {
            connection,
            transport,
            socket: 0,
            address: SocketAddr::from(([127, 1, (at / 250) as u8, (at % 250 + 1) as u8], 5000)),
            identity,
            srtp: None,
            association: None,
            role,
            checked: false,
            next_check: Some(self.now),
            dtls_at: None,
            heard_goodbye: false,
            received: Vec::new(),
            rtcp: Vec::new(),
            ssrc: self.rng.random(),
            sequence_number: self.rng.random(),
            timestamp: self.rng.random(),
            sent_packets: 0,
        });
        at
    }

    pub fn produce(&mut self, client: usize, channel: &str) -> ProducerId {
        let client = &self.clients[client];
        let new = NewProducer {
            connection: client.connection.clone(),
            transport: client.transport.id.clone(),
            channel: channel.into(),
            mid: Some("0".into()),
            ssrc: Some(client.ssrc),
            extension_ids: ExtensionIds { mid: Some(4), audio_level: Some(1), abs_capture_time: None },
            parameters: Vec::new(),
            nack: true,
        };
        self.engine.produce(self.now, new).expect("a connected transport")
    }

    pub fn consume(&mut self, client: usize, channel: &str) -> ConsumerParameters {
        self.consume_member(client, channel, None)
    }

    pub fn consume_member(&mut self, client: usize, channel: &str, member: Option<&str>) -> ConsumerParameters {
        self.consume_as(client, channel, member, true)
    }

    /// As existing clients do, for the talk that they have been told of.
    pub fn consume_for_talk(&mut self, client: usize, channel: &str) -> ConsumerParameters {
        self.consume_as(client, channel, None, false)
    }

    fn consume_as(&mut self, client: usize, channel: &str, member: Option<&str>, kept: bool) -> ConsumerParameters {
        let client = &self.clients[client];
        let new = NewConsumer {
            connection: client.connection.clone(),
            transport: client.transport.id.clone(),
            channel: channel.into(),
            member: member.map(ConnectionId::from),
            payload_type: 111,
            kept,
        };
        let consumer = self.engine.consume(self.now, new).expect("a transport");
        self.drain();
        consumer
    }

    pub fn set_floor(
        &mut self,
        channel: &str,
        epoch: u64,
        holder: Option<&str>,
    ) -> Result<(), voiceping_engine::Error> {
        self.set_floor_until(channel, epoch, holder, self.now + UNLIMITED)
    }

    pub fn set_floor_until(
        &mut self,
        channel: &str,
        epoch: u64,
        holder: Option<&str>,
        valid_until: Instant,
    ) -> Result<(), voiceping_engine::Error> {
        let new = |holder| NewHolder { connection: ConnectionId::from(holder), gateway: "gateway".into(), valid_until };
        let holder = holder.map(new);
        let result = self.engine.set_floor(self.now, &channel.into(), epoch, holder);
        self.drain();
        result
    }

    /// Sends the client's next packet; its payload is its count, so that a listener can tell what it heard.
    pub fn speak(&mut self, client: usize) -> u64 {
        let (count, packet) = self.next_packet(client);
        self.send_up(client, packet);
        count
    }

    /// The client's next packet, sealed: 20 ms of Opus at about 56 kbit/s.
    pub fn next_packet(&mut self, client: usize) -> (u64, Vec<u8>) {
        let speaker = &mut self.clients[client];
        let count = speaker.sent_packets;
        speaker.sent_packets += 1;
        let mut packet = vec![0x90, 109, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x10, 0x85, 0, 0];
        packet[2..4].copy_from_slice(&speaker.sequence_number.to_be_bytes());
        packet[4..8].copy_from_slice(&speaker.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&speaker.ssrc.to_be_bytes());
        packet.extend_from_slice(speaker.connection.as_str().as_bytes());
        packet.push(b' ');
        packet.extend_from_slice(&count.to_be_bytes());
        packet.resize(20 + 140, 0x55);
        speaker.sequence_number = speaker.sequence_number.wrapping_add(1);
        speaker.timestamp = speaker.timestamp.wrapping_add(960);
        let index = u64::from(speaker.sequence_number.wrapping_sub(1)) | (self.rollovers(client) << 16);
        let speaker = &self.clients[client];
        let len = packet.len();
        packet.resize(len + 16, 0);
        let srtp = speaker.srtp.as_ref().expect("connected");
        let len = srtp.sealer().seal(&mut packet, 20, len, speaker.ssrc, index).expect("room");
        packet.truncate(len);
        (count, packet)
    }

    fn rollovers(&self, client: usize) -> u64 {
        let client = &self.clients[client];
        // The count of the first packet's sequence number is not kept: it is what is left over.
        let last = client.sequence_number.wrapping_sub(1);
        let first = u64::from(last.wrapping_sub((client.sent_packets - 1) as u16));
        (first + client.sent_packets - 1) >> 16
    }

    /// Sends an RTCP packet of the client.
    pub fn send_rtcp(&mut self, client: usize, packet: Box<dyn rtc_rtcp::packet::Packet>) {
        let plain = rtc_rtcp::packet::marshal(&[packet]).expect("encodes");
        let sealed = self.clients[client].srtp.as_mut().expect("connected").seal_rtcp(&plain).expect("sealed");
        self.send_up(client, sealed.to_vec());
    }

    /// Puts a client's datagram on the wire.
    pub fn send_up(&mut self, client: usize, datagram: Vec<u8>) {
        for delay in (self.fate)(Way::Up, &datagram, &mut self.rng) {
            self.sequence += 1;
            self.wire.push(Reverse((self.now + delay, self.sequence, client, true, datagram.clone())));
        }
    }

    /// Lets time pass until nothing is left to do before `until`.
    pub fn run_until(&mut self, until: Instant) {
        self.drain();
        loop {
            let wire = self.wire.peek().map(|Reverse(entry)| entry.0);
            let clients = self.clients.iter().flat_map(|client| [client.next_check, client.dtls_at]).flatten().min();
            let next = [wire, self.engine.poll_timeout(), clients].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if wire.is_some_and(|at| at <= self.now) {
                let Reverse((_, _, client, up, datagram)) = self.wire.pop().expect("peeked");
                self.deliver(client, up, datagram);
            } else if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
                self.engine.handle_timeout(self.now, &mut self.out);
            } else {
                self.client_timeouts();
            }
            self.drain();
        }
        self.now = until;
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until every client is connected; answers how long it took. Panics after a minute of virtual time.
    pub fn connect_all(&mut self) -> Duration {
        let start = self.now;
        while !self.clients.iter().all(|client| client.srtp.is_some()) || self.connected() < self.clients.len() {
            assert!(self.now < start + Duration::from_secs(60), "not connected after a minute: {:?}", self.events);
            self.run_for(Duration::from_millis(1));
        }
        self.now - start
    }

    fn connected(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, GatewayEvent::TransportConnected(..))).count()
    }

    /// Twenty milliseconds of a talk, `packets` times.
    pub fn talk(&mut self, speaker: usize, packets: usize) -> Vec<u64> {
        (0..packets)
            .map(|_| {
                let count = self.speak(speaker);
                self.run_for(Duration::from_millis(20));
                count
            })
            .collect()
    }

    fn deliver(&mut self, at: usize, up: bool, datagram: Vec<u8>) {
        if up {
            let path = self.clients[at].path();
            self.engine.handle_datagram(self.now, path, &datagram, &mut self.out);
            return;
        }
        let now = self.now;
        let client = &mut self.clients[at];
        match datagram.first() {
            Some(0..=3) => {
                client.checked = true;
                client.next_check = Some(now + Duration::from_millis(2500));
                if client.role == Role::Client && client.association.is_none() {
                    let mut association = Association::new(&client.identity, Role::Client, now);
                    association.expect_fingerprints(&[self.node.fingerprint()]);
                    client.association = Some(association);
                    client.dtls_at = Some(now);
                }
            }
            Some(20..=63) => {
                let node = self.node.fingerprint();
                let identity = &client.identity;
                let association = client.association.get_or_insert_with(|| {
                    let mut association = Association::new(identity, Role::Server, now);
                    association.expect_fingerprints(&[node]);
                    association
                });
                let mut sent = Vec::new();
                let event = association.handle_datagram(now, &datagram, &mut |bytes| sent.push(bytes.to_vec()));
                self.after_client_dtls(at, event, sent);
            }
            Some(128..=191) if (192..=223).contains(&datagram[1]) => {
                let Some(plain) = client.srtp.as_mut().and_then(|srtp| srtp.open_rtcp(&datagram)) else { return };
                client.rtcp.extend(rtc_rtcp::packet::unmarshal(&mut plain.freeze()).expect("valid RTCP"));
            }
            Some(128..=191) => {
                let header = voiceping_engine::rtp::Packet::parse(&datagram).expect("the engine sends valid RTP");
                let header_len = header.header_len();
                let plain = client.srtp.as_mut().and_then(|srtp| srtp.open(&datagram, header_len));
                let Some(plain) = plain else { return };
                let packet = voiceping_engine::rtp::Packet::parse(&plain).expect("valid");
                assert_eq!(packet.extension(10), Some(&[0x85][..]), "the audio level comes under our id");
                client.received.push(Received {
                    ssrc: packet.ssrc(),
                    sequence_number: packet.sequence_number(),
                    timestamp: packet.timestamp(),
                    marker: packet.marker(),
                    payload_type: packet.payload_type(),
                    payload: packet.payload().expect("valid").to_vec(),
                    at: now,
                });
            }
            _ => panic!("the engine sent something that is no protocol"),
        }
    }

    fn client_timeouts(&mut self) {
        let now = self.now;
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.next_check.is_some_and(|due| due <= now) {
                let wait = if client.checked { 2500 } else { 50 };
                client.next_check = Some(now + Duration::from_millis(wait));
                let check = binding_request(&format!("{}:client", client.transport.ufrag), &client.transport.password);
                self.send_up(at, check);
            }
            let client = &mut self.clients[at];
            if client.dtls_at.is_some_and(|due| due <= now)
                && let Some(association) = &mut client.association
            {
                let mut sent = Vec::new();
                let event = association.handle_timeout(now, &mut |bytes| sent.push(bytes.to_vec()));
                self.after_client_dtls(at, event, sent);
            }
        }
    }

    fn after_client_dtls(&mut self, at: usize, event: Option<DtlsEvent>, sent: Vec<Vec<u8>>) {
        let client = &mut self.clients[at];
        client.dtls_at = client.association.as_ref().and_then(Association::poll_timeout);
        match event {
            Some(DtlsEvent::Connected(srtp)) => client.srtp = Some(srtp),
            Some(DtlsEvent::CloseNotify) => client.heard_goodbye = true,
            _ => {}
        }
        for datagram in sent {
            self.send_up(at, datagram);
        }
    }

    /// Has the client say goodbye.
    pub fn close_notify(&mut self, at: usize) {
        let mut sent = Vec::new();
        let now = self.now;
        if let Some(association) = &mut self.clients[at].association {
            association.close(now, &mut |bytes| sent.push(bytes.to_vec()));
        }
        for datagram in sent {
            self.send_up(at, datagram);
        }
    }

    /// Stops a client's checks: it is gone.
    pub fn vanish(&mut self, at: usize) {
        self.clients[at].next_check = None;
        self.clients[at].dtls_at = None;
    }

    /// Makes a client check at once, from whatever address it has now.
    pub fn check_now(&mut self, at: usize) {
        self.clients[at].next_check = Some(self.now);
    }

    /// Puts what the engine sent on the wire and collects its events.
    pub fn drain(&mut self) {
        for (path, datagram) in std::mem::take(&mut self.out.sent) {
            let Some(client) = self.clients.iter().position(|client| client.address == path.remote) else {
                self.to_nodes.push((self.now, path.remote, datagram));
                continue;
            };
            for delay in (self.fate)(Way::Down, &datagram, &mut self.rng) {
                self.sequence += 1;
                self.wire.push(Reverse((self.now + delay, self.sequence, client, false, datagram.clone())));
            }
        }
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Gateway(gateway, event) => {
                    self.told.push(gateway);
                    self.events.push(event);
                }
                Event::Listening(channel, listening) => self.listening.push((channel, listening)),
                Event::Gate(event) => self.gates.push(event),
                Event::NewerEpoch(channel, epoch) => self.newer_epochs.push((channel, epoch)),
                Event::StreamUnused(path) => self.unused_streams.push(path),
            }
        }
    }
}
