//! Datagrams over a stream of bytes (RFC 4571 section 2): two bytes of length before each.
//!
//! Pure bookkeeping for ICE over TCP (RFC 6544), called by the worker that has the connection. A reader keeps at most one
//! unfinished frame. A queue keeps what the socket does not take at once and drops its oldest frames when it is full, because
//! old voice is worth nothing: a slow listener costs [`QUEUE`] bytes and hears the newest.
//!
//! Cost model: a frame that the socket takes at once is written from where it lies, without a copy or an allocation; frames
//! that arrive whole are handed on where they were read.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// The largest frame either way: what the engine sends and accepts as a datagram.
pub const MAX_FRAME: usize = 1500;

/// Bytes that a queue holds: about half a second of voice, and more than any flight of a handshake.
pub const QUEUE: usize = 4096;

const HEADER: usize = 2;

/// A frame is longer than any that an honest client sends: the stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of more than {MAX_FRAME} bytes")]
pub struct Oversized;

/// Takes frames out of a stream, however it was cut.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a frame whose end has not come: less than a whole one.
    unfinished: Vec<u8>,
}

impl FrameReader {
    /// Takes the next bytes of the stream, and passes on each frame that they complete. Empty ones mean nothing.
    pub fn read(&mut self, mut bytes: &mut [u8], mut each: impl FnMut(&mut [u8])) -> Result<(), Oversized> {
        while !self.unfinished.is_empty() {
            let needed = match self.unfinished.first_chunk() {
                Some(header) => HEADER + length(*header)?,
                None => HEADER,
            };
            let (now, later) = bytes.split_at_mut(bytes.len().min(needed - self.unfinished.len()));
            self.unfinished.extend_from_slice(now);
            bytes = later;
            if self.unfinished.len() < needed {
                return Ok(());
            }
            // A header that has just become whole tells how much is needed; it may tell that nothing is.
            if let Some(header) = self.unfinished.first_chunk()
                && self.unfinished.len() == HEADER + length(*header)?
            {
                if let Some(frame) = self.unfinished.get_mut(HEADER..).filter(|frame| !frame.is_empty()) {
                    each(frame);
                }
                self.unfinished.clear();
            }
        }
        while let Some(header) = bytes.first_chunk() {
            let end = HEADER + length(*header)?;
            if bytes.len() < end {
                break;
            }
            let (frame, later) = bytes.split_at_mut(end);
            if end > HEADER {
                each(&mut frame[HEADER..]);
            }
            bytes = later;
        }
        self.unfinished.extend_from_slice(bytes);
        Ok(())
    }
}

fn length(header: [u8; HEADER]) -> Result<usize, Oversized> {
    let length = usize::from(u16::from_be_bytes(header));
    if length <= MAX_FRAME { Ok(length) } else { Err(Oversized) }
}

/// Puts frames into a stream whose other end may be slow.
#[derive(Debug, Default)]
pub struct FrameQueue {
    /// The rest of a frame whose beginning is in the stream already: it cannot be taken back.
    started: Vec<u8>,
    /// Whole frames with their headers.
    waiting: VecDeque<u8>,
    dropped: u64,
}

impl FrameQueue {
    /// Sends a frame, or keeps it until [`Self::flush`]. An error is the stream's end.
    pub fn send(&mut self, frame: &[u8], stream: &mut impl Write) -> io::Result<()> {
        let Some(length) = u16::try_from(frame.len()).ok().filter(|length| usize::from(*length) <= MAX_FRAME) else {
            return Ok(()); // nobody makes such frames, and nobody would take them
        };
        let header = length.to_be_bytes();
        if self.is_empty() {
            let taken = write(stream, |stream| stream.write_vectored(&[IoSlice::new(&header), IoSlice::new(frame)]))?;
            if taken > 0 {
                self.started.extend(header.iter().chain(frame).skip(taken));
                return Ok(());
            }
        }
        while self.waiting.len() + HEADER + frame.len() > QUEUE && self.forget(false) {
            self.dropped += 1;
        }
        self.waiting.extend(header);
        self.waiting.extend(frame);
        Ok(())
    }

    /// Sends what was kept, as far as the stream takes it. An error is the stream's end.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            if !self.started.is_empty() {
                let taken = write(stream, |stream| stream.write(&self.started))?;
                if taken == 0 {
                    return Ok(());
                }
                self.started.drain(..taken);
                continue;
            }
            let mut taken = write(stream, |stream| {
                let (first, second) = self.waiting.as_slices();
                stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            })?;
            if taken == 0 {
                return Ok(());
            }
            while taken > 0 {
                let before = self.waiting.len();
                if !self.forget(taken < self.first_frame()) {
                    break;
                }
                let frame = before - self.waiting.len();
                if taken < frame {
                    self.started.drain(..taken);
                }
                taken = taken.saturating_sub(frame);
            }
        }
        Ok(())
    }

    /// Whether nothing waits for the stream.
    pub fn is_empty(&self) -> bool {
        self.started.is_empty() && self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.started.len() + self.waiting.len()
    }

    /// Frames dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Length of the oldest whole frame with its header; 0 without one.
    fn first_frame(&self) -> usize {
        match (self.waiting.front(), self.waiting.get(1)) {
            (Some(high), Some(low)) => HEADER + usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        }
    }

    /// Takes out the oldest whole frame, into `started` if it has been. Answers whether there was one.
    fn forget(&mut self, started: bool) -> bool {
        let frame = self.first_frame();
        let taken_out = self.waiting.drain(..frame);
        if started {
            self.started.extend(taken_out);
        }
        frame > 0
    }
}

/// Writes what the stream takes now; 0 if it takes nothing.
fn write<W: Write>(stream: &mut W, mut attempt: impl FnMut(&mut W) -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt(stream) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes each time that it is asked, and then none until more are allowed.
    #[derive(Debug, Default)]
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let now = bytes.len().min(self.room);
            if now == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..now]);
            self.room -= now;
            Ok(now)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.write(&slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frames(mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        FrameReader::default().read(&mut bytes, |frame| frames.push(frame.to_vec())).expect("no frame is too long");
        frames
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_stream_at_its_header() {
        let too_long = (MAX_FRAME as u16 + 1).to_be_bytes();
        assert_eq!(FrameReader::default().read(&mut too_long.clone(), |_| panic!("no frame")), Err(Oversized));
        let mut reader = FrameReader::default();
        reader.read(&mut [too_long[0]], |_| panic!("no frame")).expect("half a header");
        assert_eq!(reader.read(&mut [too_long[1]], |_| panic!("no frame")), Err(Oversized));
    }

    #[test]
    fn who_takes_nothing_keeps_the_newest_half_second_waiting() {
        let (mut queue, mut stream) = (FrameQueue::default(), Narrow { room: 10, ..Narrow::default() });
        for number in 0..1000_u16 {
            let mut frame = [7; 160];
            frame[..2].copy_from_slice(&number.to_be_bytes());
            queue.send(&frame, &mut stream).expect("open");
            assert!(queue.len() <= QUEUE + MAX_FRAME, "bounded");
        }
        stream.room = usize::MAX;
        queue.flush(&mut stream).expect("open");
        let numbers: Vec<u16> =
            frames(stream.taken).iter().map(|frame| u16::from_be_bytes([frame[0], frame[1]])).collect();
        let kept = (QUEUE / 162) as u16;
        let newest = 1000 - kept..1000;
        assert_eq!(numbers, std::iter::once(0).chain(newest).collect::<Vec<_>>(), "what was begun, and the newest");
        assert_eq!(queue.dropped(), u64::from(999 - kept));
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn frames_are_read_however_the_stream_is_cut(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in proptest::collection::vec(1_usize..300, 1..20),
        ) {
            let (mut queue, mut stream) = (FrameQueue::default(), Narrow { room: usize::MAX, ..Narrow::default() });
            for frame in &sent {
                queue.send(frame, &mut stream).expect("open");
            }
            let (mut reader, mut read, mut rest) = (FrameReader::default(), Vec::new(), &mut stream.taken[..]);
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at_mut(cut.min(rest.len()));
                reader.read(now, |frame| read.push(frame.to_vec())).expect("no frame is too long");
                rest = later;
            }
            let sent: Vec<_> = sent.into_iter().filter(|frame| !frame.is_empty()).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn a_narrow_stream_gets_whole_frames_in_order(
            sends in proptest::collection::vec((1_usize..1500, 0_usize..2000), 1..60),
        ) {
            let (mut queue, mut stream) = (FrameQueue::default(), Narrow::default());
            for (number, (len, room)) in sends.iter().enumerate() {
                queue.send(&vec![number as u8; *len], &mut stream).expect("open");
                stream.room += room;
                queue.flush(&mut stream).expect("open");
            }
            stream.room = usize::MAX;
            queue.flush(&mut stream).expect("open");
            let read = frames(stream.taken);
            prop_assert_eq!(read.len() as u64 + queue.dropped(), sends.len() as u64);
            prop_assert!(read.is_sorted_by(|a, b| a[0] < b[0]));
            prop_assert!(read.iter().all(|frame| frame.len() == sends[usize::from(frame[0])].0));
        }
    }
}
