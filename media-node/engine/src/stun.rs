//! The STUN side of an ICE-lite agent (RFC 8445 section 2.5, RFC 8489): reads binding requests, writes success responses.
//!
//! Only requests that carry our username and a valid MESSAGE-INTEGRITY are answered; everything else is dropped without a
//! word, so the node cannot be used to reflect traffic and says nothing to strangers.

use std::net::SocketAddr;

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, is_stun_message};
use rtc_stun::xoraddr::XorMappedAddress;

use crate::transport::Credentials;

/// A binding request whose integrity is still to be checked.
#[derive(Debug)]
pub struct BindingRequest {
    message: Message,
    local_ufrag: String,
}

impl BindingRequest {
    /// Parses a datagram. `None`: not a well-formed binding request with a username of the form `local:remote`.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        // A STUN message fills its datagram; the library tolerates what follows.
        if !is_stun_message(datagram)
            || datagram.len() != 20 + usize::from(u16::from_be_bytes([datagram[2], datagram[3]]))
        {
            return None;
        }
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        message.decode().ok()?;
        if message.typ != BINDING_REQUEST {
            return None;
        }
        if message.contains(rtc_stun::attributes::ATTR_FINGERPRINT) {
            FINGERPRINT.check(&message).ok()?;
        }
        let username = String::from_utf8(message.get(ATTR_USERNAME).ok()?).ok()?;
        let (local, _) = username.split_once(':')?;
        Some(Self { local_ufrag: local.to_owned(), message })
    }

    /// The part of the username that names our transport.
    pub fn local_ufrag(&self) -> &str {
        &self.local_ufrag
    }

    /// Whether the client nominates this path (RFC 8445 section 7.3.1.5).
    pub fn use_candidate(&self) -> bool {
        self.message.contains(ATTR_USE_CANDIDATE)
    }

    /// Whether the request was made by somebody who knows our password.
    pub fn is_authentic(&mut self, password: &str) -> bool {
        let provider = AwsLcRsProvider::new();
        MessageIntegrity::check(&mut self.message, password.as_bytes(), provider.crypto()).is_ok()
    }

    /// The success response: the source address as we see it, integrity, fingerprint. `None`: it cannot be encoded.
    pub fn success(&self, password: &str, source: SocketAddr) -> Option<Vec<u8>> {
        let provider = AwsLcRsProvider::new();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
        let mut response = Message::new();
        response.transaction_id = self.message.transaction_id;
        response.set_type(BINDING_SUCCESS);
        response.write_header();
        XorMappedAddress { ip: source.ip(), port: source.port() }.add_to(&mut response).ok()?;
        integrity.add_to(&mut response).ok()?;
        FINGERPRINT.add_to(&mut response).ok()?;
        Some(response.raw)
    }
}

/// Credentials for a transport of one of the node's engines: at least 24 and 128 bits of randomness (RFC 8445 section 5.3).
pub(crate) fn new_credentials(rng: &mut impl rand::RngExt, engine: u8) -> Credentials {
    let ufrag = format!("{engine:02x}{:014x}", rng.random::<u64>() >> 8);
    Credentials { ufrag, password: format!("{:032x}", rng.random::<u128>()) }
}

/// Which of the node's engines has given this username fragment, if one has: so whoever accepts a TCP connection, on which
/// all of them are reached, needs no table.
pub fn engine_of(ufrag: &str) -> Option<u8> {
    u8::from_str_radix(ufrag.get(..2)?, 16).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_stun::message::Getter;
    use rtc_stun::textattrs::TextAttribute;

    /// A binding request as a browser sends it.
    pub(crate) fn binding_request(username: &str, password: &str, use_candidate: bool) -> Vec<u8> {
        let provider = AwsLcRsProvider::new();
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.new_transaction_id().expect("random");
        message.write_header();
        TextAttribute::new(ATTR_USERNAME, username.to_owned()).add_to(&mut message).expect("fits");
        if use_candidate {
            message.add(ATTR_USE_CANDIDATE, &[]);
        }
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
            .add_to(&mut message)
            .expect("fits");
        FINGERPRINT.add_to(&mut message).expect("fits");
        message.raw
    }

    #[test]
    fn a_browsers_check_is_understood_and_answered() {
        let source: SocketAddr = "192.0.2.7:5000".parse().expect("an address");
        let mut request = BindingRequest::parse(&binding_request("ours:theirs", "secret", true)).expect("valid");
        assert_eq!(request.local_ufrag(), "ours");
        assert!(request.use_candidate());
        assert!(!request.is_authentic("guess"));
        assert!(request.is_authentic("secret"));
        let mut response = Message::new();
        response.raw = request.success("secret", source).expect("encodes");
        response.decode().expect("valid");
        FINGERPRINT.check(&response).expect("fingerprint");
        MessageIntegrity::check(&mut response, b"secret", AwsLcRsProvider::new().crypto()).expect("integrity");
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&response).expect("present");
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), source);
        assert_eq!(response.transaction_id, request.message.transaction_id);
    }

    #[test]
    fn a_username_fragment_tells_its_engine() {
        use rand::SeedableRng;
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for engine in [0, 63, 255] {
            let Credentials { ufrag, .. } = new_credentials(&mut rng, engine);
            assert_eq!((ufrag.len(), engine_of(&ufrag)), (16, Some(engine)));
        }
        for nobodys in ["", "0", "xx", "é0"] {
            assert_eq!(engine_of(nobodys), None);
        }
    }

    #[test]
    fn a_request_without_integrity_is_not_authentic() {
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.write_header();
        TextAttribute::new(ATTR_USERNAME, "ours:theirs".to_owned()).add_to(&mut message).expect("fits");
        assert!(!BindingRequest::parse(&message.raw).expect("well-formed").is_authentic("secret"));
    }

    proptest! {
        #[test]
        fn any_change_of_a_request_is_survived_and_not_authentic(at in 0_usize..100, to in any::<u8>()) {
            let mut bytes = binding_request("ours:theirs", "secret", false);
            let at = at % (bytes.len() - 8); // what follows is FINGERPRINT, which integrity does not cover
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Some(mut request) = BindingRequest::parse(&bytes) {
                prop_assert!(!request.is_authentic("secret"));
            }
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 20..120)) {
            bytes[..2].copy_from_slice(&[0, 1]);
            let len = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            if let Some(mut request) = BindingRequest::parse(&bytes) {
                prop_assert!(!request.is_authentic("secret"));
            }
        }
    }
}
