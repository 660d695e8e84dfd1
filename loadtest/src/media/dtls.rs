//! A transport's handshake: the engine's own client, or one that offers a single SRTP profile (`--srtp-profile`).
//!
//! The engine's client leaves the choice of the profile to nobody: it offers AES-256-GCM first, and servers take it. Browsers
//! offer other profiles first, which cost the server more or less. So the other client is the one of `rtc-dtls`, which
//! speaks DTLS 1.2 and offers what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::BytesMut;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use voiceping_engine::dtls::{Association, Event, Failure};
use voiceping_engine::srtp::{Profile, Srtp};
use voiceping_engine::{Fingerprint, Role};

/// What keys are exported for (RFC 5764 section 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Who all members are, and what they offer.
#[derive(Clone)]
pub(super) enum Identity {
    /// The engine's client, and its choice.
    Engine(voiceping_engine::Identity),
    /// One profile.
    One(Profile, Arc<HandshakeConfig>, Fingerprint),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Identity {
    pub(super) fn new(profile: Option<Profile>) -> Result<Self> {
        let Some(profile) = profile else { return Ok(Self::Engine(voiceping_engine::Identity::generate()?)) };
        let provider = rtc_crypto::default_provider()?;
        let certificate = Certificate::generate_self_signed(vec!["loadtest".to_owned()], provider.crypto());
        let certificate = certificate.context("no certificate can be made")?;
        let fingerprint = fingerprint(certificate.certificate.first().context("a certificate")?);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![offered(profile)])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true) // there is no authority: its fingerprint is compared, as in every browser
            .build(true, None)?;
        Ok(Self::One(profile, Arc::new(config), fingerprint))
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Engine(identity) => identity.fingerprint(),
            Self::One(_, _, fingerprint) => fingerprint.clone(),
        }
    }
}

/// One transport's. Every call ends with all its output drained into `send`.
#[derive(Debug)]
pub(super) enum Handshake {
    Engine(Box<Association>),
    One(Box<One>),
}

/// With one profile.
pub(super) struct One {
    endpoint: Endpoint,
    server: SocketAddr,
    profile: Profile,
    expected: Fingerprint,
}

impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("One").field("server", &self.server).finish_non_exhaustive() // keys stay out of logs
    }
}

impl Handshake {
    /// Starts one with a server whose certificate has this fingerprint.
    pub(super) fn start(
        identity: &Identity,
        server: SocketAddr,
        expected: &Fingerprint,
        now: Instant,
        send: &mut dyn FnMut(&[u8]),
    ) -> (Self, Option<Event>) {
        match identity {
            Identity::Engine(identity) => {
                let mut association = Association::new(identity, Role::Client, now);
                association.expect_fingerprints(std::slice::from_ref(expected));
                let event = association.handle_timeout(now, send);
                (Self::Engine(Box::new(association)), event)
            }
            Identity::One(profile, config, _) => {
                let endpoint = Endpoint::new(([0, 0, 0, 0], 0).into(), TransportProtocol::UDP, None);
                let mut one = Box::new(One { endpoint, server, profile: *profile, expected: expected.clone() });
                let begun = one.endpoint.connect(now, server, Arc::clone(config), None);
                one.drain(send);
                (Self::One(one), begun.is_err().then_some(Event::Failed(Failure::Protocol)))
            }
        }
    }

    pub(super) fn datagram(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(&[u8])) -> Option<Event> {
        match self {
            Self::Engine(association) => association.handle_datagram(now, datagram, send),
            Self::One(one) => {
                let events = one.endpoint.read(now, one.server, None, BytesMut::from(datagram));
                one.drain(send);
                let Ok(events) = events else { return Some(Event::Failed(Failure::Protocol)) };
                events.into_iter().find_map(|event| match event {
                    EndpointEvent::HandshakeComplete => Some(one.connected()),
                    EndpointEvent::PeerClosed => Some(Event::CloseNotify),
                    _ => None,
                })
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Engine(association) => association.poll_timeout(),
            Self::One(one) => one.endpoint.poll_timeout(&one.server),
        }
    }

    pub(super) fn timeout(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) -> Option<Event> {
        match self {
            Self::Engine(association) => association.handle_timeout(now, send),
            Self::One(one) => {
                let goes_on = one.endpoint.handle_timeout(one.server, now).is_ok();
                one.drain(send);
                (!goes_on).then_some(Event::Failed(Failure::Protocol))
            }
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Engine(association) => association.close(now, send),
            Self::One(one) => {
                one.endpoint.stop(now, one.server);
                one.drain(send);
            }
        }
    }
}

impl One {
    fn drain(&mut self, send: &mut dyn FnMut(&[u8])) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            send(&transmit.message);
        }
    }

    /// The keys, if the server is who it should be.
    fn connected(&self) -> Event {
        let keys = || -> Result<Srtp, Failure> {
            let state = self.endpoint.get_connection_state(self.server).ok_or(Failure::Protocol)?;
            if state.peer_certificates.first().map(|found| fingerprint(found)) != Some(self.expected.clone()) {
                return Err(Failure::Fingerprint);
            }
            if state.srtp_protection_profile() != offered(self.profile) {
                return Err(Failure::Protocol);
            }
            let len = 2 * (self.profile.key_len() + self.profile.salt_len());
            let material = state.export_keying_material(LABEL, &[], len).map_err(|_| Failure::Protocol)?;
            Srtp::new(self.profile, material.as_ref(), true).map_err(|_| Failure::Protocol)
        };
        keys().map_or_else(Event::Failed, |srtp| Event::Connected(Box::new(srtp)))
    }
}

fn offered(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    }
}

/// Of a certificate (RFC 8122 section 5).
fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let digest = digest(&SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Fingerprint { algorithm: "sha-256".into(), value: pairs.join(":") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends in one place; answers what the client has at the end.
    fn shake(profile: Option<Profile>, expected: Option<&Fingerprint>) -> Option<Event> {
        let (now, address) = (Instant::now(), ([192, 0, 2, 1], 1).into());
        let identity = Identity::new(profile).expect("random");
        let server_identity = voiceping_engine::Identity::generate().expect("random");
        let own = server_identity.fingerprint();
        let mut server = Association::new(&server_identity, Role::Server, now);
        server.expect_fingerprints(&[identity.fingerprint()]);
        let mut to_server = Vec::new();
        let start = &mut |bytes: &[u8]| to_server.push(bytes.to_vec());
        let (mut client, _) = Handshake::start(&identity, address, expected.unwrap_or(&own), now, start);
        let mut outcome = None;
        while !to_server.is_empty() && outcome.is_none() {
            let mut to_client = Vec::new();
            for datagram in to_server.drain(..) {
                server.handle_datagram(now, &datagram, &mut |bytes: &[u8]| to_client.push(bytes.to_vec()));
            }
            for datagram in to_client {
                let event = client.datagram(now, &datagram, &mut |bytes: &[u8]| to_server.push(bytes.to_vec()));
                outcome = outcome.or(event);
            }
        }
        outcome
    }

    #[test]
    fn the_profile_is_the_one_that_was_asked_for() {
        for profile in Profile::ALL {
            let Some(Event::Connected(srtp)) = shake(Some(profile), None) else { panic!("{profile:?}") };
            assert_eq!(srtp.profile, profile);
        }
        let Some(Event::Connected(srtp)) = shake(None, None) else { panic!("the engine's client") };
        assert_eq!(srtp.profile, Profile::AeadAes256Gcm);
    }

    #[test]
    fn a_server_with_another_certificate_is_refused() {
        let other = voiceping_engine::Identity::generate().expect("random").fingerprint();
        for profile in [None, Some(Profile::AeadAes128Gcm)] {
            let outcome = shake(profile, Some(&other));
            assert!(matches!(outcome, Some(Event::Failed(Failure::Fingerprint))), "{profile:?}");
        }
    }
}
