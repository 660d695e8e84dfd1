//! Session keys and what is done with them: RTP and RTCP packets sealed and opened in place (RFC 3711, RFC 7714).
//!
//! Nothing here has state beyond the keys: the index of a packet is the caller's, and so is the question whether it was here
//! before. Called by `srtp.rs` alone.
//!
//! Cost model: sealing works in place, allocates nothing and takes no lock. AES-GCM is the cryptography library's; counter mode
//! and HMAC-SHA1 are RustCrypto's, because a prepared HMAC state is copied there for 136 bytes and nothing is looked up or
//! allocated for a packet: 0.6 of the time. A session of theirs is 0.9 KiB.

use aes::cipher::{InnerIvInit, KeyInit, StreamCipherCore};
use aes::{Aes128Enc, Aes256Enc};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ctr::{CtrCore, flavors};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{KeyError, Profile};

/// What the keys are for: the first of three labels of RFC 3711 section 4.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Rtp = 0,
    Rtcp = 3,
}

/// Bytes of an RTCP header that stay in the clear.
const RTCP_HEADER_LEN: usize = 8;

/// Bytes of the word behind an SRTCP packet: the index, and that it is encrypted (RFC 3711 section 3.4).
const RTCP_WORD_LEN: usize = 4;

/// The bit of that word which says so.
const ENCRYPTED: u32 = 1 << 31;

/// AES in counter mode, the counter a whole block (NIST SP 800-38A appendix B.1).
type Ctr<C> = CtrCore<C, flavors::Ctr128BE>;

pub(super) enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CmSha1(Box<CmSha1>),
}

pub(super) struct CmSha1 {
    key: Aes128Enc,
    salt: [u8; 14],
    auth: Hmac<Sha1>,
}

impl CmSha1 {
    /// RFC 3711 section 4.1.1: (salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16)
    fn apply_key_stream(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        xor(&mut iv, &self.salt);
        Ctr::<&Aes128Enc>::inner_iv_init(&self.key, &iv.into()).apply_keystream_partial(payload.into());
    }

    fn mac(&self, parts: [&[u8]; 2]) -> Hmac<Sha1> {
        let mut mac = self.auth.clone();
        parts.into_iter().for_each(|part| mac.update(part));
        mac
    }
}

impl Cipher {
    /// Derives session keys (RFC 3711 section 4.3). Key and salt must have their profile's length.
    pub(super) fn derive(profile: Profile, master_key: &[u8], master_salt: &[u8], of: Use) -> Result<Self, KeyError> {
        let label = of as u8;
        let key = derive::<32>(master_key, master_salt, label);
        Ok(match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let algorithm = if profile == Profile::AeadAes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
                let key = UnboundKey::new(algorithm, &key[..profile.key_len()])
                    .map_err(|_| KeyError("refused by the cipher".into()))?;
                Self::Gcm { key: LessSafeKey::new(key), salt: derive(master_key, master_salt, label + 2) }
            }
            Profile::Aes128CmSha1_80 => {
                let refused = |_| KeyError("refused by the cipher".into());
                let auth = derive::<20>(master_key, master_salt, label + 1);
                Self::CmSha1(Box::new(CmSha1 {
                    key: Aes128Enc::new_from_slice(&key[..16]).map_err(refused)?,
                    salt: derive(master_key, master_salt, label + 2),
                    auth: <Hmac<Sha1> as Mac>::new_from_slice(&auth).map_err(refused)?,
                }))
            }
        })
    }

    /// Bytes of the tag.
    fn tag_len(&self) -> usize {
        match self {
            Self::Gcm { .. } => 16,
            Self::CmSha1(_) => 10,
        }
    }

    /// See [`super::Sealer::seal`].
    #[inline]
    pub(super) fn seal(
        &self,
        buffer: &mut [u8],
        header_len: usize,
        len: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<usize> {
        match self {
            Self::Gcm { key, salt } => {
                let (header, rest) = buffer.split_at_mut(header_len);
                let (payload, tail) = rest.split_at_mut(len - header_len);
                let tag =
                    key.seal_in_place_separate_tag(nonce(ssrc, index, salt), Aad::from(&*header), payload).ok()?;
                tail.get_mut(..16)?.copy_from_slice(tag.as_ref());
                Some(len + 16)
            }
            Self::CmSha1(cipher) => {
                cipher.apply_key_stream(ssrc, index, buffer.get_mut(header_len..len)?);
                let mac = cipher.mac([&buffer[..len], &((index >> 16) as u32).to_be_bytes()]);
                buffer.get_mut(len..len + 10)?.copy_from_slice(&mac.finalize().into_bytes()[..10]);
                Some(len + 10)
            }
        }
    }

    /// Opens an RTP packet in place: what is left of it is its header and payload. `None`: it is not authentic.
    pub(super) fn open(&self, packet: &mut Vec<u8>, header_len: usize, ssrc: u32, index: u64) -> Option<()> {
        let len = packet.len().checked_sub(self.tag_len()).filter(|len| *len >= header_len)?;
        match self {
            Self::Gcm { key, salt } => {
                let (header, sealed) = packet.split_at_mut(header_len);
                key.open_in_place(nonce(ssrc, index, salt), Aad::from(&*header), sealed).ok()?;
            }
            Self::CmSha1(cipher) => {
                let mac = cipher.mac([&packet[..len], &((index >> 16) as u32).to_be_bytes()]);
                mac.verify_truncated_left(&packet[len..]).ok()?;
                cipher.apply_key_stream(ssrc, index, &mut packet[header_len..len]);
            }
        }
        packet.truncate(len);
        Some(())
    }

    /// Seals an RTCP packet in place, under an index below 2^31 that was not used before.
    pub(super) fn seal_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) -> Option<()> {
        let word = (ENCRYPTED | index).to_be_bytes();
        let (header, payload) = packet.split_at_mut_checked(RTCP_HEADER_LEN)?;
        match self {
            // RFC 7714 section 17: the word comes last, and is authenticated behind the header
            Self::Gcm { key, salt } => {
                let nonce = nonce(ssrc, index.into(), salt);
                let tag = key.seal_in_place_separate_tag(nonce, rtcp_aad(header, word), payload).ok()?;
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&word);
            }
            // RFC 3711 section 3.4: the tag comes last
            Self::CmSha1(cipher) => {
                cipher.apply_key_stream(ssrc, index.into(), payload);
                let tag = cipher.mac([packet, &word]).finalize().into_bytes();
                packet.extend_from_slice(&word);
                packet.extend_from_slice(&tag[..10]);
            }
        }
        Some(())
    }

    /// The index of an SRTCP packet. `None`: it is too short, or says that it is not encrypted.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let (_, tail) = packet.split_at_checked(RTCP_HEADER_LEN)?;
        let word = match self {
            Self::Gcm { .. } => tail.len().checked_sub(RTCP_WORD_LEN),
            Self::CmSha1(_) => tail.len().checked_sub(RTCP_WORD_LEN + self.tag_len()),
        };
        let word = u32::from_be_bytes(*tail[word?..].first_chunk()?);
        (word & ENCRYPTED != 0).then_some(word & !ENCRYPTED)
    }

    /// Opens an SRTCP packet in place. `None`: it is not authentic.
    pub(super) fn open_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) -> Option<()> {
        let trailer = RTCP_WORD_LEN + self.tag_len();
        let len = packet.len().checked_sub(trailer).filter(|len| *len >= RTCP_HEADER_LEN)?;
        match self {
            Self::Gcm { key, salt } => {
                let (header, sealed) = packet.split_at_mut(RTCP_HEADER_LEN);
                let (sealed, word) = sealed.split_last_chunk_mut::<RTCP_WORD_LEN>()?;
                key.open_in_place(nonce(ssrc, index.into(), salt), rtcp_aad(header, *word), sealed).ok()?;
            }
            Self::CmSha1(cipher) => {
                let (authentic, tag) = packet.split_at(len + RTCP_WORD_LEN);
                cipher.mac([authentic, &[]]).verify_truncated_left(tag).ok()?;
                cipher.apply_key_stream(ssrc, index.into(), &mut packet[RTCP_HEADER_LEN..len]);
            }
        }
        packet.truncate(len);
        Some(())
    }
}

fn rtcp_aad(header: &[u8], word: [u8; RTCP_WORD_LEN]) -> Aad<[u8; RTCP_HEADER_LEN + RTCP_WORD_LEN]> {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_WORD_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word);
    Aad::from(aad)
}

/// RFC 7714 sections 8.1 and 9.1: 00 00, SSRC, index in 48 bits, XOR salt
fn nonce(ssrc: u32, index: u64, salt: &[u8; 12]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut nonce, salt);
    Nonce::assume_unique_for_key(nonce)
}

/// The AES-CM key derivation function (RFC 3711 section 4.3.3, RFC 6188 section 3 for 256-bit keys), key derivation rate 0.
pub(super) fn derive<const N: usize>(master_key: &[u8], master_salt: &[u8], label: u8) -> [u8; N] {
    let mut iv = [0; 16];
    iv[..master_salt.len()].copy_from_slice(master_salt);
    iv[7] ^= label;
    let mut out = [0; N];
    if let Ok(key) = Aes256Enc::new_from_slice(master_key) {
        Ctr::inner_iv_init(key, &iv.into()).apply_keystream_partial(out.as_mut_slice().into());
    } else if let Ok(key) = Aes128Enc::new_from_slice(master_key) {
        Ctr::inner_iv_init(key, &iv.into()).apply_keystream_partial(out.as_mut_slice().into());
    }
    out
}

fn xor(block: &mut [u8], salt: &[u8]) {
    block.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
}
