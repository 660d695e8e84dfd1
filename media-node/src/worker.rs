//! A worker: one thread, one engine, its sockets. Talks cross to the other workers of the node through bounded rings.
//!
//! The loop's order is its priorities: datagrams, releases that waited for them, what peers relay, commands, timers, and at
//! the end of the turn everything that was written is sent. Nothing is held back for a timer. A turn takes one batch from
//! each socket, so a command waits for no more than that, however far behind the worker is.
//!
//! A worker that is behind has a talk's last packets in its socket when its release comes. A release therefore waits until
//! what had arrived before it has been taken in ([`Waiting`]); everything else, and above all what takes a floor from
//! somebody, is done at once.

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use voiceping_engine::id::{ChannelId, ConnectionId};
use voiceping_engine::{Config, Engine, Event, GatewayEvent, Outbound, Path, Usage};

use crate::events::Events;
use crate::gate_log::GateLog;
use crate::io::{self, BATCH, Receiver, Sender, Sleeper, Waker};
use crate::metrics;
use crate::streams::{self, Streams};
use crate::vitals::{Published, Turns};

/// Packets that may be on their way from one worker to another: more than a second of the busiest talk mix of one core;
/// beyond that the receiver is hopelessly behind, and old voice is dropped.
const RING: usize = 1024;

/// What other threads ask of a worker.
enum Command {
    /// Something to do with the engine, on its thread.
    Work(Work),
    /// The same, after the datagrams that have arrived by now, if the holder of this channel's floor is here.
    HeardOut(ChannelId, Work),
    /// End, after what was queued before.
    Stop,
}

type Work = Box<dyn FnOnce(&mut Engine, Instant, &mut Batch<'_>) + Send>;

/// A release that is put off until what had arrived before it has been taken in: until the sockets have been empty, or as many
/// datagrams have been received as they can hold. The gate's own end is not put off.
struct Waiting {
    work: Work,
    datagrams: usize,
}

/// A packet on its way to another worker's listeners.
struct Relayed {
    channel: ChannelId,
    epoch: u64,
    packet: Box<[u8]>,
}

impl Relayed {
    fn forward(self, engine: &mut Engine, now: Instant, batch: &mut Batch<'_>) {
        engine.handle_relayed(now, &self.channel, self.epoch, &self.packet, batch);
    }
}

/// The handle of a running worker.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    commands: mpsc::Sender<Command>,
    waker: Waker,
}

/// The worker is gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the worker has stopped")]
pub(crate) struct Stopped;

impl Worker {
    /// Has something done with the engine and waits for its answer. Commands of one caller are carried out in order; their
    /// number is bounded by the callers, who wait.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine, Instant, &mut Batch<'_>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let answer = self.ask(work)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Like [`Self::call`], but the command is queued when this returns, and the answer is awaited by the caller.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine, Instant, &mut Batch<'_>) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let (work, answer) = answered(work);
        self.post(Command::Work(work))?;
        Ok(answer)
    }

    /// Like [`Self::ask`], for the release of a channel's floor: what its holder had sent before is forwarded first.
    pub(crate) fn ask_heard_out<T: Send + 'static>(
        &self,
        channel: ChannelId,
        work: impl FnOnce(&mut Engine, Instant, &mut Batch<'_>) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let (work, answer) = answered(work);
        self.post(Command::HeardOut(channel, work))?;
        Ok(answer)
    }

    /// Asks the worker to end.
    pub(crate) fn stop(&self) {
        // One that has stopped already needs no asking.
        let _ = self.post(Command::Stop);
    }

    fn post(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).map_err(|_| Stopped)?;
        self.waker.wake();
        Ok(())
    }
}

fn answered<T: Send + 'static>(
    work: impl FnOnce(&mut Engine, Instant, &mut Batch<'_>) -> T + Send + 'static,
) -> (Work, oneshot::Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    let work = move |engine: &mut Engine, now, batch: &mut Batch<'_>| {
        // The caller may have given up waiting; what it asked for is done all the same.
        let _ = sender.send(work(engine, now, batch));
    };
    (Box::new(work), receiver)
}

/// What several workers will answer to the same question.
#[derive(Debug)]
pub(crate) struct Answers<T>(Result<Vec<oneshot::Receiver<T>>, Stopped>);

impl<T: Send + 'static> Answers<T> {
    /// Has the same done on these workers. When this returns it is queued on all of them.
    pub(crate) fn ask<'a>(
        workers: impl IntoIterator<Item = &'a Worker>,
        work: impl FnOnce(&mut Engine, Instant) -> T + Clone + Send + 'static,
    ) -> Self {
        let ask = |worker: &Worker| {
            let work = work.clone();
            worker.ask(move |engine, now, _| work(engine, now))
        };
        Self::of(workers.into_iter().map(ask))
    }

    /// Of workers that have been asked one by one.
    pub(crate) fn of(asked: impl Iterator<Item = Result<oneshot::Receiver<T>, Stopped>>) -> Self {
        Self(asked.collect())
    }

    /// Waits for all answers.
    pub(crate) async fn all(self) -> Result<Vec<T>, Stopped> {
        let asked = self.0?;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.map_err(|_| Stopped)?);
        }
        Ok(answers)
    }
}

/// What all workers hold.
pub(crate) async fn usage(workers: &[Worker]) -> Result<Usage, Stopped> {
    let of_workers = Answers::ask(workers, |engine, _| engine.usage()).all().await?;
    Ok(of_workers.into_iter().fold(Usage::default(), |sum, one| Usage {
        transports: sum.transports + one.transports,
        producers: sum.producers + one.producers,
        consumers: sum.consumers + one.consumers,
        connections: sum.connections + one.connections,
    }))
}

/// The worker on which a connection lives.
pub(crate) fn home(connection: &ConnectionId, workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    (hasher.finish() % workers as u64) as usize
}

/// The engine's outbound side for one turn: the batch, the sockets it goes to, the rings to the peers.
pub(crate) struct Batch<'a> {
    sender: &'a mut Sender,
    sockets: &'a [UdpSocket],
    socket: &'a mut u32,
    pub(crate) streams: &'a mut Streams,
    peers: &'a mut [Option<Peer>],
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Batch<'_> {
    fn flush(&mut self) {
        self.sender.flush(&self.sockets[*self.socket as usize]);
    }
}

impl Outbound for Batch<'_> {
    fn buffer(&mut self) -> &mut [u8] {
        if self.sender.is_full() {
            self.flush();
        }
        self.sender.buffer()
    }

    fn send(&mut self, len: usize, path: Path) {
        if path.is_stream() {
            let datagram = &self.sender.buffer()[..len];
            return self.streams.send(path.socket, datagram);
        }
        if path.socket != *self.socket {
            // The bytes are in the arena already: send what is before them, then keep them under the other socket.
            self.sender.flush_keeping(&self.sockets[*self.socket as usize], len);
            *self.socket = path.socket;
        }
        self.sender.push(len, path.remote);
    }

    fn relay(&mut self, peers: u64, channel: &ChannelId, epoch: u64, packet: &[u8]) {
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer.as_mut().filter(|_| peers & (1 << at) != 0) else { continue };
            let relayed = Relayed { channel: channel.clone(), epoch, packet: packet.into() };
            if peer.ring.push(relayed).is_ok() {
                peer.wake = true;
            } else {
                peer.full += 1;
            }
        }
    }
}

/// The way to another worker.
struct Peer {
    ring: rtrb::Producer<Relayed>,
    worker: Worker,
    wake: bool,
    /// Packets that had no room.
    full: u64,
}

/// Starts workers over their sockets: `sockets[w]` are those of worker `w`.
pub(crate) fn start(
    sockets: Vec<Vec<UdpSocket>>,
    config: &Config,
    events: &Arc<Events>,
    gate_log: &GateLog,
) -> anyhow::Result<(Vec<Worker>, Vec<thread::JoinHandle<()>>)> {
    let count = sockets.len();
    let mut handles = Vec::with_capacity(count);
    let mut queues = Vec::with_capacity(count);
    for _ in 0..count {
        let (commands, queue) = mpsc::channel();
        let worker = Worker { commands, waker: Waker::new()? };
        handles.push(worker);
        queues.push(queue);
    }
    let mut outgoing: Vec<Vec<Option<Peer>>> = (0..count).map(|_| Vec::new()).collect();
    let mut incoming: Vec<Vec<rtrb::Consumer<Relayed>>> = (0..count).map(|_| Vec::new()).collect();
    for (from, peers) in outgoing.iter_mut().enumerate() {
        for to in 0..count {
            peers.push((from != to).then(|| {
                let (ring, end) = rtrb::RingBuffer::new(RING);
                incoming[to].push(end);
                Peer { ring, worker: handles[to].clone(), wake: false, full: 0 }
            }));
        }
    }
    let mut threads = Vec::with_capacity(count);
    for (index, (((sockets, commands), peers), rings)) in
        sockets.into_iter().zip(queues).zip(outgoing).zip(incoming).enumerate()
    {
        let streams = Streams::new()?;
        let thread = Thread {
            index: index as u32,
            engine: Engine::new(Config { index: index as u8, ..config.clone() }, rand::random()),
            sleeper: Sleeper::new(&sockets, [streams.fd()], handles[index].waker.clone()),
            streams,
            sockets,
            commands,
            peers,
            rings,
            events: Arc::clone(events),
            gate_log: gate_log.clone(),
            published: events.vitals.add_worker(),
            turns: Turns::default(),
        };
        threads.push(thread::Builder::new().name(format!("media-{index}")).spawn(move || thread.run())?);
    }
    Ok((handles, threads))
}

/// What a worker thread owns.
struct Thread {
    index: u32,
    engine: Engine,
    sockets: Vec<UdpSocket>,
    streams: Streams,
    sleeper: Sleeper,
    commands: mpsc::Receiver<Command>,
    peers: Vec<Option<Peer>>,
    rings: Vec<rtrb::Consumer<Relayed>>,
    events: Arc<Events>,
    gate_log: GateLog,
    /// What was done until now, and where it is written down.
    turns: Turns,
    published: Arc<Published>,
}

impl Thread {
    fn run(mut self) {
        // A panic is a bug. A node that has lost a worker would go on to take clients that it cannot serve.
        let _guard = AbortOnPanic;
        let mut turn_ended = Instant::now();
        let mut receiver = Receiver::default();
        let mut sender = Sender::default();
        let mut socket = 0;
        let mut busy = false;
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut unknown: Vec<Relayed> = Vec::new();
        let capacity: usize = self.sockets.iter().map(io::capacity).sum();
        loop {
            if !busy {
                let timeout = self.engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
                self.sleeper.sleep(timeout);
            }
            let now = Instant::now();
            let (sockets, streams) = (&self.sockets, &mut self.streams);
            let mut batch =
                Batch { sender: &mut sender, sockets, socket: &mut socket, streams, peers: &mut self.peers };
            let (mut received, mut emptied) = (0, true);
            for (index, socket) in self.sockets.iter().enumerate() {
                let of_socket = receiver.receive(socket, |remote, datagram| {
                    let path = Path { socket: index as u32, remote };
                    self.engine.handle_datagram(now, path, datagram, &mut batch);
                });
                received += of_socket;
                emptied &= of_socket < BATCH;
            }
            emptied &= !streams::turn(&mut self.engine, now, &mut batch);
            for release in std::mem::take(&mut waiting) {
                let Waiting { work, datagrams } = release;
                if emptied || datagrams <= received {
                    work(&mut self.engine, now, &mut batch);
                } else {
                    waiting.push(Waiting { work, datagrams: datagrams - received });
                }
            }
            // What is in a ring was sent by a worker that had applied its floor, and ours was queued before: a packet of
            // a talk that is not known yet waits until no command is left that was queued before it was taken. And a
            // command is carried out after the packets that were sent before it was queued: the one that begins the next
            // talk does not leave the last packets of this one behind.
            let mut stopped = false;
            loop {
                let command = self.commands.try_recv().ok();
                let waited = unknown.len();
                for ring in &mut self.rings {
                    for _ in 0..ring.slots() {
                        let Ok(relayed) = ring.pop() else { break };
                        if self.engine.knows_epoch(&relayed.channel, relayed.epoch) {
                            relayed.forward(&mut self.engine, now, &mut batch);
                        } else {
                            unknown.push(relayed);
                        }
                    }
                }
                match command {
                    Some(Command::HeardOut(channel, work)) if self.engine.has_holder(&channel) => {
                        waiting.push(Waiting { work, datagrams: capacity });
                    }
                    Some(Command::Work(work) | Command::HeardOut(_, work)) => work(&mut self.engine, now, &mut batch),
                    Some(Command::Stop) => stopped = true,
                    None if unknown.len() == waited => break,
                    None => {}
                }
            }
            for relayed in unknown.drain(..) {
                relayed.forward(&mut self.engine, now, &mut batch);
            }
            self.engine.handle_timeout(now, &mut batch);
            batch.flush();
            if let Some(arrived) = receiver.take_oldest() {
                // A clock that was set back says nothing.
                metrics::turn(arrived.elapsed().unwrap_or_default());
            }
            self.after_turn(now);
            turn_ended = self.publish(&sender, now, turn_ended);
            if stopped {
                return;
            }
            busy = !emptied || !waiting.is_empty();
        }
    }

    /// Writes down what was done until now, and how long this turn and the sleep before it took. Answers when it ended.
    fn publish(&mut self, sender: &Sender, began: Instant, last_ended: Instant) -> Instant {
        let ended = Instant::now();
        let (pushed, bytes_pushed) = sender.pushed();
        self.turns = Turns {
            counters: *self.engine.counters(),
            usage: self.engine.usage(),
            pushed,
            bytes_pushed,
            send_queue: sender.dropped(),
            send_calls: sender.calls(),
            ring_full: self.peers.iter().flatten().map(|peer| peer.full).sum(),
            busy: self.turns.busy + ended.saturating_duration_since(began),
            idle: self.turns.idle + began.saturating_duration_since(last_ended),
        };
        self.published.publish(&self.turns);
        ended
    }

    /// Passes on what the engine has to say, and wakes the peers that were given packets.
    fn after_turn(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Gateway(gateway, event) => {
                    if let GatewayEvent::FloorMediaStarted(channel, epoch) = &event {
                        self.events.vitals.talks.heard(channel, *epoch);
                    }
                    self.events.send(&gateway, event);
                }
                Event::Listening(channel, listening) => {
                    for peer in self.peers.iter().flatten() {
                        let (channel, index) = (channel.clone(), self.index);
                        // A peer that has stopped has nothing to relay.
                        let _ = peer.worker.post(Command::Work(Box::new(move |engine, now, batch| {
                            engine.set_peer_listening(now, &channel, index, listening);
                            if listening {
                                engine.replay_to_peer(now, &channel, index, batch);
                            }
                        })));
                    }
                    // Last: when others hear of it, so have the peers that may get the talk.
                    self.events.listening(channel, listening);
                }
                Event::NewerEpoch(channel, epoch) => {
                    for peer in self.peers.iter().flatten() {
                        let channel = channel.clone();
                        // A peer that has stopped has no gate.
                        let _ = peer.worker.post(Command::Work(Box::new(move |engine, now, _| {
                            engine.adopt_epoch(now, &channel, epoch);
                        })));
                    }
                }
                Event::StreamUnused(path) => self.streams.close(path),
                // Every worker knows every gate; packets pass on the connection's own.
                Event::Gate(gate) => {
                    if home(&gate.connection, self.peers.len()) == self.index as usize {
                        let trace = self.events.vitals.talks.trace(&gate.channel, gate.epoch);
                        self.gate_log.record(now, &gate, trace.as_deref());
                        self.events.vitals.gate(&gate);
                    }
                }
            }
        }
        for peer in self.peers.iter_mut().flatten() {
            if std::mem::take(&mut peer.wake) {
                peer.worker.waker.wake();
            }
        }
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a media worker has panicked; the process ends, so that its clients move elsewhere");
            // Another thread writes the log.
            thread::sleep(Duration::from_millis(200));
            std::process::abort();
        }
    }
}
