//! What members say: real Opus, a few seconds of speech over and over, each packet stamped with who sent it when.
//!
//! The stamp lies in the padding of the Opus packet, so that every decoder takes the packet for what it is: a recorded
//! frame is repacked as a packet of one frame with padding (RFC 6716 section 3.2.5, code 3), whose bytes "the decoder MUST
//! accept" whatever they are. Decoders that look for extensions there (draft-ietf-mlcodec-opus-extension) find one long
//! extension of an unassigned number that lasts to the end of the packet, and skip it.

mod ogg;

/// Bytes of a stamp.
const STAMP_LEN: usize = 28;

/// Number 120, with a length of "all that is left".
const EXTENSION: u8 = 120 << 1;

/// Who sent a packet, and when. Times are in nanoseconds of the Unix epoch, by the clock of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Run of the tool: another's packets are none of ours.
    pub(crate) run: u32,
    /// Talk, counted over all channels from 1; 0: an open microphone to which nobody should listen.
    pub(crate) talk: u32,
    /// Which of the talk's packets, from 0.
    pub(crate) number: u32,
    /// When the speaker pressed.
    pub(crate) pressed: u64,
    /// When the packet was sent.
    pub(crate) sent: u64,
}

impl Stamp {
    /// Writes it into a payload of [`Recording::payload`].
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let at = payload.len() - STAMP_LEN;
        let (words, times) = payload[at..].split_at_mut(12);
        for (bytes, word) in words.chunks_exact_mut(4).zip([self.run, self.talk, self.number]) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        for (bytes, time) in times.chunks_exact_mut(8).zip([self.pressed, self.sent]) {
            bytes.copy_from_slice(&time.to_be_bytes());
        }
    }

    /// Reads it. `None`: not a payload of this tool.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (frame, stamp) = payload.split_at_checked(payload.len().checked_sub(STAMP_LEN)?)?;
        if frame.last() != Some(&EXTENSION) {
            return None;
        }
        let word = |at: usize| stamp[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let time = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        Some(Self { run: word(0), talk: word(4), number: word(8), pressed: time(12), sent: time(20) })
    }
}

/// Recorded speech.
#[derive(Debug)]
pub(crate) struct Recording(Vec<Vec<u8>>);

impl Recording {
    /// The one that comes with the tool: three seconds of a synthetic voice at 32 kbit/s, in frames of 20 ms.
    pub(crate) fn embedded() -> Self {
        // Two headers come first (RFC 7845 section 3).
        let packets = ogg::packets(include_bytes!("voice/speech.opus"));
        Self(packets.iter().skip(2).filter_map(|packet| padded(packet)).collect())
    }

    /// The payload of a packet, with room for its stamp.
    pub(crate) fn payload(&self, number: u32) -> &[u8] {
        &self.0[number as usize % self.0.len()]
    }
}

/// Repacks a packet of one frame (code 0) as one with padding for a stamp.
fn padded(packet: &[u8]) -> Option<Vec<u8>> {
    let (&head, frame) = packet.split_first().filter(|(head, _)| *head & 3 == 0)?;
    let mut out = Vec::with_capacity(packet.len() + 3 + STAMP_LEN);
    // Constant bit rate, with padding, one frame; the length of the padding.
    out.extend_from_slice(&[head | 3, 0x41, 1 + STAMP_LEN as u8]);
    out.extend_from_slice(frame);
    out.push(EXTENSION);
    out.extend_from_slice(&[0; STAMP_LEN]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_speech_of_three_seconds() {
        let recording = Recording::embedded();
        let (count, bytes) = (recording.0.len(), recording.0.iter().map(Vec::len).sum::<usize>());
        assert!((150..300).contains(&count), "{count} frames");
        assert!((90..150).contains(&(bytes / count)), "{} bytes a frame", bytes / count);
    }

    /// Reads a packet as a decoder does (RFC 6716 section 3.2.5).
    fn frame_of(packet: &[u8]) -> &[u8] {
        assert_eq!(packet[0] & 3, 3, "code 3");
        let (count, padding) = (packet[1], usize::from(packet[2]));
        assert_eq!((count & 0x3f, count & 0x40 != 0, count & 0x80 != 0), (1, true, false), "one frame, padded, CBR");
        assert!(padding < 255, "its length is one byte");
        &packet[3..packet.len() - padding]
    }

    #[test]
    fn a_decoder_finds_the_recorded_frames() {
        let recorded = ogg::packets(include_bytes!("voice/speech.opus"));
        for (number, original) in recorded.iter().skip(2).enumerate() {
            let mut payload = Recording::embedded().payload(number as u32).to_vec();
            Stamp { run: 1, talk: 2, number: 3, pressed: 4, sent: u64::MAX }.write(&mut payload);
            assert_eq!(payload[0] & !3, original[0] & !3, "configuration and channels of frame {number}");
            assert_eq!(frame_of(&payload), &original[1..], "frame {number}");
        }
    }

    #[test]
    fn a_stamp_is_read_back_and_other_payloads_have_none() {
        let stamp = Stamp { run: 1, talk: 2, number: u32::MAX, pressed: 1 << 60, sent: (1 << 60) + 5 };
        let mut payload = Recording::embedded().payload(9).to_vec();
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[1 + payload.len() - STAMP_LEN..]), None);
        assert_eq!(Stamp::read(&[0; 100]), None);
    }
}
