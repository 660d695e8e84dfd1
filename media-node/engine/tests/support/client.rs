//! A client as the simulation moves it: what it is, what it sends first, what it heard.

use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
use rtc_stun::textattrs::TextAttribute;
use voiceping_engine::dtls::Association;
use voiceping_engine::id::ConnectionId;
use voiceping_engine::srtp::Srtp;
use voiceping_engine::{Identity, Path, Role, TransportParameters};

/// A received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub ssrc: u32,
    pub sequence_number: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload_type: u8,
    pub payload: Vec<u8>,
    pub at: Instant,
}

/// A client with one transport.
pub struct Client {
    pub connection: ConnectionId,
    pub transport: TransportParameters,
    /// Which of the engine's sockets it sends to.
    pub socket: u32,
    pub address: SocketAddr,
    pub identity: Identity,
    pub srtp: Option<Box<Srtp>>,
    pub association: Option<Association>,
    pub role: Role,
    pub checked: bool,
    pub next_check: Option<Instant>,
    pub dtls_at: Option<Instant>,
    pub heard_goodbye: bool,
    pub received: Vec<Received>,
    pub rtcp: Vec<Box<dyn rtc_rtcp::packet::Packet>>,
    pub ssrc: u32,
    pub sequence_number: u16,
    pub timestamp: u32,
    pub sent_packets: u64,
}

impl Client {
    /// Its datagrams' way to the engine.
    pub fn path(&self) -> Path {
        Path { socket: self.socket, remote: self.address }
    }

    /// Begins a stream of its own, as a browser's new sender does: another SSRC, counted from anywhere.
    pub fn begin_stream(&mut self, rng: &mut StdRng) {
        (self.ssrc, self.sequence_number, self.sent_packets) = (rng.random(), rng.random(), 0);
    }

    /// The counts that this client heard from a speaker, in order.
    pub fn heard(&self, speaker: &str) -> Vec<u64> {
        let prefix = format!("{speaker} ").into_bytes();
        let count = |received: &Received| {
            let rest = received.payload.strip_prefix(&prefix[..])?;
            Some(u64::from_be_bytes(rest[..8].try_into().expect("eight bytes")))
        };
        self.received.iter().filter_map(count).collect()
    }
}

/// A connectivity check as a browser sends it once it has chosen the pair.
pub fn binding_request(username: &str, password: &str) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.new_transaction_id().expect("randomness");
    message.write_header();
    TextAttribute::new(ATTR_USERNAME, username.to_owned()).add_to(&mut message).expect("fits");
    message.add(ATTR_USE_CANDIDATE, &[]);
    MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
        .add_to(&mut message)
        .expect("fits");
    FINGERPRINT.add_to(&mut message).expect("fits");
    message.raw
}

/// Whether a datagram is DTLS.
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}
