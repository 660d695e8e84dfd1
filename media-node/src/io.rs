//! Datagrams in batches: `recvmmsg` and `sendmmsg` over arrays that are built once, and what a worker sleeps on.
//!
//! The only file with `unsafe`: the two system calls take arrays of pointers into our buffers, which no safe wrapper of a
//! kept crate offers without building them anew for each call. Called by the worker threads alone.
//!
//! Cost model: one system call for up to [`BATCH`] datagrams each way; nothing is allocated after start-up. The engine
//! writes datagrams straight into the send arena, one behind the other, so that a full batch of voice stays in the
//! second-level cache.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

/// Datagrams in one system call.
pub const BATCH: usize = 64;

/// The largest datagram: an Ethernet MTU.
pub const DATAGRAM: usize = 1500;

/// What the kernel may hold for us each way: a second of a thousand listeners.
const SOCKET_BUFFER: usize = 8 << 20;

/// Binds a non-blocking UDP socket with large buffers.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel grants what it is allowed to; less only means that a burst may be lost sooner.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    never_fragment(&socket, address.is_ipv4());
    note_arrivals(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Has the kernel mark datagrams as not to be fragmented, and draw no number for the fragments of each, which is five percent
/// of a send. What we send fits every path: DTLS flights are cut at 1150 bytes, voice is shorter. IPv6 draws none.
fn never_fragment(socket: &Socket, ipv4: bool) {
    if ipv4 {
        let value: libc::c_int = libc::IP_PMTUDISC_PROBE;
        // SAFETY: the pointer is valid for the length that is given. If it is refused, sending only costs more.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                std::ptr::from_ref(&value).cast(),
                mem::size_of_val(&value) as libc::socklen_t,
            );
        }
    }
}

/// At most how many datagrams the kernel can hold for a socket.
pub fn capacity(socket: &UdpSocket) -> usize {
    // What the kernel counts for the smallest datagram: a quarter page of bookkeeping at least.
    const SMALLEST: usize = 512;
    SockRef::from(socket).recv_buffer_size().unwrap_or(2 * SOCKET_BUFFER) / SMALLEST
}

/// Has the kernel note when each datagram arrives. It reads its clock for that, which is nothing beside receiving.
fn note_arrivals(socket: &Socket) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is valid for the length that is given. If it is refused, arrivals are not known.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            std::ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        );
    }
}

/// Room for what the kernel says beside a datagram: when it arrived. Aligned as its headers are.
type Control = [u64; 8];

/// Arrays for receiving.
pub struct Receiver {
    /// Of a batch, the first datagram's alone: it has waited longest.
    control: Box<Control>,
    oldest: Option<SystemTime>,
    buffers: Vec<[u8; DATAGRAM]>,
    addresses: Vec<SockAddrStorage>,
    /// Only pointed to.
    _vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers inside point into the vectors beside them, which never grow, and whose contents stay where they
// are when their owner moves.
unsafe impl Send for Receiver {}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Default for Receiver {
    fn default() -> Self {
        let mut buffers = vec![[0; DATAGRAM]; BATCH];
        let mut addresses: Vec<SockAddrStorage> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        let mut vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM })
            .collect();
        let headers = vectors
            .iter_mut()
            .zip(addresses.iter_mut())
            .map(|(vector, address)| {
                message(vector, std::ptr::from_mut(address).cast(), mem::size_of::<SockAddrStorage>())
            })
            .collect();
        Self { control: Box::default(), oldest: None, buffers, addresses, _vectors: vectors, headers }
    }
}

impl Receiver {
    /// Receives what is there, up to a batch, and passes each datagram on. Answers how many there were.
    pub fn receive(&mut self, socket: &UdpSocket, mut each: impl FnMut(SocketAddr, &mut [u8])) -> usize {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = mem::size_of::<SockAddrStorage>() as libc::socklen_t;
        }
        self.headers[0].msg_hdr.msg_control = self.control.as_mut_ptr().cast();
        self.headers[0].msg_hdr.msg_controllen = mem::size_of::<Control>() as _;
        // SAFETY: the first header points to control's memory, which stays where it is; and the headers to `BATCH` vectors and addresses owned by self, each vector to a buffer of its length.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).unwrap_or(0);
        if received > 0
            && let Some(arrived) = arrival(&self.headers[0].msg_hdr)
        {
            self.oldest = Some(self.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
        }
        for at in 0..received {
            let header = &self.headers[at];
            // SAFETY: plain bytes, into which the kernel wrote an address of `msg_namelen` bytes.
            let address = unsafe { SockAddr::new(std::ptr::read(&self.addresses[at]), header.msg_hdr.msg_namelen) };
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            if let Some(address) = address.as_socket().filter(|_| !truncated) {
                each(address, &mut self.buffers[at][..header.msg_len as usize]);
            }
        }
        received
    }
}

impl Receiver {
    /// When the oldest datagram that was received since the last call had arrived, by the wall clock.
    pub fn take_oldest(&mut self) -> Option<SystemTime> {
        self.oldest.take()
    }
}

/// When a datagram arrived, if the kernel has said so.
fn arrival(header: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: the kernel has filled the control memory that the header points to, and its length; the macros keep to it.
    let time = unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null()
            || (*control).cmsg_level != libc::SOL_SOCKET
            || (*control).cmsg_type != libc::SCM_TIMESTAMPNS
        {
            return None;
        }
        std::ptr::read_unaligned(libc::CMSG_DATA(control).cast::<libc::timespec>())
    };
    let since_epoch = Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    Some(SystemTime::UNIX_EPOCH + since_epoch)
}

/// A batch of datagrams to send over one socket.
pub struct Sender {
    arena: Vec<u8>,
    /// End of the datagrams in the arena.
    used: usize,
    count: usize,
    addresses: Vec<SockAddrStorage>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Datagrams queued, and their bytes.
    pushed: u64,
    bytes: u64,
    /// Datagrams that the kernel did not take.
    dropped: u64,
    /// System calls made.
    calls: u64,
}

// SAFETY: as for Receiver.
unsafe impl Send for Sender {}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("count", &self.count).field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl Default for Sender {
    fn default() -> Self {
        let mut addresses: Vec<SockAddrStorage> = (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect();
        let mut vectors: Vec<libc::iovec> =
            (0..BATCH).map(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }).collect();
        let headers = vectors
            .iter_mut()
            .zip(addresses.iter_mut())
            .map(|(vector, address)| message(vector, std::ptr::from_mut(address).cast(), 0))
            .collect();
        Self {
            arena: vec![0; BATCH * DATAGRAM],
            used: 0,
            count: 0,
            addresses,
            vectors,
            headers,
            pushed: 0,
            bytes: 0,
            dropped: 0,
            calls: 0,
        }
    }
}

impl Sender {
    /// Whether the next datagram needs a [`Self::flush`] first.
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Room for the next datagram.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..self.used + DATAGRAM]
    }

    /// Queues the first `len` bytes of [`Self::buffer`]. The batch must not be full.
    pub fn push(&mut self, len: usize, to: SocketAddr) {
        debug_assert!(len <= DATAGRAM && !self.is_full());
        let vector = &mut self.vectors[self.count];
        vector.iov_base = self.arena[self.used..].as_mut_ptr().cast();
        vector.iov_len = len;
        let address = SockAddr::from(to);
        self.headers[self.count].msg_hdr.msg_namelen = address.len();
        self.addresses[self.count] = address.as_storage();
        // Cache lines are not shared between datagrams that the kernel reads and those that we write.
        self.used += len.next_multiple_of(64).min(DATAGRAM);
        self.count += 1;
        self.pushed += 1;
        self.bytes += len as u64;
    }

    /// Sends the batch. A full socket buffer is given a millisecond to drain; what still does not fit is dropped, because
    /// late voice is worth nothing.
    pub fn flush(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        let mut waited = false;
        while sent < self.count {
            self.calls += 1;
            // SAFETY: headers `sent..count` point to vectors and addresses owned by self; each vector lies in the arena.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers[sent..].as_mut_ptr(),
                    (self.count - sent) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(result) {
                Ok(taken) if taken > 0 => sent += taken,
                _ => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock if !waited => {
                        waited = true;
                        wait(&mut [poll_for(socket.as_raw_fd(), libc::POLLOUT)], Some(Duration::from_millis(1)));
                    }
                    io::ErrorKind::WouldBlock => {
                        self.dropped += (self.count - sent) as u64;
                        break;
                    }
                    // The first of the rest cannot be sent (no route, say): that one is lost, the others are not.
                    _ => {
                        self.dropped += 1;
                        sent += 1;
                    }
                },
            }
        }
        self.count = 0;
        self.used = 0;
    }

    /// Sends the batch, but keeps the `len` bytes that were just written into [`Self::buffer`] for the next one.
    pub fn flush_keeping(&mut self, socket: &UdpSocket, len: usize) {
        let written = self.used;
        self.flush(socket);
        self.arena.copy_within(written..written + len, 0);
    }

    /// Datagrams queued since the start, and their bytes.
    pub fn pushed(&self) -> (u64, u64) {
        (self.pushed, self.bytes)
    }

    /// Datagrams that the kernel did not take, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// System calls made, since the start.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

fn message(vector: &mut libc::iovec, name: *mut libc::c_void, name_len: usize) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr: null pointers, zero lengths.
    let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_len as libc::socklen_t;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// Wakes a worker from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Ends the worker's sleep, or its next one.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the pointer is valid for eight bytes. It fails only if the counter is full, and then the worker is awake.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes back what [`Self::wake`] did.
    fn clear(&self) {
        let mut count = [0; 8];
        // SAFETY: the pointer is valid for eight bytes.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// What a worker sleeps on: its sockets and its waker.
#[derive(Debug)]
pub struct Sleeper {
    waker: Waker,
    polled: Vec<libc::pollfd>,
}

impl Sleeper {
    /// Over these, and what else may become readable.
    pub fn new(sockets: &[UdpSocket], other: impl IntoIterator<Item = RawFd>, waker: Waker) -> Self {
        let polled = std::iter::once(waker.0.as_raw_fd()).chain(sockets.iter().map(AsRawFd::as_raw_fd)).chain(other);
        let polled = polled.map(|fd| poll_for(fd, libc::POLLIN)).collect();
        Self { waker, polled }
    }

    /// Sleeps until a datagram comes, somebody wakes us, or the time is over.
    pub fn sleep(&mut self, timeout: Option<Duration>) {
        wait(&mut self.polled, timeout);
        if self.polled[0].revents != 0 {
            self.waker.clear();
        }
    }
}

fn poll_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

fn wait(polled: &mut [libc::pollfd], timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(3600) as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array is valid for its length; the timeout is null or points to a live timespec; no signal mask.
    unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout, std::ptr::null()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_in_order_with_one_call_each_way() {
        let (from, to) = (bind("127.0.0.1:0".parse().expect("valid")), bind("127.0.0.1:0".parse().expect("valid")));
        let (from, to) = (from.expect("binds"), to.expect("binds"));
        let mut sender = Sender::default();
        let before = SystemTime::now();
        for byte in 0..BATCH {
            let len = 1 + byte * 23;
            sender.buffer()[..len].fill(byte as u8);
            sender.push(len, to.local_addr().expect("bound"));
        }
        assert!(sender.is_full());
        sender.flush(&from);
        assert_eq!((sender.calls(), sender.dropped()), (1, 0));
        let mut sleeper = Sleeper::new(std::slice::from_ref(&to), [], Waker::new().expect("a descriptor"));
        sleeper.sleep(Some(Duration::from_secs(5)));
        let mut seen = 0;
        let mut receiver = Receiver::default();
        receiver.receive(&to, |source, datagram| {
            assert_eq!(source, from.local_addr().expect("bound"));
            assert_eq!(datagram, vec![seen as u8; 1 + seen * 23]);
            seen += 1;
        });
        assert_eq!(seen, BATCH);
        let arrived = receiver.take_oldest().expect("the kernel says when");
        assert!(arrived >= before && arrived <= SystemTime::now(), "{before:?} {arrived:?}");
        assert_eq!(receiver.take_oldest(), None, "once");
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_hold_up_the_others() {
        let (from, to) = (bind("127.0.0.1:0".parse().expect("valid")), bind("127.0.0.1:0".parse().expect("valid")));
        let (from, to) = (from.expect("binds"), to.expect("binds"));
        let mut sender = Sender::default();
        for address in ["192.0.2.1:9".parse().expect("valid"), to.local_addr().expect("bound")] {
            sender.buffer()[0] = 7;
            sender.push(1, address);
        }
        sender.flush(&from);
        assert_eq!(sender.dropped(), 1, "loopback has no route to the documentation network");
        let mut sleeper = Sleeper::new(std::slice::from_ref(&to), [], Waker::new().expect("a descriptor"));
        sleeper.sleep(Some(Duration::from_secs(5)));
        assert_eq!(Receiver::default().receive(&to, |_, datagram| assert_eq!(datagram, [7])), 1);
    }

    #[test]
    fn a_wake_ends_a_sleep_that_has_not_begun() {
        let waker = Waker::new().expect("a descriptor");
        let mut sleeper = Sleeper::new(&[], [], waker.clone());
        waker.wake();
        sleeper.sleep(None);
    }
}
