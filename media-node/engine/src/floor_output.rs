//! The floor output: a channel's one virtual producer, whose packets are whatever the floor's holder sends.
//!
//! Maps the sequence numbers and timestamps of changing speakers to one continuous stream, and keeps the last packets for
//! retransmission. Indices are 48-bit packet indices (RFC 3711 section 3.3.1) of which listeners see an offset; nothing
//! here knows of listeners.

use std::time::{Duration, Instant};

use crate::rtp;

/// Opus' RTP clock (RFC 7587 section 4.1).
const CLOCK_RATE: u128 = 48_000;

/// The distance between the last packet of one talk and the first of the next if they follow at once: one 20 ms frame.
const FRAME: u32 = 960;

/// A jump of the speaker's sequence number beyond which it is a new stream rather than loss; not below the replay window,
/// inside which packets may come late.
const MAX_JUMP: i16 = 128;

/// Packets kept for retransmission: 1.28 s, longer than any round trip over which a retransmission is still of use.
pub(crate) const CACHE_LEN: u64 = 64;

/// A channel's outgoing stream.
#[derive(Debug)]
pub struct FloorOutput {
    /// The first index not used yet.
    next_index: u64,
    /// Timestamp of the newest packet and when it came.
    newest: Option<(u32, Instant)>,
    segment: Option<Segment>,
    /// Slot `index % CACHE_LEN`; empty until the first packet, so that a silent channel costs nothing.
    cache: Vec<(u64, Vec<u8>)>,
    first_timestamp: u32,
}

/// A run of packets of one speaker under one epoch.
#[derive(Debug)]
struct Segment {
    epoch: u64,
    ssrc: u32,
    first_index: u64,
    highest_sequence_number: u16,
    highest_index: u64,
    timestamp_offset: u32,
    began: Instant,
}

impl FloorOutput {
    /// A stream that starts at a random timestamp (RFC 3550 section 5.1).
    pub fn new(first_timestamp: u32) -> Self {
        Self { next_index: 1, newest: None, segment: None, cache: Vec::new(), first_timestamp }
    }

    /// Gives a packet in normal form its place in the stream, rewrites its timestamp and marker, and keeps it. Answers its
    /// index and bytes. `None`: it belongs before the talk's first packet, or before the packets that are kept, or its place
    /// is taken: it was here before.
    pub fn push(&mut self, now: Instant, epoch: u64, packet: &[u8]) -> Option<(u64, &[u8])> {
        let header = rtp::Packet::parse(packet)?;
        let (sequence_number, timestamp) = (header.sequence_number(), header.timestamp());
        let ahead = match &self.segment {
            Some(segment) if segment.epoch == epoch && segment.ssrc == header.ssrc() => {
                sequence_number.wrapping_sub(segment.highest_sequence_number) as i16
            }
            _ => i16::MAX,
        };
        let first = !(-MAX_JUMP..=MAX_JUMP).contains(&ahead);
        if first {
            let expected = match self.newest {
                Some((newest, at)) => {
                    let elapsed = now.saturating_duration_since(at).as_nanos() * CLOCK_RATE / 1_000_000_000;
                    newest.wrapping_add((elapsed as u32).max(FRAME))
                }
                None => self.first_timestamp,
            };
            self.segment = Some(Segment {
                epoch,
                ssrc: header.ssrc(),
                first_index: self.next_index,
                highest_sequence_number: sequence_number,
                highest_index: self.next_index,
                timestamp_offset: expected.wrapping_sub(timestamp),
                began: now,
            });
        }
        let segment = self.segment.as_mut()?;
        let ahead = if first { 0 } else { ahead };
        let index = segment.highest_index.checked_add_signed(i64::from(ahead))?;
        if index < segment.first_index || index + CACHE_LEN <= segment.highest_index {
            return None;
        }
        let timestamp = timestamp.wrapping_add(segment.timestamp_offset);
        if self.cache.is_empty() {
            self.cache.resize_with(CACHE_LEN as usize, || (0, Vec::new()));
        }
        let slot = &mut self.cache[(index % CACHE_LEN) as usize];
        if slot.0 == index {
            return None;
        }
        if index >= segment.highest_index {
            segment.highest_index = index;
            segment.highest_sequence_number = sequence_number;
            self.next_index = index + 1;
            self.newest = Some((timestamp, now));
        }
        slot.0 = index;
        slot.1.clear();
        slot.1.extend_from_slice(packet);
        rtp::set_timestamp(&mut slot.1, timestamp);
        rtp::set_marker_and_payload_type(&mut slot.1, first, 0);
        Some((index, &slot.1))
    }

    /// The first index of the talk under this epoch, if it began within this time.
    pub fn begun(&self, now: Instant, epoch: u64, within: Duration) -> Option<u64> {
        let segment = self.segment.as_ref().filter(|segment| segment.epoch == epoch)?;
        (now.saturating_duration_since(segment.began) < within).then_some(segment.first_index)
    }

    /// Whether a packet that comes now under this epoch is of a talk's beginning: its first one, or within this time of it.
    pub fn is_beginning(&self, now: Instant, epoch: u64, within: Duration) -> bool {
        match &self.segment {
            Some(segment) if segment.epoch == epoch => now.saturating_duration_since(segment.began) < within,
            _ => !within.is_zero(),
        }
    }

    /// Keeps no packet any more, until the next one comes.
    pub fn forget(&mut self) {
        self.cache = Vec::new();
    }

    /// The first index not used yet.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// A packet of the present talk that is still kept, with the timestamp that its speaker gave it.
    pub fn as_spoken(&self, index: u64, into: &mut Vec<u8>) -> Option<()> {
        let segment = self.segment.as_ref().filter(|segment| index >= segment.first_index)?;
        let packet = self.cached(index)?;
        let timestamp = rtp::Packet::parse(packet)?.timestamp();
        into.clear();
        into.extend_from_slice(packet);
        rtp::set_timestamp(into, timestamp.wrapping_sub(segment.timestamp_offset));
        Some(())
    }

    /// A packet that is still kept.
    pub fn cached(&self, index: u64) -> Option<&[u8]> {
        let (kept, packet) = self.cache.get((index % CACHE_LEN) as usize)?;
        (*kept == index && index != 0).then_some(packet)
    }

    /// Timestamp of the stream at `now`, for sender reports: the newest packet's, advanced by the time since.
    pub fn timestamp_at(&self, now: Instant) -> Option<u32> {
        let (timestamp, at) = self.newest?;
        let elapsed = now.saturating_duration_since(at).min(Duration::from_secs(3600)).as_nanos();
        Some(timestamp.wrapping_add((elapsed * CLOCK_RATE / 1_000_000_000) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence_number: u16, timestamp: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42];
        rtp::set_ssrc(&mut packet, ssrc);
        rtp::set_sequence_number(&mut packet, sequence_number);
        rtp::set_timestamp(&mut packet, timestamp);
        packet
    }

    fn push(output: &mut FloorOutput, now: Instant, epoch: u64, packet: &[u8]) -> Option<(u64, u32, bool)> {
        output.push(now, epoch, packet).map(|(index, bytes)| {
            let header = rtp::Packet::parse(bytes).expect("valid");
            (index, header.timestamp(), header.marker())
        })
    }

    #[test]
    fn talks_follow_each_other_without_a_gap() {
        let start = Instant::now();
        let mut output = FloorOutput::new(1000);
        assert_eq!(push(&mut output, start, 1, &packet(7, 65535, 50)), Some((1, 1000, true)));
        assert_eq!(push(&mut output, start, 1, &packet(7, 0, 1010)), Some((2, 1960, false)), "across a wrap");
        let later = start + Duration::from_millis(500);
        assert_eq!(push(&mut output, later, 2, &packet(9, 500, 9)), Some((3, 1960 + 24_000, true)), "another speaker");
        assert_eq!(push(&mut output, later, 3, &packet(9, 501, 969)), Some((4, 1960 + 24_960, true)), "at once again");
    }

    #[test]
    fn reordering_within_a_talk_keeps_places_and_what_precedes_it_is_dropped() {
        let now = Instant::now();
        let mut output = FloorOutput::new(0);
        assert_eq!(push(&mut output, now, 1, &packet(7, 10, 0)), Some((1, 0, true)));
        assert_eq!(push(&mut output, now, 1, &packet(7, 12, 1920)), Some((3, 1920, false)));
        assert_eq!(push(&mut output, now, 1, &packet(7, 11, 960)), Some((2, 960, false)));
        assert_eq!(push(&mut output, now, 1, &packet(7, 9, 0)), None);
        for sequence_number in 10..=12 {
            assert_eq!(push(&mut output, now, 1, &packet(7, sequence_number, 0)), None, "it was here before");
        }
        assert_eq!(output.cached(2).map(|packet| packet[12]), Some(42));
        assert_eq!(output.cached(4), None);
    }

    #[test]
    fn what_is_forgotten_leaves_no_memory_and_the_stream_goes_on() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut output = FloorOutput::new(0);
        assert!(output.is_beginning(now, 1, second) && !output.is_beginning(now, 1, Duration::ZERO));
        push(&mut output, now, 1, &packet(7, 10, 0));
        assert!(output.is_beginning(now + second / 2, 1, second) && !output.is_beginning(now + second, 1, second));
        output.forget();
        assert_eq!((output.cache.capacity(), output.cached(1)), (0, None));
        assert_eq!(push(&mut output, now, 1, &packet(7, 12, 1920)), Some((3, 1920, false)));
    }

    #[test]
    fn a_producer_that_starts_anew_in_a_talk_goes_on_where_it_was() {
        let now = Instant::now();
        let mut output = FloorOutput::new(0);
        push(&mut output, now, 1, &packet(7, 10, 0));
        assert_eq!(push(&mut output, now, 1, &packet(8, 30_000, 77)), Some((2, 960, true)), "another SSRC");
        assert_eq!(push(&mut output, now, 1, &packet(8, 5, 99)), Some((3, 1920, true)), "a jump beyond loss");
    }
}
