//! RTP headers (RFC 3550 section 5.1) and header extensions (RFC 8285), read and rewritten in place.
//!
//! The hot path's only parser: it borrows, never allocates, and refuses what does not fit its datagram. Two forms exist:
//! what a client sent, and the *normal form* in which a talk travels inside the node (12-byte header, no CSRC, no
//! padding, one-byte extensions with this node's ids), so that everything that depends on the speaker is done once per
//! packet and only SSRC, sequence number, timestamp and payload type remain for each listener.

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 12;

/// The header extensions that reach listeners, with the ids under which they are announced to every client.
pub mod extension {
    /// Client-to-mixer audio level (RFC 6464).
    pub const AUDIO_LEVEL: u8 = 10;
    /// `abs-capture-time`.
    pub const ABS_CAPTURE_TIME: u8 = 13;
    /// URI of the media identification (RFC 8843), which only the node reads.
    pub const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// URI of [`AUDIO_LEVEL`].
    pub const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// URI of [`ABS_CAPTURE_TIME`].
    pub const ABS_CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
}

/// The ids that one producer uses for the extensions this node cares about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// Of the MID.
    pub mid: Option<u8>,
    /// Of the audio level.
    pub audio_level: Option<u8>,
    /// Of the absolute capture time.
    pub abs_capture_time: Option<u8>,
}

/// A parsed packet that borrows its datagram.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    /// End of the fixed header, CSRCs and extension block.
    header_len: usize,
    extension: Option<(u16, usize, usize)>,
}

impl<'a> Packet<'a> {
    /// Parses the header of an RTP or SRTP packet. `None`: not RTP version 2, or shorter than it says.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER_LEN || bytes[0] >> 6 != 2 {
            return None;
        }
        let mut header_len = HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
        let mut extension = None;
        if bytes[0] & 0x10 != 0 {
            let block = bytes.get(header_len..header_len + 4)?;
            let profile = u16::from_be_bytes([block[0], block[1]]);
            let len = 4 * usize::from(u16::from_be_bytes([block[2], block[3]]));
            extension = Some((profile, header_len + 4, header_len + 4 + len));
            header_len += 4 + len;
        }
        (header_len <= bytes.len()).then_some(Self { bytes, header_len, extension })
    }

    /// The sequence number.
    pub fn sequence_number(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The timestamp, in units of 1/48000 s for Opus (RFC 7587).
    pub fn timestamp(&self) -> u32 {
        read_u32(self.bytes, 4)
    }

    /// The synchronization source.
    pub fn ssrc(&self) -> u32 {
        read_u32(self.bytes, 8)
    }

    /// The payload type.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// Bytes before the payload.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The payload without padding. Only of a packet that is not encrypted. `None`: the padding is longer than the packet.
    pub fn payload(&self) -> Option<&'a [u8]> {
        let padding = if self.bytes[0] & 0x20 != 0 { usize::from(*self.bytes.last()?) } else { 0 };
        self.bytes.get(self.header_len..self.bytes.len().checked_sub(padding)?)
    }

    /// The elements of the header extension as (id, data), in either form of RFC 8285; stops where it is malformed.
    pub fn extensions(&self) -> Extensions<'a> {
        match self.extension {
            Some((0xbede, start, end)) => Extensions { data: &self.bytes[start..end], two_byte: false },
            Some((profile, start, end)) if profile & 0xfff0 == 0x1000 => {
                Extensions { data: &self.bytes[start..end], two_byte: true }
            }
            _ => Extensions { data: &[], two_byte: false },
        }
    }

    /// The data of the extension with this id.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find_map(|(found, data)| (found == id).then_some(data))
    }
}

/// See [`Packet::extensions`].
#[derive(Debug)]
pub struct Extensions<'a> {
    data: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.data.first() == Some(&0) {
            self.data = &self.data[1..];
        }
        let &first = self.data.first()?;
        let (id, len, head) = if self.two_byte {
            (first, usize::from(*self.data.get(1)?), 2)
        } else {
            if first >> 4 == 15 {
                return None; // RFC 8285 section 4.2: stop processing
            }
            (first >> 4, usize::from(first & 0x0f) + 1, 1)
        };
        let data = self.data.get(head..head + len)?;
        self.data = &self.data[head + len..];
        Some((id, data))
    }
}

/// Writes the normal form of a decrypted packet into `out`, which is cleared first. `None`: the packet is malformed or has
/// no payload.
pub fn normalise(packet: &Packet<'_>, ids: &ExtensionIds, out: &mut Vec<u8>) -> Option<()> {
    let payload = packet.payload().filter(|payload| !payload.is_empty())?;
    out.clear();
    out.extend_from_slice(&packet.bytes[..HEADER_LEN]);
    out[0] = 0x80;
    for (from, to) in [(ids.audio_level, extension::AUDIO_LEVEL), (ids.abs_capture_time, extension::ABS_CAPTURE_TIME)] {
        let Some(data) = from.and_then(|id| packet.extension(id)) else { continue };
        if data.is_empty() || data.len() > 16 {
            continue;
        }
        if out.len() == HEADER_LEN {
            out.extend_from_slice(&[0xbe, 0xde, 0, 0]);
        }
        out.push(to << 4 | (data.len() - 1) as u8);
        out.extend_from_slice(data);
    }
    if out.len() > HEADER_LEN {
        while !out.len().is_multiple_of(4) {
            out.push(0);
        }
        out[0] |= 0x10;
        let words = ((out.len() - HEADER_LEN - 4) / 4) as u16;
        out[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&words.to_be_bytes());
    }
    out.extend_from_slice(payload);
    Some(())
}

/// Overwrites marker and payload type.
pub fn set_marker_and_payload_type(packet: &mut [u8], marker: bool, payload_type: u8) {
    packet[1] = u8::from(marker) << 7 | (payload_type & 0x7f);
}

/// Overwrites the sequence number.
pub fn set_sequence_number(packet: &mut [u8], sequence_number: u16) {
    packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
}

/// Overwrites the timestamp.
pub fn set_timestamp(packet: &mut [u8], timestamp: u32) {
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
}

/// Overwrites the synchronization source.
pub fn set_ssrc(packet: &mut [u8], ssrc: u32) {
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDS: ExtensionIds = ExtensionIds { mid: Some(4), audio_level: Some(2), abs_capture_time: None };

    #[test]
    fn normal_form_keeps_only_what_listeners_may_see_under_our_ids() {
        // one CSRC, extensions: id 4 "0" (MID), id 2 audio level, padding of 4 in the payload
        let packet = [
            0xb1, 0xef, 0x12, 0x34, 0, 0, 0, 9, 1, 2, 3, 4, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 0x40, b'0', 0x20, 0x85, 7, 8,
            0, 0, 0, 4,
        ];
        let parsed = Packet::parse(&packet).expect("valid");
        assert_eq!((parsed.sequence_number(), parsed.timestamp(), parsed.ssrc()), (0x1234, 9, 0x0102_0304));
        assert_eq!((parsed.payload_type(), parsed.marker()), (111, true));
        assert_eq!(parsed.extension(4), Some(&b"0"[..]));
        let mut out = Vec::new();
        normalise(&parsed, &IDS, &mut out).expect("valid");
        assert_eq!(out, [0x90, 0xef, 0x12, 0x34, 0, 0, 0, 9, 1, 2, 3, 4, 0xbe, 0xde, 0, 1, 0xa0, 0x85, 0, 0, 7, 8]);
    }

    #[test]
    fn two_byte_extensions_are_read() {
        let packet = [0x90, 111, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 0x10, 0, 0, 1, 2, 1, 0x85, 0, 7];
        let parsed = Packet::parse(&packet).expect("valid");
        assert_eq!(parsed.extension(2), Some(&[0x85][..]));
    }

    #[test]
    fn what_is_shorter_than_it_says_is_refused() {
        assert!(Packet::parse(&[0x80; 11]).is_none(), "shorter than the fixed header");
        assert!(Packet::parse(&[0x8f; 40]).is_none(), "fewer bytes than its CSRCs");
        assert!(Packet::parse(&[0x40; 40]).is_none(), "version 1");
        let long_extension = [0x90, 111, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 0xbe, 0xde, 0, 9, 0];
        assert!(Packet::parse(&long_extension).is_none());
        let padding = [0xa0, 111, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 7, 200];
        assert!(Packet::parse(&padding).expect("the header is valid").payload().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_a_normal_form_parses_to_the_same_payload(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(packet) = Packet::parse(&bytes) {
                let _ = packet.extensions().count();
                let mut out = Vec::new();
                let ids = ExtensionIds { mid: Some(1), audio_level: Some(2), abs_capture_time: Some(3) };
                if normalise(&packet, &ids, &mut out).is_some() {
                    let again = Packet::parse(&out).expect("a normal form is valid");
                    prop_assert_eq!(again.payload(), packet.payload());
                    prop_assert_eq!(again.ssrc(), packet.ssrc());
                }
            }
        }
    }
}
