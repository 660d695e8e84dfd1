//! A transport: one client's ICE-lite and DTLS association, and the keys that come of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::channel::{ChannelKey, ConsumerKey, ProducerKey};
use crate::dtls::{Association, Fingerprint, Role};
use crate::id::{ConnectionId, GatewayId, TransportId};
use crate::srtp::Srtp;

/// Addresses kept for one client: it may check several pairs before it nominates one.
const MAX_PATHS: usize = 8;

/// The two ends of a client's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Which of the worker's sockets; from [`Self::FIRST_STREAM`] on, which of its TCP connections.
    pub socket: u32,
    /// The client's address.
    pub remote: SocketAddr,
}

impl Path {
    /// Numbers from here on are TCP connections. None is used twice while somebody may remember it.
    pub const FIRST_STREAM: u32 = 1 << 8;

    /// Whether this is a TCP connection: it ends, and whoever has it must be told when nobody needs it any more.
    pub fn is_stream(&self) -> bool {
        self.socket >= Self::FIRST_STREAM
    }
}

/// What a client proves that it was told of us (RFC 8445 section 5.3).
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Our ICE username fragment.
    pub ufrag: String,
    /// Our ICE password.
    pub password: String,
}

/// Which way a transport's streams go, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client sends.
    Send,
    /// The client receives.
    Recv,
}

/// See the module.
#[derive(Debug)]
pub struct Transport {
    /// Its id.
    pub id: TransportId,
    /// Whose it is.
    pub connection: ConnectionId,
    /// Who is told what happens to it.
    pub gateway: GatewayId,
    /// What it was opened for.
    pub direction: Direction,
    /// Our ICE credentials.
    pub ice: Credentials,
    /// Those from before a restart, good until a check comes with the new ones.
    pub ice_before: Option<Credentials>,
    /// Addresses that have passed a check, oldest first.
    pub paths: Vec<Path>,
    /// The path to send on.
    pub selected: Option<Path>,
    /// When the selected path passed its last check.
    pub selected_checked: Option<Instant>,
    /// When any path passed its last check. None before the first: clients begin to check when they have something to send
    /// or to receive, which may be hours after they opened the transport.
    pub last_check: Option<Instant>,
    /// DTLS, from its first datagram or, as client, from the first check on.
    pub association: Option<Box<Association>>,
    /// The client's DTLS parameters, once delivered.
    pub remote: Option<(Role, Vec<Fingerprint>)>,
    /// Keys, once the handshake is done and the certificate was the announced one.
    pub srtp: Option<Box<Srtp>>,
    /// What DTLS left behind when it had been over for long enough: our goodbye.
    pub goodbye: Vec<u8>,
    /// When the client said something in DTLS after that, if no check came since: it may be gone.
    pub farewell: Option<Instant>,
    /// For when a DTLS timer is in the table.
    pub dtls_timer: Option<Instant>,
    /// Our SSRC in reports.
    pub rtcp_ssrc: u32,
    /// Streams from the client whose SSRC is known.
    pub producer_by_ssrc: Vec<(u32, ProducerKey)>,
    /// All streams from the client.
    pub producers: Vec<ProducerKey>,
    /// All streams to the client.
    pub consumers: Vec<(ChannelKey, ConsumerKey)>,
    /// MIDs given to consumers so far.
    pub next_mid: u32,
    /// For packets through open gates.
    pub talk_budget: Budget,
    /// For RTCP datagrams that are looked at.
    pub rtcp_budget: Budget,
    /// For packets that are sent again.
    pub retransmission_budget: Budget,
}

impl Transport {
    /// A transport that waits for its client.
    pub fn new(
        id: TransportId,
        (connection, gateway, direction): (ConnectionId, GatewayId, Direction),
        ice: Credentials,
        rtcp_ssrc: u32,
        now: Instant,
    ) -> Self {
        Self {
            id,
            connection,
            gateway,
            direction,
            ice,
            ice_before: None,
            paths: Vec::new(),
            selected: None,
            selected_checked: None,
            last_check: None,
            association: None,
            remote: None,
            srtp: None,
            goodbye: Vec::new(),
            farewell: None,
            dtls_timer: None,
            rtcp_ssrc,
            producer_by_ssrc: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            next_mid: 0,
            talk_budget: Budget::new(now),
            rtcp_budget: Budget::new(now),
            retransmission_budget: Budget::new(now),
        }
    }

    /// Whether the selected path has passed a check within this time.
    pub fn is_selected_fresh(&self, now: Instant, within: Duration) -> bool {
        self.selected_checked.is_some_and(|at| now.saturating_duration_since(at) <= within)
    }

    /// Remembers a path that has passed a check. Answers one that had to be forgotten for it.
    pub fn add_path(&mut self, path: Path) -> Option<Path> {
        if self.paths.contains(&path) {
            return None;
        }
        self.paths.push(path);
        if self.paths.len() <= MAX_PATHS {
            return None;
        }
        let oldest = self.paths.iter().position(|path| Some(*path) != self.selected)?;
        Some(self.paths.remove(oldest))
    }

    /// The password that belongs to one of our username fragments.
    pub fn password(&self, ufrag: &str) -> Option<&str> {
        let known = std::iter::once(&self.ice).chain(&self.ice_before).find(|known| known.ufrag == ufrag);
        known.map(|known| known.password.as_str())
    }

    /// The producer with this SSRC.
    pub fn producer(&self, ssrc: u32) -> Option<ProducerKey> {
        self.producer_by_ssrc.iter().find_map(|(known, key)| (*known == ssrc).then_some(*key))
    }
}
