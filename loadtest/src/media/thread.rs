//! A media thread: sleeps until a datagram, a command or a timer, deals with all that is there, and sleeps again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use mio::{Events, Poll, Token, Waker};

use super::transport::{Timer, Transport, Wants};
use super::wires::{Datagram, Wire, Wires};
use super::{Command, Shared, TransportId};
use crate::figures::{Figures, Recorder};
use crate::hearing::Over;

const WAKER: Token = Token(usize::MAX);

/// Sockets whose readiness is told at once.
const EVENTS: usize = 256;

/// See the module.
pub(super) struct Thread {
    shared: Arc<Shared>,
    poll: Poll,
    wires: Wires,
    commands: mpsc::Receiver<Command>,
    figures: Arc<Recorder>,
    /// By [`TransportId`].
    transports: Vec<Option<Box<(Transport, Wire)>>>,
    listeners_by_channel: HashMap<u32, Vec<TransportId>>,
    timers: BinaryHeap<Reverse<(Instant, Timer, u32)>>,
    /// Kept, so that a turn allocates nothing.
    wanted: Vec<(Instant, Timer)>,
}

impl Thread {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        figures: Arc<Recorder>,
        transports: usize,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let wires = Wires::new(poll.registry().try_clone()?);
        let thread = Self {
            shared,
            poll,
            wires,
            commands,
            figures,
            transports: std::iter::repeat_with(|| None).take(transports).collect(),
            listeners_by_channel: HashMap::new(),
            timers: BinaryHeap::new(),
            wanted: Vec::new(),
        };
        Ok((thread, waker))
    }

    pub(super) fn run(mut self) {
        let figures = Arc::clone(&self.figures);
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let next = self.timers.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, next) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("epoll does not fail: {error}"),
                _ => {}
            }
            let mut figures = figures.lock();
            for event in &events {
                if event.token() != WAKER {
                    self.receive(event.token().0, &mut figures);
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                if let Command::Stop = command {
                    return;
                }
                self.carry_out(command, &mut figures);
            }
            self.timeouts(&mut figures);
        }
    }

    /// Readiness is told once: all that is there has to be read.
    fn receive(&mut self, port: usize, figures: &mut Figures) {
        loop {
            let Self { shared, wires, transports, timers, wanted, .. } = self;
            let now = Instant::now();
            // What transports want to send goes out when the batch has been read: its buffer and sockets are in use.
            let mut out: Vec<(Wire, Vec<u8>)> = Vec::new();
            let more = wires.receive(port, |Datagram { id, arrived, bytes }| {
                // One that has been closed may still be sent something.
                let slot = transports.get_mut(id.0 as usize).and_then(|slot| slot.as_deref_mut());
                let Some((transport, wire)) = slot else { return };
                let send = &mut |bytes: &[u8]| out.push((*wire, bytes.to_vec()));
                let mut wants = Wants { send, timers: wanted };
                transport.datagram(now, arrived, bytes, &shared.identity, figures, &mut wants);
                timers.extend(wanted.drain(..).map(|(at, timer)| Reverse((at, timer, id.0))));
            });
            out.iter().for_each(|(wire, bytes)| wires.send(wire, bytes));
            if !more {
                return;
            }
        }
    }

    fn carry_out(&mut self, command: Command, figures: &mut Figures) {
        let now = Instant::now();
        match command {
            Command::Open { id, server, stream, connected } => match self.wires.attach(id, server.address) {
                Ok(wire) => {
                    let mut wants = Wants { send: &mut |_| {}, timers: &mut self.wanted };
                    let transport = Transport::new(now, server, stream, connected, &mut wants);
                    self.transports[id.0 as usize] = Some(Box::new((transport, wire)));
                    self.keep_timers(id);
                }
                Err(error) => {
                    figures.error("socket", &error);
                    let _ = connected.send(Err("no socket")); // the member may have given up
                }
            },
            Command::Listen { id, channel, hearing } => {
                let news = self.with(id, |transport, wants| transport.listen(channel, hearing, now, wants));
                if news == Some(true) {
                    self.listeners_by_channel.entry(channel).or_default().push(id);
                }
            }
            Command::There { id, since } => {
                self.with(id, |transport, _| {
                    if let Some(hearing) = transport.hearing() {
                        hearing.there(since);
                    }
                });
            }
            Command::Talk { id, talk } => {
                self.with(id, |transport, wants| transport.talk(now, talk, wants));
            }
            Command::Hush { id } => {
                self.with(id, |transport, _| transport.hush());
            }
            Command::Over(over) => self.over(&over, figures),
            Command::Close { id, done } => {
                let channel = self.with(id, |transport, wants| {
                    transport.close(now, wants);
                    transport.channel()
                });
                if let Some(listeners) =
                    channel.flatten().and_then(|channel| self.listeners_by_channel.get_mut(&channel))
                {
                    listeners.retain(|listener| *listener != id);
                }
                self.transports[id.0 as usize] = None;
                let _ = done.send(()); // its member may have been given up
            }
            Command::Addresses(answer) => {
                let _ = answer.send(self.wires.addresses()); // whoever asked may be gone
            }
            Command::Stop => {}
        }
    }

    fn over(&mut self, over: &Over, figures: &mut Figures) {
        for id in self.listeners_by_channel.get(&over.channel).into_iter().flatten() {
            let slot = self.transports[id.0 as usize].as_deref_mut();
            if let Some(hearing) = slot.and_then(|(transport, _)| transport.hearing()) {
                hearing.over(over, figures);
            }
        }
    }

    fn timeouts(&mut self, figures: &mut Figures) {
        let shared = Arc::clone(&self.shared);
        loop {
            let now = Instant::now();
            match self.timers.peek() {
                Some(Reverse((at, ..))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((_, timer, id))) = self.timers.pop() else { return };
            self.with(TransportId(id), |transport, wants| {
                transport.timeout(now, timer, (&shared.recording, shared.run), figures, wants);
            });
        }
    }

    /// Does something with a transport, sends what it wants at once, and keeps its timers. `None`: it has been closed.
    fn with<T>(&mut self, id: TransportId, work: impl FnOnce(&mut Transport, &mut Wants<'_>) -> T) -> Option<T> {
        let Self { transports, wires, wanted, .. } = self;
        let (transport, wire) = transports.get_mut(id.0 as usize)?.as_deref_mut()?;
        let result = work(transport, &mut Wants { send: &mut |bytes| wires.send(wire, bytes), timers: wanted });
        self.keep_timers(id);
        Some(result)
    }

    fn keep_timers(&mut self, id: TransportId) {
        self.timers.extend(self.wanted.drain(..).map(|(at, timer)| Reverse((at, timer, id.0))));
    }
}
