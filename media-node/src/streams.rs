//! The TCP connections of a worker: ICE over TCP (RFC 6544), the same datagrams in frames (RFC 4571).
//!
//! Each belongs to a transport: it comes from `tcp.rs` with its first check, and is closed when its transport does not need
//! it any more. Read and written by the worker thread alone, which polls them beside its UDP sockets.
//!
//! Cost model: a worker without TCP connections pays one comparison for each datagram that it sends and one more descriptor
//! in its poll. With them, a turn costs one `epoll_wait`, and a packet one system call for each listener over TCP, because
//! nothing else can be batched over streams. Nothing is copied or allocated while a listener keeps up; a slow one loses
//! its oldest packets ([`UNSENT`] bytes in the kernel and a [`FrameQueue`] here).

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use voiceping_engine::framing::{FrameQueue, FrameReader};
use voiceping_engine::{Engine, Path};

use crate::worker::Batch;

/// Bytes that the kernel may hold before it has sent them: old voice must not pile up where nobody can drop it.
const UNSENT: u32 = 2048;

/// Reads in one turn, so that UDP and commands are not kept waiting.
const TURN_READS: usize = 64;

/// Bytes taken by one read: several packets of one speaker.
const READ: usize = 4096;

/// Events taken by one poll; the others stay for the next.
const EVENTS: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Streams {
    poll: Poll,
    events: Events,
    by_number: HashMap<u32, Stream>,
    next: u32,
    /// Which may have something to read, in the order in which they are served.
    readable: VecDeque<u32>,
    /// Which have ended, and the engine does not know it yet.
    ended: Vec<Path>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Stream {
    socket: mio::net::TcpStream,
    remote: SocketAddr,
    reader: FrameReader,
    queue: FrameQueue,
    /// Whether it is in `readable`.
    queued: bool,
}

impl Streams {
    /// None yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            by_number: HashMap::new(),
            next: Path::FIRST_STREAM,
            readable: VecDeque::new(),
            ended: Vec::new(),
            buffer: vec![0; READ].into(),
        })
    }

    /// What becomes readable when a stream wants a turn.
    pub(crate) fn fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Sends a datagram over a stream. One that cannot be sent is lost, as over UDP.
    pub(crate) fn send(&mut self, number: u32, datagram: &[u8]) {
        let Some(stream) = self.by_number.get_mut(&number) else { return };
        if stream.queue.send(datagram, &mut stream.socket).is_err() {
            self.end(number);
        }
    }

    /// Closes a stream that nobody needs any more.
    pub(crate) fn close(&mut self, path: Path) {
        self.by_number.remove(&path.socket);
    }

    fn add(&mut self, socket: TcpStream, remote: SocketAddr) -> io::Result<Path> {
        while self.by_number.contains_key(&self.next) {
            self.next = self.next.checked_add(1).unwrap_or(Path::FIRST_STREAM);
        }
        let number = self.next;
        self.next = self.next.checked_add(1).unwrap_or(Path::FIRST_STREAM);
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(number as usize), interest)?;
        let (reader, queue) = (FrameReader::default(), FrameQueue::default());
        self.by_number.insert(number, Stream { socket, remote, reader, queue, queued: false });
        Ok(Path { socket: number, remote })
    }

    /// Asks the kernel which streams can be read, and writes what waits where it can be written.
    fn poll(&mut self) {
        if self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_err() {
            return; // interrupted: the next turn asks again
        }
        let mut failed = Vec::new();
        for event in &self.events {
            let number = event.token().0 as u32;
            let Some(stream) = self.by_number.get_mut(&number) else { continue };
            if event.is_writable() && stream.queue.flush(&mut stream.socket).is_err() {
                failed.push(number);
            } else if !event.is_readable() && !event.is_error() && !event.is_read_closed() {
                continue;
            } else if !std::mem::replace(&mut stream.queued, true) {
                self.readable.push_back(number);
            }
        }
        for number in failed {
            self.end(number);
        }
    }

    fn end(&mut self, number: u32) {
        if let Some(stream) = self.by_number.remove(&number) {
            self.ended.push(Path { socket: number, remote: stream.remote });
        }
    }
}

/// Takes over a connection whose first frame has come. It is kept if that is a valid check of one of this engine's clients.
pub(crate) fn adopt(
    engine: &mut Engine,
    now: Instant,
    batch: &mut Batch<'_>,
    (socket, remote): (TcpStream, SocketAddr),
    first: &[u8],
) {
    let Ok(path) = batch.streams.add(socket, remote) else { return };
    engine.handle_datagram(now, path, first, batch);
    if !engine.knows_path(&path) {
        batch.streams.close(path);
    }
}

/// A turn of the worker: what has come over streams goes to the engine. Answers whether there may be more.
pub(crate) fn turn(engine: &mut Engine, now: Instant, batch: &mut Batch<'_>) -> bool {
    if !batch.streams.by_number.is_empty() {
        batch.streams.poll();
        for _ in 0..TURN_READS {
            let Some(number) = batch.streams.readable.pop_front() else { break };
            read(engine, now, batch, number);
        }
    }
    for path in std::mem::take(&mut batch.streams.ended) {
        engine.lose_path(path);
    }
    !batch.streams.readable.is_empty()
}

fn read(engine: &mut Engine, now: Instant, batch: &mut Batch<'_>, number: u32) {
    let streams = &mut *batch.streams;
    let Some(stream) = streams.by_number.get_mut(&number) else { return };
    let path = Path { socket: number, remote: stream.remote };
    let len = match stream.socket.read(&mut streams.buffer) {
        Ok(len) if len > 0 => len,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.queued = false; // the next event tells
            return;
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        _ => return streams.end(number),
    };
    // Taken out while the engine, which may answer over the same stream, has what was in them.
    let (mut reader, mut buffer) = (std::mem::take(&mut stream.reader), std::mem::take(&mut streams.buffer));
    let followed = reader.read(&mut buffer[..len], |frame| engine.handle_datagram(now, path, frame, batch));
    let streams = &mut *batch.streams;
    streams.buffer = buffer;
    if followed.is_err() {
        streams.end(number);
    }
    if let Some(stream) = streams.by_number.get_mut(&number) {
        stream.reader = reader;
        streams.readable.push_back(number);
    }
}
