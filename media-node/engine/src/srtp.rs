//! SRTP (RFC 3711, RFC 7714): sealing for listeners, opening for speakers, SRTCP both ways.
//!
//! Cost model: sealing is the price of every listener-packet. [`Sealer::seal`] works in place, allocates nothing, takes
//! no lock and keeps no state: the caller passes the 48-bit packet index, so a retransmission is sealed to the same bytes.
//! Opening happens once per speaker packet and uses the library's context, as SRTCP does.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

/// Packets that may arrive out of order and still be accepted (RFC 3711 section 3.3.2 asks for 64 at least).
const REPLAY_WINDOW: usize = 128;

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

    fn library(self) -> ProtectionProfile {
        match self {
            Self::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Self::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
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
    /// Towards the client.
    pub sealer: Sealer,
    rtcp_out: Context,
    inbound: Context,
    tag_len: usize,
}

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
        let server_salt = &rest[..salt];
        let (local, remote) = if local_is_client {
            ((client_key, client_salt), (server_key, server_salt))
        } else {
            ((server_key, server_salt), (client_key, client_salt))
        };
        Ok(Self {
            profile,
            sealer: Sealer::new(profile, local.0, local.1)?,
            rtcp_out: context(profile, local)?,
            inbound: context(profile, remote)?,
            tag_len: if profile == Profile::Aes128CmSha1_80 { 10 } else { 16 },
        })
    }

    /// Opens an SRTP packet whose header is `header_len` long. `None`: it is forged, replayed or too short for its tag.
    pub fn open(&mut self, packet: &[u8], header_len: usize) -> Option<BytesMut> {
        if packet.len() < header_len + self.tag_len {
            return None;
        }
        self.inbound.decrypt_rtp(packet).ok()
    }

    /// Opens an SRTCP packet.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.inbound.decrypt_rtcp(packet).ok()
    }

    /// Seals an RTCP packet.
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.rtcp_out.encrypt_rtcp(packet).ok()
    }
}

fn context(profile: Profile, (key, salt): (&[u8], &[u8])) -> Result<Context, KeyError> {
    Context::new(
        key,
        salt,
        profile.library(),
        Some(srtp_replay_protection(REPLAY_WINDOW)),
        Some(srtcp_replay_protection(REPLAY_WINDOW)),
        AwsLcRsProvider::new().crypto(),
    )
    .map_err(|error| KeyError(error.to_string()))
}

/// Seals RTP packets towards one client.
pub struct Sealer(Cipher);

#[allow(clippy::large_enum_variant)] // it is boxed with the whole of Srtp; another pointer would cost every packet
enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CmSha1 { key: EncryptingKey, salt: [u8; 14], auth: hmac::Key },
}

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
        let key = derive::<32>(master_key, master_salt, 0)?;
        let refused = |_| KeyError("refused by the cipher".into());
        Ok(Self(match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let algorithm = if profile == Profile::AeadAes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
                let key = UnboundKey::new(algorithm, &key[..profile.key_len()]).map_err(refused)?;
                Cipher::Gcm { key: LessSafeKey::new(key), salt: derive(master_key, master_salt, 2)? }
            }
            Profile::Aes128CmSha1_80 => {
                let key = UnboundCipherKey::new(&cipher::AES_128, &key[..16]).map_err(refused)?;
                let auth = derive::<20>(master_key, master_salt, 1)?;
                Cipher::CmSha1 {
                    key: EncryptingKey::ctr(key).map_err(refused)?,
                    salt: derive(master_key, master_salt, 2)?,
                    auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
                }
            }
        }))
    }

    /// Seals the packet of `len` bytes at the start of `buffer`, whose header is `header_len` long, in place; answers the
    /// length with its tag. `index` is the packet index (rollover counter and sequence number, RFC 3711 section 3.3.1).
    /// `None`: the buffer has no room for the tag.
    pub fn seal(&self, buffer: &mut [u8], header_len: usize, len: usize, ssrc: u32, index: u64) -> Option<usize> {
        match &self.0 {
            Cipher::Gcm { key, salt } => {
                // RFC 7714 section 8.1: 00 00, SSRC, ROC, SEQ, XOR salt
                let mut nonce = [0; 12];
                nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
                nonce[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
                xor(&mut nonce, salt);
                let (header, rest) = buffer.split_at_mut(header_len);
                let (payload, tail) = rest.split_at_mut(len - header_len);
                let tag = key
                    .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), payload)
                    .ok()?;
                tail.get_mut(..16)?.copy_from_slice(tag.as_ref());
                Some(len + 16)
            }
            Cipher::CmSha1 { key, salt, auth } => {
                // RFC 3711 section 4.1.1: (salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16)
                let mut iv = [0; 16];
                iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
                iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
                xor(&mut iv, salt);
                let context = EncryptionContext::Iv128(FixedLength::from(iv));
                key.less_safe_encrypt(buffer.get_mut(header_len..len)?, context).ok()?;
                let mut mac = hmac::Context::with_key(auth);
                mac.update(&buffer[..len]);
                mac.update(&((index >> 16) as u32).to_be_bytes());
                buffer.get_mut(len..len + 10)?.copy_from_slice(&mac.sign().as_ref()[..10]);
                Some(len + 10)
            }
        }
    }
}

/// The AES-CM key derivation function (RFC 3711 section 4.3.3, RFC 6188 section 3 for 256-bit keys), key derivation rate 0.
fn derive<const N: usize>(master_key: &[u8], master_salt: &[u8], label: u8) -> Result<[u8; N], KeyError> {
    let refused = |_| KeyError("refused by the key derivation".into());
    let algorithm = if master_key.len() == 32 { &cipher::AES_256 } else { &cipher::AES_128 };
    let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, master_key).map_err(refused)?).map_err(refused)?;
    let mut iv = [0; 16];
    iv[..master_salt.len()].copy_from_slice(master_salt);
    iv[7] ^= label;
    let mut out = [0; N];
    key.less_safe_encrypt(&mut out, EncryptionContext::Iv128(FixedLength::from(iv))).map_err(refused)?;
    Ok(out)
}

fn xor(block: &mut [u8], salt: &[u8]) {
    block.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence_number: u16) -> Vec<u8> {
        let mut packet = vec![0x90, 0xef, 0, 0, 0, 0, 3, 0xc0, 0xde, 0xad, 0xbe, 0xef, 0xbe, 0xde, 0, 1, 0xa0, 5, 0, 0];
        packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
        packet.extend((0..100).map(|byte| byte as u8));
        packet
    }

    #[test]
    fn an_independent_implementation_opens_what_is_sealed_across_a_rollover() {
        for profile in Profile::ALL {
            let material: Vec<u8> = (0..2 * (profile.key_len() + profile.salt_len())).map(|byte| byte as u8).collect();
            let server = Srtp::new(profile, &material, false).expect("keys fit");
            let mut client = Srtp::new(profile, &material, true).expect("keys fit");
            for index in (0x7ff0_u64..0x1_0010).step_by(7) {
                let plain = packet(index as u16);
                let mut buffer = [0; 256];
                buffer[..plain.len()].copy_from_slice(&plain);
                let len = server.sealer.seal(&mut buffer, 20, plain.len(), 0xdead_beef, index).expect("room");
                assert_eq!(client.open(&buffer[..len], 20).as_deref(), Some(&plain[..]), "{profile:?} at {index:#x}");
                assert!(client.open(&buffer[..len], 20).is_none(), "a replay is refused");
            }
        }
    }

    #[test]
    fn the_session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let key = 0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes();
        let salt = &0x0EC6_75AD_498A_FEEB_B696_0B3A_ABE6_u128.to_be_bytes()[2..];
        assert_eq!(
            derive::<16>(&key, salt, 0).expect("fits"),
            0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087_u128.to_be_bytes()
        );
        assert_eq!(
            derive::<14>(&key, salt, 2).expect("fits"),
            0x30CB_BC08_863D_8C85_D49D_B34A_9AE1_u128.to_be_bytes()[2..]
        );
        let auth = derive::<16>(&key, salt, 1).expect("fits");
        assert_eq!(auth, 0xCEBE_321F_6FF7_716B_6FD4_AB49_AF25_6A15_u128.to_be_bytes());
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
