//! SRTP (RFC 3711, RFC 7714): sealing for listeners, opening for speakers, SRTCP both ways.
//!
//! Cost model: sealing is the price of every listener-packet. [`Sealer::seal`] works in place, allocates nothing, takes
//! no lock and keeps no state: the caller passes the 48-bit packet index, so a retransmission is sealed to the same bytes.
//!
//! Memory: what a transport does not use it does not have. A side of RTP has its keys from its first packet on, for a member has
//! one transport that sends and one that receives. The keys of SRTCP are derived for each of its packets, which are few: that
//! takes less than a microsecond and saves a kilobyte or two on every transport.

mod cipher;
mod received;

use std::cell::OnceCell;

use bytes::BytesMut;

use cipher::{Cipher, Use};
use received::Received;

/// Streams without a producer of which is remembered what was received, RTP and RTCP apart. Those of producers come on top: they
/// are as many as there are producers. Of more, the one that was used longest ago is forgotten: a client that makes a new stream
/// for each talk goes on for ever, and a hostile one cannot make us keep state without end.
const REMEMBERED: usize = 64;

/// The supported protection profiles (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AES-128 in counter mode, 80-bit HMAC-SHA1 tag: what Chromium chooses with DTLS 1.3.
    Aes128CmSha1_80,
    /// AES-128-GCM: what Firefox chooses with DTLS 1.3.
    AeadAes128Gcm,
    /// AES-256-GCM: what is chosen with DTLS 1.2.
    AeadAes256Gcm,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 3] = [Self::Aes128CmSha1_80, Self::AeadAes128Gcm, Self::AeadAes256Gcm];

    /// Bytes of the master key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// Keys that do not fit their profile, or that the cryptography refused.
#[derive(Debug, thiserror::Error)]
#[error("the SRTP keys do not fit their profile: {0}")]
pub struct KeyError(String);

/// Both directions of one transport.
pub struct Srtp {
    /// What was negotiated.
    pub profile: Profile,
    outbound: Master,
    inbound: Master,
    /// Towards the client.
    sealer: OnceCell<Sealer>,
    /// From the client.
    opener: Option<Cipher>,
    /// Of producers.
    rtp: Streams,
    /// Of producers that are gone: neither is an old packet taken for a new one nor a rollover forgotten if the client produces
    /// with the same SSRC again.
    retired: Streams,
    rtcp: Streams,
    /// The index of the last RTCP packet that was sealed.
    rtcp_index: u32,
}

/// Master key and salt of one direction.
struct Master {
    key: [u8; 32],
    salt: [u8; 14],
}

/// What has been received of each stream.
#[derive(Default)]
struct Streams(Vec<(u32, Received)>);

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srtp").field("profile", &self.profile).finish_non_exhaustive() // keys stay out of logs
    }
}

impl Srtp {
    /// From the keying material of RFC 5764 section 4.2: client key, server key, client salt, server salt.
    pub fn new(profile: Profile, material: &[u8], local_is_client: bool) -> Result<Self, KeyError> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if material.len() < 2 * (key + salt) {
            return Err(KeyError(format!("{} bytes of keying material", material.len())));
        }
        let (client_key, rest) = material.split_at(key);
        let (server_key, rest) = rest.split_at(key);
        let (client_salt, rest) = rest.split_at(salt);
        let (client, server) = (Master::new(client_key, client_salt), Master::new(server_key, &rest[..salt]));
        let (outbound, inbound) = if local_is_client { (client, server) } else { (server, client) };
        // Derived again when they are needed, and then it must not fail.
        inbound.derive(profile, Use::Rtp)?;
        Ok(Self {
            profile,
            outbound,
            inbound,
            sealer: OnceCell::new(),
            opener: None,
            rtp: Streams::default(),
            retired: Streams::default(),
            rtcp: Streams::default(),
            rtcp_index: 0,
        })
    }

    /// What seals RTP towards the client.
    #[inline]
    pub fn sealer(&self) -> &Sealer {
        self.sealer.get_or_init(|| Sealer(self.outbound.derive(self.profile, Use::Rtp).expect(TRIED)))
    }

    /// Opens an SRTP packet of a producer whose header is `header_len` long into `plain`. `None`: it is forged, replayed or too
    /// short for its tag. Call [`Self::retire`] when the producer is gone.
    pub fn open_into(&mut self, packet: &[u8], header_len: usize, plain: &mut Vec<u8>) -> Option<()> {
        let ssrc = ssrc_of(packet, 8)?;
        let sequence_number = u16::from_be_bytes(*packet.get(2..)?.first_chunk()?);
        let opener = self.opener.get_or_insert_with(|| self.inbound.derive(self.profile, Use::Rtp).expect(TRIED));
        let live = self.rtp.get(ssrc);
        let is_live = live.is_some();
        let received = live.or_else(|| self.retired.get(ssrc)).copied();
        let index = received.map_or(sequence_number.into(), |received| received.index(sequence_number));
        if received.is_some_and(|received| received.has_seen(index)) {
            return None;
        }
        plain.clear();
        plain.extend_from_slice(packet);
        opener.open(plain, header_len, ssrc, index)?;
        if !is_live && let Some(received) = self.retired.take(ssrc) {
            self.rtp.0.push((ssrc, received));
        }
        self.rtp.add(ssrc, index);
        Some(())
    }

    /// A stream's producer is gone.
    pub fn retire(&mut self, ssrc: u32) {
        if let Some(received) = self.rtp.take(ssrc) {
            self.retired.0.push((ssrc, received));
            self.retired.limit();
        }
    }

    /// The same into a buffer of its own.
    pub fn open(&mut self, packet: &[u8], header_len: usize) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        self.open_into(packet, header_len, &mut plain)?;
        Some(plain)
    }

    /// Opens an SRTCP packet.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        let ssrc = ssrc_of(packet, 4)?;
        let cipher = self.inbound.derive(self.profile, Use::Rtcp).ok()?;
        let index = cipher.rtcp_index(packet)?;
        if self.rtcp.get(ssrc).is_some_and(|received| received.has_seen(index.into())) {
            return None;
        }
        let mut plain = packet.to_vec();
        cipher.open_rtcp(&mut plain, ssrc, index)?;
        if let Some(received) = self.rtcp.take(ssrc) {
            self.rtcp.0.push((ssrc, received)); // the newest is last
        }
        self.rtcp.add(ssrc, index.into());
        self.rtcp.limit();
        Some(BytesMut::from(&plain[..]))
    }

    /// Seals an RTCP packet. `None`: it is none, or there were 2^31 of them (RFC 3711 section 9.2).
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        let ssrc = ssrc_of(packet, 4)?;
        let index = Some(self.rtcp_index + 1).filter(|index| *index < 1 << 31)?;
        let mut sealed = packet.to_vec();
        self.outbound.derive(self.profile, Use::Rtcp).ok()?.seal_rtcp(&mut sealed, ssrc, index)?;
        self.rtcp_index = index;
        Some(BytesMut::from(&sealed[..]))
    }
}

const TRIED: &str = "keys of this length and profile were tried when the association was made";

impl Master {
    fn new(key: &[u8], salt: &[u8]) -> Self {
        let mut master = Self { key: [0; 32], salt: [0; 14] };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        master
    }

    fn derive(&self, profile: Profile, of: Use) -> Result<Cipher, KeyError> {
        Cipher::derive(profile, &self.key[..profile.key_len()], &self.salt[..profile.salt_len()], of)
    }
}

impl Streams {
    fn get(&self, ssrc: u32) -> Option<&Received> {
        self.0.iter().find_map(|(of, received)| (*of == ssrc).then_some(received))
    }

    fn take(&mut self, ssrc: u32) -> Option<Received> {
        let at = self.0.iter().position(|(of, _)| *of == ssrc)?;
        Some(self.0.remove(at).1)
    }

    /// Forgets the oldest of too many.
    fn limit(&mut self) {
        if self.0.len() > REMEMBERED {
            self.0.remove(0);
        }
    }

    /// Notes a packet that was authentic.
    fn add(&mut self, ssrc: u32, index: u64) {
        match self.0.iter_mut().find(|(of, _)| *of == ssrc) {
            Some((_, received)) => received.add(index),
            None => self.0.push((ssrc, Received::starting_with(index))),
        }
    }
}

/// The SSRC, which is at this place in RTP and RTCP.
fn ssrc_of(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// Seals RTP packets towards one client.
pub struct Sealer(Cipher);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Derives the session keys (RFC 3711 section 4.3) from a master key and salt.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, KeyError> {
        if master_key.len() != profile.key_len() || master_salt.len() != profile.salt_len() {
            return Err(KeyError("wrong length of key or salt".into()));
        }
        Cipher::derive(profile, master_key, master_salt, Use::Rtp).map(Self)
    }

    /// Seals the packet of `len` bytes at the start of `buffer`, whose header is `header_len` long, in place; answers the
    /// length with its tag. `index` is the packet index (rollover counter and sequence number, RFC 3711 section 3.3.1).
    /// `None`: the buffer has no room for the tag.
    #[inline]
    pub fn seal(&self, buffer: &mut [u8], header_len: usize, len: usize, ssrc: u32, index: u64) -> Option<usize> {
        self.0.seal(buffer, header_len, len, ssrc, index)
    }
}

#[cfg(test)]
mod tests {
    use rtc_crypto::RTCCryptoProvider;
    use rtc_crypto::providers::AwsLcRsProvider;
    use rtc_srtp::context::Context;
    use rtc_srtp::protection_profile::ProtectionProfile;

    use super::cipher::derive;
    use super::*;

    fn packet(sequence_number: u16) -> Vec<u8> {
        let mut packet = vec![0x90, 0xef, 0, 0, 0, 0, 3, 0xc0, 0xde, 0xad, 0xbe, 0xef, 0xbe, 0xde, 0, 1, 0xa0, 5, 0, 0];
        packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
        packet.extend((0..100).map(|byte| byte as u8));
        packet
    }

    fn material(profile: Profile) -> Vec<u8> {
        (0..2 * (profile.key_len() + profile.salt_len())).map(|byte| byte as u8).collect()
    }

    /// The client's end as the library has it: what it seals, and what it opens.
    fn library(profile: Profile) -> (Context, Context) {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = material(profile);
        let (keys, salts) = material.split_at(2 * key);
        let context = |side: usize| {
            let of_library = match profile {
                Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
                Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
                Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            };
            let (key, salt) = (&keys[side * key..][..key], &salts[side * salt..][..salt]);
            Context::new(key, salt, of_library, None, None, AwsLcRsProvider::new().crypto()).expect("fits")
        };
        (context(0), context(1))
    }

    #[test]
    fn an_independent_implementation_opens_what_is_sealed_across_a_rollover() {
        for profile in Profile::ALL {
            let server = Srtp::new(profile, &material(profile), false).expect("keys fit");
            let mut client = Srtp::new(profile, &material(profile), true).expect("keys fit");
            let (_, mut library) = library(profile);
            for index in (0x7ff0_u64..0x1_0010).step_by(7) {
                let plain = packet(index as u16);
                let mut buffer = [0; 256];
                buffer[..plain.len()].copy_from_slice(&plain);
                let len = server.sealer().seal(&mut buffer, 20, plain.len(), 0xdead_beef, index).expect("room");
                assert_eq!(
                    library.decrypt_rtp(&buffer[..len]).expect("opens"),
                    &plain[..],
                    "{profile:?} at {index:#x}"
                );
                let mut forged = buffer[..len].to_vec();
                forged[len - 1] ^= 1;
                assert!(client.open(&forged, 20).is_none(), "a forgery is refused");
                assert_eq!(client.open(&buffer[..len], 20).as_deref(), Some(&plain[..]), "{profile:?} at {index:#x}");
                assert!(client.open(&buffer[..len], 20).is_none(), "a replay is refused");
            }
        }
    }

    #[test]
    fn rtp_and_rtcp_of_an_independent_implementation_are_opened_and_the_other_way_round() {
        let report = |round: u8| vec![0x80, 201, 0, 2, 1, 2, 3, 4, round, 7, 8, 9];
        for profile in Profile::ALL {
            let mut server = Srtp::new(profile, &material(profile), false).expect("keys fit");
            let (mut seals, mut opens) = library(profile);
            for round in 0..200 {
                let plain = packet(0xffff_u16.wrapping_sub(100).wrapping_add(round));
                let sealed = seals.encrypt_rtp(&plain).expect("seals");
                assert_eq!(server.open(&sealed, 20).as_deref(), Some(&plain[..]), "{profile:?}, {round}");
                let plain = report(round as u8);
                let sealed = seals.encrypt_rtcp(&plain).expect("seals");
                let mut forged = sealed.to_vec();
                forged[9] ^= 1;
                assert!(server.open_rtcp(&forged).is_none(), "a forgery is refused");
                assert_eq!(server.open_rtcp(&sealed).as_deref(), Some(&plain[..]), "{profile:?}, {round}");
                assert!(server.open_rtcp(&sealed).is_none(), "a replay is refused");
                let sealed = server.seal_rtcp(&plain).expect("seals");
                assert_eq!(opens.decrypt_rtcp(&sealed).expect("opens"), &plain[..], "{profile:?}, {round}");
            }
        }
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for profile in Profile::ALL {
            let mut server = Srtp::new(profile, &material(profile), false).expect("keys fit");
            for len in 0..40 {
                let packet = vec![0x80; len];
                assert!(server.open(&packet, 12.min(len)).is_none() && server.open_rtcp(&packet).is_none());
            }
            assert!(server.seal_rtcp(&[0x80; 7]).is_none());
        }
    }

    #[test]
    fn the_session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let key = 0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes();
        let salt = &0x0EC6_75AD_498A_FEEB_B696_0B3A_ABE6_u128.to_be_bytes()[2..];
        assert_eq!(derive::<16>(&key, salt, 0), 0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087_u128.to_be_bytes());
        assert_eq!(derive::<14>(&key, salt, 2), 0x30CB_BC08_863D_8C85_D49D_B34A_9AE1_u128.to_be_bytes()[2..]);
        assert_eq!(derive::<16>(&key, salt, 1), 0xCEBE_321F_6FF7_716B_6FD4_AB49_AF25_6A15_u128.to_be_bytes());
    }

    #[test]
    fn keys_of_a_wrong_length_are_refused() {
        for profile in Profile::ALL {
            assert!(Srtp::new(profile, &[0; 20], false).is_err());
            assert!(Sealer::new(profile, &[0; 5], &[0; 12]).is_err());
        }
    }

    #[test]
    fn a_buffer_without_room_for_the_tag_is_refused() {
        for profile in Profile::ALL {
            let sealer =
                Sealer::new(profile, &[1; 32][..profile.key_len()], &[2; 14][..profile.salt_len()]).expect("fits");
            let mut plain = packet(1);
            let len = plain.len();
            assert_eq!(sealer.seal(&mut plain, 20, len, 1, 1), None);
        }
    }
}
