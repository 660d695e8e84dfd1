//! Everything that strangers and clients send to a media node. Each function takes any bytes and must neither panic nor
//! break what it asserts.

use std::cell::RefCell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use voiceping_engine::floor_output::FloorOutput;
use voiceping_engine::framing::{FrameQueue, FrameReader, MAX_FRAME, QUEUE};
use voiceping_engine::rtp::{ExtensionIds, Packet, normalise};
use voiceping_engine::stun::{BindingRequest, engine_of};
use voiceping_engine::{Path, Role};

use crate::support::Sim;

/// A connectivity check, or something like it, from anybody.
pub fn stun(data: &[u8]) {
    if let Some(mut request) = BindingRequest::parse(data) {
        let _ = engine_of(request.local_ufrag());
        let _ = request.use_candidate();
        assert!(!request.is_authentic("a password that is in no corpus"), "nobody guesses a password");
        let response = request.success("password", ([192, 0, 2, 1], 9).into()).expect("a request has an answer");
        assert!(BindingRequest::parse(&response).is_none(), "an answer is no request: nothing can bounce");
    }
    with_talk(|talk| {
        let stranger = Path { socket: 0, remote: ([203, 0, 113, 9], 9).into() };
        talk.sim.engine.handle_datagram(talk.sim.now, stranger, data, &mut talk.sim.out);
        assert!(talk.sim.out.sent.is_empty(), "a stranger is not answered");
    });
}

/// A stream of frames: the first half of the bytes says how it is cut and what the other end takes, the second is the stream.
pub fn framing(data: &[u8]) {
    let (cuts, stream) = data.split_at(data.len() / 2);
    let mut whole = Vec::new();
    let at_once = FrameReader::default().read(&mut stream.to_vec(), |frame| whole.push(frame.to_vec()));
    let (mut reader, mut pieces, mut rest) = (FrameReader::default(), Vec::new(), stream);
    let mut in_pieces = Ok(());
    for cut in cuts.iter().chain(std::iter::repeat(&255)) {
        if rest.is_empty() || in_pieces.is_err() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(1 + usize::from(*cut)));
        in_pieces = reader.read(&mut now.to_vec(), |frame| pieces.push(frame.to_vec()));
        rest = later;
    }
    assert_eq!((at_once, &whole), (in_pieces, &pieces), "however it was cut");

    let (mut queue, mut narrow) = (FrameQueue::default(), Narrow::default());
    for (frame, room) in whole.iter().zip(cuts) {
        queue.send(frame, &mut narrow).expect("open");
        narrow.room += usize::from(*room) * 4;
        queue.flush(&mut narrow).expect("open");
        assert!(queue.len() <= QUEUE + MAX_FRAME, "bounded");
    }
    narrow.room = usize::MAX;
    queue.flush(&mut narrow).expect("open");
    let mut arrived = 0;
    FrameReader::default().read(&mut narrow.taken, |_| arrived += 1).expect("whole frames");
    assert_eq!(arrived + queue.dropped(), whole.len().min(cuts.len()) as u64);
}

/// Packets of the floor's holder, each of them sealed as its client would: what is in them is its own affair.
pub fn rtp(data: &[u8]) {
    let ids = ExtensionIds { mid: Some(4), audio_level: Some(1), abs_capture_time: Some(13) };
    let (mut output, mut normal) = (FloorOutput::new(7), Vec::new());
    let now = Instant::now();
    for packet in packets(data) {
        let Some(parsed) = Packet::parse(packet) else { continue };
        let _ = (parsed.payload(), parsed.extensions().count());
        if normalise(&parsed, &ids, &mut normal).is_some() {
            let pushed = output.push(now, 1, &normal).map(|(_, packet)| packet.to_vec());
            assert!(pushed.is_none_or(|packet| Packet::parse(&packet).is_some()), "what goes out is a packet");
        }
    }
    with_talk(|talk| {
        for packet in packets(data) {
            talk.raw(packet);
            talk.say(packet);
        }
        talk.goes_on();
    });
}

/// Reports and requests of a speaker and of a listener, each of them sealed.
pub fn rtcp(data: &[u8]) {
    with_talk(|talk| {
        for packet in packets(data) {
            talk.raw(packet);
            for client in [talk.alice, talk.carol] {
                talk.report(client, packet);
            }
        }
        talk.goes_on();
    });
}

/// Bytes cut into packets, each of which has its length before it. Few, so that an input is quick.
fn packets(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = move || {
        let (len, rest) = data.split_first()?;
        let (packet, later) = rest.split_at(rest.len().min(usize::from(*len) * 2));
        data = later;
        Some(packet)
    };
    std::iter::from_fn(next).take(64)
}

/// Two clients that are connected, the first of whom speaks.
struct Talk {
    sim: Sim,
    alice: usize,
    carol: usize,
    /// Index of her next packet.
    next: u64,
    inputs: usize,
}

/// Inputs until a talk begins anew: connecting takes as long as hundreds of them.
const INPUTS: usize = 200;

fn with_talk(work: impl FnOnce(&mut Talk)) {
    thread_local!(static TALK: RefCell<Option<Talk>> = const { RefCell::new(None) });
    TALK.with_borrow_mut(|talk| {
        if talk.as_ref().is_some_and(|talk| talk.inputs >= INPUTS) {
            *talk = None;
        }
        let talk = talk.get_or_insert_with(Talk::new);
        talk.inputs += 1;
        work(talk);
        talk.sim.out.sent.clear();
    });
}

impl Talk {
    fn new() -> Self {
        let mut sim = Sim::new(1);
        let (alice, carol) = (sim.client("alice", Role::Client), sim.client("carol", Role::Client));
        sim.connect_all();
        sim.produce(alice, "c");
        sim.consume(carol, "c");
        sim.set_floor("c", 1, Some("alice")).expect("first");
        let next = sim.clients[alice].sequence_number.into();
        Self { sim, alice, carol, next, inputs: 0 }
    }

    /// From her address, as it is. A handshake's datagrams would only end her own transport.
    fn raw(&mut self, datagram: &[u8]) {
        if !crate::support::is_dtls(datagram) {
            let path = self.sim.clients[self.alice].path();
            self.sim.engine.handle_datagram(self.sim.now, path, datagram, &mut self.sim.out);
        }
    }

    /// Her next packet, with this in it.
    fn say(&mut self, packet: &[u8]) {
        let Some(header_len) = Packet::parse(packet).map(|packet| packet.header_len()) else { return };
        let client = &self.sim.clients[self.alice];
        let mut sealed = packet.to_vec();
        sealed[2..4].copy_from_slice(&(self.next as u16).to_be_bytes());
        sealed[8..12].copy_from_slice(&client.ssrc.to_be_bytes());
        sealed.resize(packet.len() + 16, 0);
        let srtp = client.srtp.as_ref().expect("connected");
        let Some(len) = srtp.sealer().seal(&mut sealed, header_len, packet.len(), client.ssrc, self.next) else {
            return;
        };
        self.next += 1;
        let path = client.path();
        self.sim.engine.handle_datagram(self.sim.now, path, &sealed[..len], &mut self.sim.out);
    }

    fn report(&mut self, client: usize, packet: &[u8]) {
        let srtp = self.sim.clients[client].srtp.as_mut().expect("connected");
        let Some(sealed) = srtp.seal_rtcp(packet) else { return };
        let path = self.sim.clients[client].path();
        self.sim.engine.handle_datagram(self.sim.now, path, &sealed, &mut self.sim.out);
    }

    /// Whatever was said, time passes and the next packet of voice reaches the listener.
    fn goes_on(&mut self) {
        self.sim.now += Duration::from_millis(20);
        self.sim.engine.handle_timeout(self.sim.now, &mut self.sim.out);
        let voice = [&[0x80, 109, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0x55; 80]].concat();
        self.sim.out.sent.clear();
        self.say(&voice);
        let carol = self.sim.clients[self.carol].path();
        assert!(self.sim.out.sent.iter().any(|(path, _)| *path == carol), "the talk goes on");
        while self.sim.engine.poll_event().is_some() {}
    }
}

/// Takes so many bytes and no more.
#[derive(Default)]
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

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
