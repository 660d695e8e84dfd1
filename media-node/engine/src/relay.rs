//! Talks on their way between nodes: one datagram for each packet and node, sealed in place, opened into a buffer that is kept.
//!
//! ```text
//! 0xF0 · session u32 · sender u8 · counter u48 │ len u16 · channel id · epoch u64 · packet in normal form │ tag
//!            additional authenticated data                    AES-128-GCM (NIST SP 800-38D)
//! ```
//!
//! A node that wants to hear others makes a session with each of them: a number and a key of its own, fresh each time.
//! All workers of the other node seal with that key. The nonce is made of the index of the worker that receives, which is
//! not on the wire, the index of the worker that sends, and its counter, so it never repeats under a key, and a datagram can
//! be opened by no worker but the one it was meant for.
//!
//! A datagram is accepted once (RFC 6479's window, one for each sender). This is needed: the floor output recognises a
//! repeated packet only while it is in place, and would take one of three seconds ago for a speaker who has started anew;
//! and the epoch of a channel that was empty for a while is forgotten. Before it is authentic, a datagram costs a look-up and
//! the opening.
//!
//! Cost model: a relayed packet costs its sender one copy and one seal for each node that has listeners, whatever their
//! number, and its receiver one opening. Neither allocates.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::transport::Path;

/// What every relayed datagram begins with (RFC 7983 section 7 leaves 192 to 255 free).
pub const FIRST_BYTE: u8 = 0xf0;

/// Bytes before what is sealed.
const HEADER_LEN: usize = 12;

/// Where sender and counter are in the header, which are the end of the nonce as well.
const NONCE_PART: std::ops::Range<usize> = 5..12;

const TAG_LEN: usize = 16;

/// Counters are 48 bits: nine years of a million packets a second.
const MAX_COUNTER: u64 = (1 << 48) - 1;

/// The longest channel id that is relayed.
const MAX_CHANNEL: usize = u16::MAX as usize;

/// The key of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayKey([u8; 16]);

impl RelayKey {
    /// From random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &self.0).expect("any sixteen bytes are a key"))
    }
}

impl TryFrom<&[u8]> for RelayKey {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl std::fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelayKey(..)") // keys stay out of logs
    }
}

/// A node that wants to hear talks from here.
#[derive(Debug, Clone)]
pub struct RelayOut {
    /// Its session with this node.
    pub session: u32,
    /// The session's key.
    pub key: RelayKey,
    /// The index of the worker that sends.
    pub sender: u8,
    /// Its workers, in their order: a channel always goes to the same one.
    pub paths: Vec<Path>,
}

/// A number drawn from a channel's id that is the same everywhere (FNV-1a).
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The sending end of a session.
pub(crate) struct Outgoing {
    cipher: LessSafeKey,
    session: u32,
    sender: u8,
    /// Of the next datagram. Nothing may be sealed twice under one: an engine never lets it go back, even if a relay is
    /// removed and added again with the same key.
    counter: u64,
    paths: Vec<Path>,
}

impl Outgoing {
    /// `paths` must not be empty.
    pub(crate) fn new(relay: RelayOut, counter: u64) -> Self {
        let RelayOut { session, key, sender, paths } = relay;
        Self { cipher: key.cipher(), session, sender, counter, paths }
    }

    /// The counter of the next datagram.
    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    /// Writes a packet into `buffer` and seals it. Answers its length and where it goes. `None`: it does not fit.
    pub(crate) fn seal(
        &mut self,
        buffer: &mut [u8],
        (channel, hash): (&str, u64),
        epoch: u64,
        packet: &[u8],
    ) -> Option<(usize, Path)> {
        let len = HEADER_LEN + 2 + channel.len() + 8 + packet.len();
        if channel.len() > MAX_CHANNEL || self.counter > MAX_COUNTER || buffer.len() < len + TAG_LEN {
            return None;
        }
        let receiver = (hash % self.paths.len() as u64) as usize;
        let (header, rest) = buffer.split_at_mut(HEADER_LEN);
        header[0] = FIRST_BYTE;
        header[1..5].copy_from_slice(&self.session.to_be_bytes());
        header[5] = self.sender;
        header[6..].copy_from_slice(&self.counter.to_be_bytes()[2..]);
        self.counter += 1;
        let (plain, tail) = rest.split_at_mut(len - HEADER_LEN);
        let (len_part, rest) = plain.split_at_mut(2);
        let (channel_part, rest) = rest.split_at_mut(channel.len());
        let (epoch_part, packet_part) = rest.split_at_mut(8);
        len_part.copy_from_slice(&(channel.len() as u16).to_be_bytes());
        channel_part.copy_from_slice(channel.as_bytes());
        epoch_part.copy_from_slice(&epoch.to_be_bytes());
        packet_part.copy_from_slice(packet);
        let nonce = nonce(receiver as u8, header);
        let tag = self.cipher.seal_in_place_separate_tag(nonce, Aad::from(&*header), plain).ok()?;
        tail[..TAG_LEN].copy_from_slice(tag.as_ref());
        Some((len + TAG_LEN, self.paths[receiver]))
    }
}

/// The receiving end of a session, in one worker.
pub(crate) struct Incoming {
    cipher: LessSafeKey,
    key: RelayKey,
    receiver: u8,
    windows: Vec<(u8, Window)>,
}

impl Incoming {
    pub(crate) fn new(key: RelayKey, receiver: u8) -> Self {
        Self { cipher: key.cipher(), key, receiver, windows: Vec::new() }
    }

    /// Whether it is this session already.
    pub(crate) fn is(&self, key: &RelayKey, receiver: u8) -> bool {
        self.key == *key && self.receiver == receiver
    }

    /// Opens a datagram of this session into `plain`. `None`: it is forged, or was here before, or may have been.
    pub(crate) fn open(&mut self, datagram: &[u8], plain: &mut Vec<u8>) -> Option<()> {
        let (header, sealed) = datagram.split_at_checked(HEADER_LEN)?;
        let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_LEN)?)?;
        let sender = header[5];
        let mut counter = [0; 8];
        counter[2..].copy_from_slice(&header[6..]);
        let counter = u64::from_be_bytes(counter);
        let window = self.windows.iter_mut().find(|(of, _)| *of == sender).map(|(_, window)| window);
        if window.as_ref().is_some_and(|window| window.has_seen(counter)) {
            return None;
        }
        plain.resize(sealed.len(), 0);
        let nonce = nonce(self.receiver, header);
        self.cipher.open_separate_gather(nonce, Aad::from(header), sealed, tag, plain).ok()?;
        match window {
            Some(window) => window.add(counter),
            None => self.windows.push((sender, Window::starting_with(counter))),
        }
        Some(())
    }
}

/// What is in a datagram.
#[derive(Debug)]
pub(crate) struct Relayed<'a> {
    pub(crate) channel: &'a str,
    pub(crate) epoch: u64,
    pub(crate) packet: &'a [u8],
}

impl<'a> Relayed<'a> {
    /// Parses what was sealed.
    pub(crate) fn parse(plain: &'a [u8]) -> Option<Self> {
        let (len, rest) = plain.split_first_chunk()?;
        let (channel, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let (epoch, packet) = rest.split_first_chunk()?;
        Some(Self { channel: std::str::from_utf8(channel).ok()?, epoch: u64::from_be_bytes(*epoch), packet })
    }
}

/// The session that a datagram belongs to.
pub(crate) fn session(datagram: &[u8]) -> Option<u32> {
    datagram.get(1..5)?.try_into().ok().map(u32::from_be_bytes)
}

/// Four zero bytes, receiver, sender, counter.
fn nonce(receiver: u8, header: &[u8]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4] = receiver;
    nonce[5..].copy_from_slice(&header[NONCE_PART]);
    Nonce::assume_unique_for_key(nonce)
}

/// Which counters of one sender were here (RFC 6479): a ring of blocks of which the newest is filled.
#[derive(Debug)]
struct Window {
    highest: u64,
    blocks: [u64; BLOCKS],
}

const BLOCKS: usize = 32;

/// Datagrams that may arrive out of order and still be accepted: one block is always in use for what is new.
const WINDOW: u64 = (BLOCKS as u64 - 1) * 64;

impl Window {
    fn starting_with(counter: u64) -> Self {
        let mut window = Self { highest: counter, blocks: [0; BLOCKS] };
        window.add(counter);
        window
    }

    /// Whether this counter was here, or is too old to tell.
    fn has_seen(&self, counter: u64) -> bool {
        if counter > self.highest {
            return false;
        }
        self.highest - counter >= WINDOW || self.blocks[block(counter)] & bit(counter) != 0
    }

    fn add(&mut self, counter: u64) {
        if counter > self.highest {
            let passed = (counter / 64 - self.highest / 64).min(BLOCKS as u64);
            for step in 1..=passed {
                self.blocks[block(self.highest + 64 * step)] = 0;
            }
            self.highest = counter;
        }
        self.blocks[block(counter)] |= bit(counter);
    }
}

fn block(counter: u64) -> usize {
    (counter / 64) as usize % BLOCKS
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_counter_is_accepted_once_and_a_late_one_if_it_is_not_too_late(
            steps in proptest::collection::vec((0_u64..8, 0_u64..3000), 1..400),
        ) {
            let mut window = Window::starting_with(5000);
            let (mut seen, mut highest) = (HashSet::from([5000]), 5000_u64);
            for (kind, step) in steps {
                let counter = match kind {
                    0 => highest + step,
                    1..5 => highest + step % 3,
                    _ => highest.saturating_sub(step),
                };
                let expected = seen.contains(&counter) || highest.saturating_sub(counter) >= WINDOW;
                prop_assert_eq!(window.has_seen(counter), expected, "{} of {}", counter, highest);
                if !expected {
                    window.add(counter);
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(relayed) = Relayed::parse(&plain) {
                prop_assert_eq!(2 + relayed.channel.len() + 8 + relayed.packet.len(), plain.len());
            }
        }
    }

    fn outgoing(counter: u64) -> Outgoing {
        let path = Path { socket: 0, remote: ([127, 0, 0, 1], 9).into() };
        let relay = RelayOut { session: 7, key: RelayKey::new([1; 16]), sender: 3, paths: vec![path; 4] };
        Outgoing::new(relay, counter)
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_worker_it_is_for_and_counters_end_where_nonces_would_repeat() {
        let channel = ("c", hash("c"));
        let mut outgoing = outgoing(MAX_COUNTER);
        let mut buffer = [0; 100];
        let (len, _) = outgoing.seal(&mut buffer, channel, 5, b"packet").expect("room");
        assert_eq!(session(&buffer), Some(7));
        let mut plain = Vec::new();
        for receiver in 0..4 {
            let mut incoming = Incoming::new(RelayKey::new([1; 16]), receiver);
            let opened = incoming.open(&buffer[..len], &mut plain).is_some();
            assert_eq!(opened, u64::from(receiver) == channel.1 % 4);
            if opened {
                let relayed = Relayed::parse(&plain).expect("it was sealed here");
                assert_eq!((relayed.channel, relayed.epoch, relayed.packet), ("c", 5, &b"packet"[..]));
                assert!(incoming.open(&buffer[..len], &mut plain).is_none(), "once");
            }
        }
        assert!(outgoing.seal(&mut buffer, channel, 5, b"packet").is_none(), "no counter is left");
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let channel = ("c", hash("c"));
        let mut outgoing = outgoing(0);
        for len in 0..HEADER_LEN + 2 + 1 + 8 + 6 + TAG_LEN {
            assert!(outgoing.seal(&mut vec![0; len], channel, 5, b"packet").is_none(), "{len}");
        }
        assert!(outgoing.seal(&mut [0; HEADER_LEN + 2 + 1 + 8 + 6 + TAG_LEN], channel, 5, b"packet").is_some());
        assert_eq!(outgoing.counter(), 1);
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = RelayKey::try_from(&[0xab; 16][..]).expect("sixteen bytes");
        let path = Path { socket: 0, remote: ([127, 0, 0, 1], 9).into() };
        let printed = format!("{:?}", RelayOut { session: 7, key, sender: 3, paths: vec![path] });
        assert!(!printed.contains("171") && !printed.contains("ab, ") && printed.contains("RelayKey(..)"), "{printed}");
        assert!(RelayKey::try_from(&[0; 15][..]).is_err());
    }
}
