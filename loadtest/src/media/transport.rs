//! One transport of one member: checks, handshake, and the stream that it sends or hears. Knows no socket; what it wants
//! sent goes to a closure.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use voiceping_engine::dtls::Event;
use voiceping_engine::rtp::Packet;
use voiceping_engine::srtp::Srtp;

use super::dtls::{Handshake, Identity};
use super::ice::{Checks, Due};
use super::{Connected, Server, Stream, Talk, reports};
use crate::figures::{Count, Figures, Time, now_ns};
use crate::hearing::{Hearing, Place, Window};
use crate::traffic::FRAME;
use crate::voice::{Recording, Stamp};

/// RTP clock ticks of a frame: 20 ms at 48 kHz (RFC 7587 section 4.2).
const TICKS: u32 = 960;

/// A DTLS timer further away than this is not a handshake's.
const DTLS_IDLE: Duration = Duration::from_secs(3600);

/// Room for the largest packet and its tag.
const MAX_PACKET: usize = 1500;

/// What a transport wants to be woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Frame,
    Check,
    Dtls,
    Report,
}

/// Collects what a transport wants: datagrams to be sent at once, timers.
pub(super) struct Wants<'a> {
    pub(super) send: &'a mut dyn FnMut(&[u8]),
    pub(super) timers: &'a mut Vec<(Instant, Timer)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Transport {
    checks: Checks,
    handshake: Option<Handshake>,
    server: Server,
    srtp: Option<Box<Srtp>>,
    opened: Instant,
    connected: Option<oneshot::Sender<Connected>>,
    dtls_timer: Option<Instant>,
    mouth: Option<Box<Mouth>>,
    ear: Option<Box<Ear>>,
}

/// The stream that is sent.
#[derive(Debug)]
struct Mouth {
    stream: Stream,
    /// Rollover counter and sequence number of the next packet (RFC 3711 section 3.3.1).
    index: u64,
    timestamp: u32,
    packets: u32,
    octets: u32,
    /// When the next frame is due; `None`: nothing is sent.
    due: Option<Instant>,
    talk: Option<(Talk, u32)>,
}

/// The stream that is heard.
#[derive(Debug)]
struct Ear {
    channel: u32,
    hearing: Hearing,
    ssrc: u32,
    own_ssrc: u32,
    /// Sequence numbers, extended over roll-overs: a packet that comes twice is known before SRTP refuses it as a replay.
    highest: u32,
    seen: Window,
}

impl Transport {
    pub(super) fn new(
        now: Instant,
        server: Server,
        stream: Option<Stream>,
        connected: oneshot::Sender<Connected>,
        wants: &mut Wants<'_>,
    ) -> Self {
        wants.timers.push((now, Timer::Check));
        let mouth = stream.map(|stream| {
            // Low enough that the counter cannot roll over before anything is heard of the stream (RFC 3711 section 3.3.1).
            let (index, timestamp) = (u64::from(rand::random::<u16>() >> 1), rand::random());
            Box::new(Mouth { stream, index, timestamp, packets: 0, octets: 0, due: None, talk: None })
        });
        Self {
            checks: Checks::new(now, &server.ufrag, &server.password),
            handshake: None,
            server,
            srtp: None,
            opened: now,
            connected: Some(connected),
            dtls_timer: None,
            mouth,
            ear: None,
        }
    }

    /// From now on, what comes is heard. Answers the channel if this is news.
    pub(super) fn listen(&mut self, channel: u32, hearing: Hearing, now: Instant, wants: &mut Wants<'_>) -> bool {
        if self.ear.is_some() {
            return false; // it consumes anew, and was there all the time
        }
        let (own_ssrc, seen) = (rand::random(), Window::default());
        self.ear = Some(Box::new(Ear { channel, hearing, ssrc: 0, own_ssrc, highest: 0, seen }));
        wants.timers.push((reports::next(now), Timer::Report));
        true
    }

    pub(super) fn hearing(&mut self) -> Option<&mut Hearing> {
        self.ear.as_mut().map(|ear| &mut ear.hearing)
    }

    pub(super) fn channel(&self) -> Option<u32> {
        self.ear.as_ref().map(|ear| ear.channel)
    }

    /// Starts a talk with its first packet.
    pub(super) fn talk(&mut self, now: Instant, talk: Talk, wants: &mut Wants<'_>) {
        let Some(mouth) = self.mouth.as_mut().filter(|_| self.srtp.is_some()) else { return };
        mouth.talk = Some((talk, 0));
        if mouth.due.replace(now).is_none() {
            wants.timers.push((reports::next(now), Timer::Report));
        }
        wants.timers.push((now, Timer::Frame));
    }

    /// Ends the talk after the packet that was sent last.
    pub(super) fn hush(&mut self) {
        let Some(mouth) = &mut self.mouth else { return };
        if let Some((talk, sent)) = mouth.talk.take() {
            let _ = talk.done.send(sent); // its member may be gone
        }
    }

    pub(super) fn timeout(
        &mut self,
        now: Instant,
        timer: Timer,
        (recording, run): (&Recording, u32),
        figures: &mut Figures,
        wants: &mut Wants<'_>,
    ) {
        match timer {
            Timer::Frame => self.frame(now, recording, run, figures, wants),
            Timer::Check => match self.checks.due(now) {
                (Due::Send(request), next) => {
                    (wants.send)(&request);
                    wants.timers.push((next, Timer::Check));
                }
                (Due::Lost, _) => self.fail("no answer to connectivity checks", figures),
            },
            Timer::Dtls => {
                self.dtls_timer = None;
                let Some(handshake) = &mut self.handshake else { return };
                let event = match handshake.poll_timeout() {
                    Some(at) if at <= now => handshake.timeout(now, wants.send),
                    _ => None,
                };
                self.after_dtls(event, now, figures, wants);
            }
            Timer::Report => self.report(now, wants),
        }
    }

    pub(super) fn datagram(
        &mut self,
        now: Instant,
        arrived: u64,
        datagram: &[u8],
        identity: &Identity,
        figures: &mut Figures,
        wants: &mut Wants<'_>,
    ) {
        match datagram {
            [0..=3, ..] => {
                if self.checks.is_answer(now, datagram) && self.handshake.is_none() {
                    let Server { address, fingerprint, .. } = &self.server;
                    let (handshake, event) = Handshake::start(identity, *address, fingerprint, now, wants.send);
                    self.handshake = Some(handshake);
                    self.after_dtls(event, now, figures, wants);
                }
            }
            [20..=63, ..] => {
                let Some(handshake) = &mut self.handshake else { return };
                let event = handshake.datagram(now, datagram, wants.send);
                self.after_dtls(event, now, figures, wants);
            }
            [128..=191, 192..=223, ..] => {} // reports of the server: nothing here depends on them
            [128..=191, ..] => self.rtp(arrived, datagram, figures),
            _ => figures.add(Count::Strays, 1),
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant, wants: &mut Wants<'_>) {
        self.hush();
        if let Some(handshake) = &mut self.handshake {
            handshake.close(now, wants.send);
        }
    }

    fn rtp(&mut self, arrived: u64, datagram: &[u8], figures: &mut Figures) {
        let (Some(ear), Some(srtp)) = (&mut self.ear, &mut self.srtp) else { return };
        let Some(header) = Packet::parse(datagram) else {
            figures.add(Count::Strays, 1);
            return;
        };
        if ear.ssrc != header.ssrc() {
            (ear.ssrc, ear.seen) = (header.ssrc(), Window::default());
            // One roll-over ahead, so that what is older than the first packet has a number too.
            ear.highest = 1 << 16 | u32::from(header.sequence_number());
        }
        let ahead = header.sequence_number().wrapping_sub(ear.highest as u16) as i16;
        let number = ear.highest.wrapping_add_signed(i32::from(ahead));
        if ear.seen.insert(number) == Place::Twice {
            figures.add(Count::Duplicates, 1);
            return;
        }
        ear.highest = ear.highest.max(number);
        let opened = srtp.open(datagram, header.header_len());
        match opened.as_deref().and_then(|opened| Packet::parse(opened)?.payload()) {
            Some(payload) => ear.hearing.packet(payload, arrived, figures),
            None => figures.add(Count::Strays, 1),
        }
    }

    fn frame(&mut self, now: Instant, recording: &Recording, run: u32, figures: &mut Figures, wants: &mut Wants<'_>) {
        let (Some(mouth), Some(srtp)) = (&mut self.mouth, &mut self.srtp) else { return };
        let Some(due) = mouth.due.filter(|due| *due <= now) else { return };
        figures.time(Time::SendLag, now.saturating_duration_since(due));
        let (talk, number, pressed) = match &mouth.talk {
            Some((talk, number)) => (talk.talk, *number, talk.pressed),
            None => (0, mouth.packets, 0),
        };
        if talk != 0 || mouth.stream.open {
            let mut buffer = [0; MAX_PACKET];
            let header_len = mouth.header(&mut buffer, number == 0, talk != 0);
            let payload = recording.payload(number);
            let len = header_len + payload.len();
            buffer[header_len..len].copy_from_slice(payload);
            let stamp = Stamp { run, talk, number, pressed, sent: now_ns() };
            stamp.write(&mut buffer[header_len..len]);
            if let Some(len) = srtp.sealer().seal(&mut buffer, header_len, len, mouth.stream.ssrc, mouth.index) {
                (wants.send)(&buffer[..len]);
            }
            figures.add(if talk == 0 { Count::Idle } else { Count::Sent }, 1);
            mouth.packets += 1;
            mouth.octets = mouth.octets.wrapping_add(payload.len() as u32);
            mouth.index += 1;
        }
        mouth.timestamp = mouth.timestamp.wrapping_add(TICKS);
        if let Some((talk, sent)) = mouth.talk.take() {
            if sent + 1 == talk.frames {
                let _ = talk.done.send(sent + 1); // its member may be gone
            } else {
                mouth.talk = Some((talk, sent + 1));
            }
        }
        // What is late is sent at once, and the clock goes on as it was: as from a microphone.
        mouth.due = (mouth.talk.is_some() || mouth.stream.open).then_some(due + FRAME);
        wants.timers.extend(mouth.due.map(|due| (due, Timer::Frame)));
    }

    fn report(&mut self, now: Instant, wants: &mut Wants<'_>) {
        let Some(srtp) = &mut self.srtp else { return };
        let mut again = false;
        let mut report = None;
        if let Some(ear) = &self.ear {
            again = true;
            report = (ear.ssrc != 0).then(|| reports::heard(ear.own_ssrc, ear.ssrc, ear.highest & 0xffff)).flatten();
        } else if let Some(mouth) = self.mouth.as_ref().filter(|mouth| mouth.due.is_some()) {
            again = true;
            report = reports::sent(mouth.stream.ssrc, now_ns(), mouth.timestamp, mouth.packets, mouth.octets);
        }
        if let Some(sealed) = report.and_then(|report| srtp.seal_rtcp(&report)) {
            (wants.send)(&sealed);
        }
        if again {
            wants.timers.push((reports::next(now), Timer::Report));
        }
    }

    fn after_dtls(&mut self, event: Option<Event>, now: Instant, figures: &mut Figures, wants: &mut Wants<'_>) {
        if let Some(at) = self.handshake.as_ref().and_then(Handshake::poll_timeout)
            && at < now + DTLS_IDLE
            && self.dtls_timer.is_none_or(|set| at < set)
        {
            self.dtls_timer = Some(at);
            wants.timers.push((at, Timer::Dtls));
        }
        match event {
            None => {}
            Some(Event::Connected(srtp)) => {
                self.srtp = Some(srtp);
                let took = now.saturating_duration_since(self.opened);
                figures.time(Time::JoinMedia, took);
                if let Some(connected) = self.connected.take() {
                    let _ = connected.send(Ok(took)); // its member may have given up
                }
                if let Some(mouth) = self.mouth.as_mut().filter(|mouth| mouth.stream.open) {
                    mouth.due = Some(now);
                    wants.timers.extend([(now, Timer::Frame), (reports::next(now), Timer::Report)]);
                }
            }
            Some(Event::CloseNotify) => self.fail("closed by the server", figures),
            Some(Event::Failed(_)) => self.fail("the DTLS handshake failed", figures),
        }
    }

    fn fail(&mut self, why: &'static str, figures: &mut Figures) {
        self.hush();
        match self.connected.take() {
            Some(connected) => {
                let _ = connected.send(Err(why)); // the member counts it
            }
            None => figures.error("media", &why),
        }
        (self.handshake, self.srtp) = (None, None);
    }
}

impl Mouth {
    /// Writes an RTP header with the audio level that browsers send (RFC 3550 section 5.1, RFC 8285, RFC 6464).
    fn header(&self, buffer: &mut [u8], marker: bool, voice: bool) -> usize {
        let Stream { ssrc, payload_type, level: level_id, .. } = self.stream;
        buffer[0] = 0x80 | u8::from(level_id.is_some()) << 4;
        buffer[1] = u8::from(marker) << 7 | payload_type;
        buffer[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        buffer[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        buffer[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let Some(id) = level_id else { return 12 };
        // Voice at -30 dBov, or silence.
        let level = if voice { 0x80 | 30 } else { 127 };
        buffer[12..20].copy_from_slice(&[0xbe, 0xde, 0, 1, id << 4, level, 0, 0]);
        20
    }
}
