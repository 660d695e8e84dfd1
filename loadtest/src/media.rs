//! The lean client's media: ICE, DTLS, SRTP and RTP of thousands of members on a few threads.
//!
//! [`Media`] is the members' handle: it passes commands to the thread to which a transport belongs. Each member may have two
//! transports, [`Side::Send`] and [`Side::Recv`], with numbers of their own. Threads record what is heard into figures of
//! their own; what a member has to know (connected, last packet of a talk sent) it is told through channels.

mod dtls;
mod ice;
mod reports;
mod thread;
mod transport;
mod wires;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use voiceping_engine::Fingerprint;
use voiceping_engine::srtp::Profile;

use self::dtls::Identity;
use crate::figures::Recorder;
use crate::hearing::{Hearing, Over};
use crate::voice::Recording;

pub(crate) use wires::source;

/// Which of a member's transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The microphone's.
    Send,
    /// The loudspeaker's.
    Recv,
}

/// A transport: its member's number, and its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportId(pub(crate) u32);

impl TransportId {
    pub(crate) fn new(member: u32, side: Side) -> Self {
        Self(2 * member + u32::from(side == Side::Recv))
    }
}

/// The server's side of a transport.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) fingerprint: Fingerprint,
}

/// A stream that a member sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    /// Id of the audio level's header extension (RFC 6464).
    pub(crate) level: Option<u8>,
    /// Whether it goes on while nobody talks.
    pub(crate) open: bool,
}

/// A talk to be sent.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) talk: u32,
    pub(crate) pressed: u64,
    pub(crate) frames: u32,
    /// Told how many packets were sent, when the last one has been.
    pub(crate) done: oneshot::Sender<u32>,
}

/// Why a transport did not come up.
pub(crate) type Connected = Result<std::time::Duration, &'static str>;

/// What a thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Open {
        id: TransportId,
        server: Server,
        stream: Option<Stream>,
        connected: oneshot::Sender<Connected>,
    },
    Listen {
        id: TransportId,
        channel: u32,
        hearing: Hearing,
    },
    /// The listener is all there, since this time.
    There {
        id: TransportId,
        since: u64,
    },
    Talk {
        id: TransportId,
        talk: Talk,
    },
    /// Ends the talk of this transport after the packet that was sent last.
    Hush {
        id: TransportId,
    },
    /// A talk has ended and its packets have had time to arrive.
    Over(Over),
    /// Says goodbye, and tells when it is done: what the server says after that is not listened to.
    Close {
        id: TransportId,
        done: oneshot::Sender<()>,
    },
    /// Asks for the addresses at which members listen.
    Addresses(oneshot::Sender<Vec<SocketAddr>>),
    Stop,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    run: u32,
    identity: Identity,
    recording: Recording,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Media {
    threads: Vec<Handle>,
    fingerprint: Fingerprint,
}

#[derive(Debug)]
struct Handle {
    commands: mpsc::Sender<Command>,
    waker: Arc<mio::Waker>,
    figures: Arc<Recorder>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Media {
    /// Starts the threads, with room for the transports of this many members.
    pub(crate) fn start(run: u32, threads: usize, members: u32, profile: Option<Profile>) -> Result<Self> {
        let identity = Identity::new(profile)?;
        let fingerprint = identity.fingerprint();
        let shared = Arc::new(Shared { run, identity, recording: Recording::embedded() });
        let start = |index| {
            let (commands, queue) = mpsc::channel();
            let figures = Arc::new(Recorder::default());
            let thread = thread::Thread::new(Arc::clone(&shared), queue, Arc::clone(&figures), 2 * members as usize);
            let (thread, waker) = thread.context("a media thread cannot start")?;
            let thread = std::thread::Builder::new().name(format!("load-{index}")).spawn(move || thread.run())?;
            Ok(Handle { commands, waker, figures, thread: Mutex::new(Some(thread)) })
        };
        Ok(Self { threads: (0..threads).map(start).collect::<Result<_>>()?, fingerprint })
    }

    /// The fingerprint of the certificate that all members have.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Has something done with one transport; commands about one transport keep their order.
    pub(crate) fn command(&self, id: TransportId, command: Command) {
        self.threads[wires::group(id) % self.threads.len()].command(command);
    }

    /// Tells every thread that a talk is over.
    pub(crate) fn over(&self, over: Over) {
        self.threads.iter().for_each(|thread| thread.command(Command::Over(over)));
    }

    /// The addresses at which members listen, or have listened, with sockets that they share; neighbours are of one channel.
    pub(crate) async fn addresses(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for thread in &self.threads {
            let (answer, addresses) = oneshot::channel();
            thread.command(Command::Addresses(answer));
            all.extend(addresses.await.unwrap_or_default());
        }
        all.sort_unstable();
        all
    }

    /// What the threads record.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Recorder> {
        self.threads.iter().map(|thread| &*thread.figures)
    }

    /// Ends the threads when they have done what they were asked for. What they have recorded is still there.
    pub(crate) fn stop(&self) {
        self.threads.iter().for_each(|thread| thread.command(Command::Stop));
        for thread in &self.threads {
            let thread = thread.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                thread.join().expect("a media thread has panicked, which is a bug of this tool");
            }
        }
    }
}

impl Handle {
    fn command(&self, command: Command) {
        // A thread that has stopped has nothing to do any more; one that runs is woken by a descriptor that it owns.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
