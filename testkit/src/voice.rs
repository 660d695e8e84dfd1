//! Voice whose every frame says who spoke it and which of his frames it is, so that a listener can tell what is missing,
//! doubled, out of place or somebody else's. The media node never looks into a payload, so it need not be Opus.

use bytes::{BufMut, Bytes, BytesMut};
use rtc::rtp::Packet;

/// RTP clock ticks in one frame: 20 ms at 48 kHz (RFC 7587 section 4.2).
pub const FRAME_TICKS: u32 = 960;

/// Bytes of a frame: 20 ms of Opus at 32 kbit/s.
const FRAME_LEN: usize = 80;

const MAGIC: u32 = 0x564f_4943; // "VOIC"

/// The payload of a speaker's frame.
pub fn frame(speaker: u32, number: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_LEN);
    bytes.put_u32(MAGIC);
    bytes.put_u32(speaker);
    bytes.put_u32(number);
    // What follows depends on both, so that a payload that was mixed or cut is noticed.
    bytes.extend((bytes.len()..FRAME_LEN).map(|at| (speaker as usize ^ number as usize ^ at) as u8));
    bytes.freeze()
}

/// A packet as a listener got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who spoke.
    pub speaker: u32,
    /// Which of the speaker's frames.
    pub number: u32,
    /// RTP header.
    pub sequence_number: u16,
    /// RTP header.
    pub timestamp: u32,
    /// RTP header.
    pub marker: bool,
    /// RTP header.
    pub payload_type: u8,
    /// RTP header.
    pub ssrc: u32,
    /// Header extensions, by id.
    pub extensions: Vec<(u8, Bytes)>,
}

impl Heard {
    /// Reads a packet. `None`: its payload is not a frame, exactly as it was spoken.
    pub fn read(packet: &Packet) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(packet.payload.get(at..at + 4)?.try_into().ok()?));
        let (speaker, number) = (word(4)?, word(8)?);
        let header = &packet.header;
        (packet.payload == frame(speaker, number)).then(|| Self {
            speaker,
            number,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload_type: header.payload_type,
            ssrc: header.ssrc,
            extensions: header.extensions.iter().map(|extension| (extension.id, extension.payload.clone())).collect(),
        })
    }
}

/// Checks that packets are one continuous RTP stream, as every decoder wants it, whoever spoke them: one SSRC and payload
/// type, sequence numbers without gap, timestamps that move on by a frame inside a talk and by at least a frame between
/// talks, and the marker on the first packet of each talk (of which `talks` gives the lengths) and nowhere else.
pub fn assert_one_stream(heard: &[Heard], talks: &[usize]) {
    let starts: Vec<usize> = talks
        .iter()
        .scan(0, |start, len| {
            *start += len;
            Some(*start - len)
        })
        .collect();
    assert_eq!(heard.len(), talks.iter().sum::<usize>(), "packets of talks {talks:?}");
    for (at, packet) in heard.iter().enumerate() {
        assert_eq!(packet.ssrc, heard[0].ssrc, "SSRC of packet {at}");
        assert_eq!(packet.payload_type, heard[0].payload_type, "payload type of packet {at}");
        assert_eq!(packet.marker, starts.contains(&at), "marker of packet {at}: {packet:?}");
        let Some(before) = at.checked_sub(1).map(|before| &heard[before]) else { continue };
        assert_eq!(packet.sequence_number, before.sequence_number.wrapping_add(1), "sequence number of packet {at}");
        let ticks = packet.timestamp.wrapping_sub(before.timestamp);
        if starts.contains(&at) {
            // At least a frame, and no more than the time that can have passed in a test.
            assert!((FRAME_TICKS..48_000 * 120).contains(&ticks), "talk at packet {at} begins {ticks} ticks later");
        } else {
            assert_eq!(packet.speaker, before.speaker, "speaker of packet {at}");
            assert_eq!(packet.number, before.number + 1, "frame number of packet {at}");
            assert_eq!(ticks, FRAME_TICKS, "timestamp of packet {at}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_and_a_changed_one_is_not() {
        let mut packet = Packet { payload: frame(7, 1000), ..Default::default() };
        let heard = Heard::read(&packet).expect("a frame");
        assert_eq!((heard.speaker, heard.number), (7, 1000));
        packet.payload = packet.payload.slice(..FRAME_LEN - 1);
        assert_eq!(Heard::read(&packet), None);
    }
}
