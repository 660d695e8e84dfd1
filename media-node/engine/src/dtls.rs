//! One DTLS association (RFC 6347, RFC 9147) with DTLS-SRTP keys (RFC 5764), around `dimpl`.
//!
//! What this adds to the library: one shared configuration, the comparison of the peer's certificate with the
//! fingerprints that came over signaling (RFC 8122), and keys that are handed out only after that comparison.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};

use crate::srtp::{Profile, Srtp};

/// Bytes that one output of the library can have; more than the MTU that it is configured with.
const OUTPUT_LEN: usize = 2048;

/// The node's certificate and the settings that all its associations share (building them costs more than a handshake).
#[derive(Clone)]
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<Config>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// The identity cannot be made: the machine's cryptography or randomness is broken.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS identity: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// A fresh self-signed ECDSA P-256 certificate. Costs about a millisecond: once per node.
    pub fn generate() -> Result<Self, IdentityError> {
        let certificate =
            dimpl::certificate::generate_self_signed_certificate().map_err(|error| IdentityError(error.to_string()))?;
        let config = Config::builder()
            // A ClientHello is accepted only from an address that has passed a STUN integrity check: no reflection.
            .use_server_cookie(false)
            .flight_start_rto(Duration::from_millis(150))
            .flight_retries(8)
            .handshake_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| IdentityError(error.to_string()))?;
        Ok(Self { certificate, config: Arc::new(config) })
    }

    /// The certificate's SHA-256 fingerprint as it is written in signaling.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = digest::digest(&digest::SHA256, &self.certificate.certificate);
        let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Fingerprint { algorithm: "sha-256".into(), value: hex.join(":") }
    }
}

/// A certificate fingerprint (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`.
    pub algorithm: String,
    /// Hex pairs with colons between them.
    pub value: String,
}

impl Fingerprint {
    fn matches(&self, certificate: &[u8]) -> bool {
        let algorithm = match self.algorithm.to_ascii_lowercase().as_str() {
            "sha-256" => &digest::SHA256,
            "sha-384" => &digest::SHA384,
            "sha-512" => &digest::SHA512,
            _ => return false,
        };
        let digest = digest::digest(algorithm, certificate);
        let mut said = self.value.split(':').map(|pair| u8::from_str_radix(pair, 16));
        digest.as_ref().iter().all(|byte| said.next() == Some(Ok(*byte))) && said.next().is_none()
    }

    /// Whether this could be a fingerprint at all.
    pub fn is_well_formed(&self) -> bool {
        let bytes = match self.algorithm.to_ascii_lowercase().as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return false,
        };
        self.value.len() == 3 * bytes - 1
            && self.value.split(':').all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok())
    }
}

/// Who starts the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer does.
    Server,
    /// We do.
    Client,
}

/// What an association tells its transport.
#[derive(Debug)]
pub enum Event {
    /// Keys, after the certificate has been checked. Once.
    Connected(Box<Srtp>),
    /// The peer said goodbye.
    CloseNotify,
    /// Over for good.
    Failed(Failure),
}

/// Why an association failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Handshake or record layer.
    Protocol,
    /// The certificate is not the one that signaling announced.
    Fingerprint,
}

/// An association. Every call ends with all its output drained into `send`.
pub struct Association {
    dtls: Dtls,
    role: Role,
    expected: Vec<Fingerprint>,
    peer_certificate: Option<Vec<u8>>,
    keys: Option<Box<Srtp>>,
    timeout: Option<Instant>,
    handshake_done: bool,
    connected: bool,
}

impl std::fmt::Debug for Association {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Association")
            .field("role", &self.role)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl Association {
    /// A new association; as client it has its first flight ready for [`Self::handle_timeout`].
    pub fn new(identity: &Identity, role: Role, now: Instant) -> Self {
        let mut dtls = Dtls::new_auto(Arc::clone(&identity.config), identity.certificate.clone(), now);
        dtls.set_active(role == Role::Client);
        Self {
            dtls,
            role,
            expected: Vec::new(),
            peer_certificate: None,
            keys: None,
            timeout: None,
            handshake_done: false,
            connected: false,
        }
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// The fingerprints that signaling announced: the certificate must match one of them.
    pub fn expect_fingerprints(&mut self, expected: &[Fingerprint]) -> Option<Event> {
        self.expected = expected.to_vec();
        self.verdict()
    }

    /// A DTLS record from the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(&[u8])) -> Option<Event> {
        if self.dtls.handle_timeout(now).is_err() || self.dtls.handle_packet(datagram).is_err() {
            self.timeout = None;
            return Some(Event::Failed(Failure::Protocol));
        }
        self.drain(send)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) -> Option<Event> {
        if self.dtls.handle_timeout(now).is_err() {
            self.timeout = None;
            return Some(Event::Failed(Failure::Protocol));
        }
        self.drain(send)
    }

    /// The last word, to be sent when the transport ends. After it nothing is left to be said or heard.
    pub fn into_goodbye(mut self, now: Instant) -> Vec<u8> {
        let mut goodbye = Vec::new();
        self.close(now, &mut |bytes| goodbye = bytes.to_vec());
        goodbye
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if self.connected && self.dtls.handle_timeout(now).is_ok() && self.dtls.close().is_ok() {
            self.drain(send);
        }
    }

    fn drain(&mut self, send: &mut dyn FnMut(&[u8])) -> Option<Event> {
        let mut buffer = [0; OUTPUT_LEN];
        let mut event = None;
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => send(packet),
                Output::PeerCert(certificate) => self.peer_certificate = Some(certificate.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
                        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                        _ => return Some(Event::Failed(Failure::Protocol)),
                    };
                    match Srtp::new(profile, &material, self.role == Role::Client) {
                        Ok(srtp) => self.keys = Some(Box::new(srtp)),
                        Err(_) => return Some(Event::Failed(Failure::Protocol)),
                    }
                }
                Output::Connected => self.handshake_done = true,
                Output::CloseNotify => event = Some(Event::CloseNotify),
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    break;
                }
                // The output is bounded by the configured MTU, and nobody sends application data here.
                Output::BufferTooSmall { .. } => return Some(Event::Failed(Failure::Protocol)),
                _ => {}
            }
        }
        event.or_else(|| self.verdict())
    }

    /// Hands the keys out once certificate and fingerprints are both there and agree.
    fn verdict(&mut self) -> Option<Event> {
        let certificate = self.peer_certificate.as_ref()?;
        if self.expected.is_empty() || !self.handshake_done {
            return None;
        }
        if !self.expected.iter().any(|fingerprint| fingerprint.matches(certificate)) {
            return Some(Event::Failed(Failure::Fingerprint));
        }
        let keys = self.keys.take()?;
        self.connected = true;
        // Asked once: what it was asked with is not kept as long as the transport lives.
        (self.expected, self.peer_certificate) = (Vec::new(), None);
        Some(Event::Connected(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_matches_its_certificate_only() {
        let (ours, other) = (Identity::generate().expect("random"), Identity::generate().expect("random"));
        let fingerprint = ours.fingerprint();
        assert!(fingerprint.is_well_formed());
        assert!(fingerprint.matches(&ours.certificate.certificate));
        assert!(!fingerprint.matches(&other.certificate.certificate));
        let short = Fingerprint { value: fingerprint.value[..29].into(), ..fingerprint.clone() };
        assert!(!short.matches(&ours.certificate.certificate) && !short.is_well_formed());
        let long = Fingerprint { value: format!("{}:00", fingerprint.value), ..fingerprint.clone() };
        assert!(!long.matches(&ours.certificate.certificate) && !long.is_well_formed());
        let md5 = Fingerprint { algorithm: "md5".into(), ..fingerprint };
        assert!(!md5.matches(&ours.certificate.certificate) && !md5.is_well_formed());
    }
}
