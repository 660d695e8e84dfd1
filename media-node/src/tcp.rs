//! Accepts TCP connections of clients whose network lets no UDP through (RFC 6544, passive candidates).
//!
//! All workers are reached on one port: the first frame of a connection must be a STUN check, whose username names the
//! transport, and that names the worker, which takes the connection over (`streams.rs`) and checks it. Until then a
//! connection costs a task and a descriptor, and there are at most [`WAITING`] of them: the one that has waited longest
//! gives way, because an honest client sends its check at once. No connection that has been taken over is touched here.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use voiceping_engine::stun::{BindingRequest, engine_of};

use crate::streams;
use crate::worker::Worker;

/// Connections that have not sent their first check yet.
const WAITING: usize = 1024;

/// Of them, those of one source: an IPv4 address or an IPv6 network of 64 bits. A crowd behind one NAT comes through as fast
/// as its checks do.
const WAITING_OF_SOURCE: usize = 256;

/// Time for the first check.
const FIRST_CHECK: Duration = Duration::from_secs(5);

/// The longest first check: a browser's has about a hundred bytes.
const MAX_CHECK: usize = 512;

/// Connections that the kernel completes for us while we are busy.
const BACKLOG: i32 = 4096;

/// How long nothing is accepted after an error: a descriptor may be free by then.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds a socket that listens, beside one of the other family on the same port.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?; // connections of a process before may linger
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Hands connections to workers. One for all listeners of a node.
#[derive(Debug)]
pub(crate) struct Door {
    workers: Vec<Worker>,
    /// Oldest first; those that have ended are taken out when the next one comes.
    waiting: Mutex<VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    source: IpAddr,
    task: AbortHandle,
}

impl Door {
    /// To these workers.
    pub(crate) fn new(workers: Vec<Worker>) -> Arc<Self> {
        Arc::new(Self { workers, waiting: Mutex::default() })
    }

    /// Accepts for ever.
    pub(crate) async fn keep(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot accept media over TCP"),
        };
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    failing = false;
                    self.admit(stream, remote);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept media over TCP for now");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let source = source(remote.ip());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| !waiting.task.is_finished());
        let of_source = waiting.iter().filter(|waiting| waiting.source == source).count();
        let gives_way = if of_source >= WAITING_OF_SOURCE {
            waiting.iter().position(|waiting| waiting.source == source)
        } else {
            (waiting.len() >= WAITING).then_some(0)
        };
        if let Some(oldest) = gives_way.and_then(|at| waiting.remove(at)) {
            oldest.task.abort();
        }
        let door = Arc::clone(self);
        let task = tokio::spawn(async move {
            // Who is late, or says something else, is not answered.
            let _ = tokio::time::timeout(FIRST_CHECK, door.pass(stream, remote)).await;
        });
        waiting.push_back(Waiting { source, task: task.abort_handle() });
    }

    /// Waits for the first check and hands the connection on. `None`: it is not one of ours.
    async fn pass(&self, mut stream: TcpStream, remote: SocketAddr) -> Option<()> {
        let len = usize::from(stream.read_u16().await.ok()?);
        let mut check = vec![0; Some(len).filter(|len| *len <= MAX_CHECK)?];
        stream.read_exact(&mut check).await.ok()?;
        let engine = engine_of(BindingRequest::parse(&check)?.local_ufrag())?;
        let worker = self.workers.get(usize::from(engine))?;
        let stream = stream.into_std().ok()?;
        // Awaited: a connection counts as waiting until the worker has judged its check.
        let judged =
            worker.call(move |engine, now, batch| streams::adopt(engine, now, batch, (stream, remote), &check));
        judged.await.ok()
    }
}

/// What counts as one source of connections: who has one IPv6 address has a network of them.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
