//! Sockets of one thread, and which transport a datagram belongs to.
//!
//! A server tells clients apart by their address. Towards a server on this machine each transport has a loopback address of
//! its own, and a socket is shared by a group of them: it is bound to no address, is told the destination of what it
//! receives, and says the source of what it sends. That takes few descriptors and receives many datagrams in one system
//! call. Towards another machine each transport has a socket, and so a port, of its own.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::TransportId;
use crate::figures::now_ns;
use crate::target::is_local;

/// Transports of one shared socket: as many as one system call receives datagrams for.
const GROUP: u32 = 32;

/// The largest number of datagrams in one system call.
const BATCH: usize = 32;

/// Room for one datagram, or for a few small ones that the kernel joined.
const DATAGRAM: usize = 2048;

/// What the kernel may hold for one socket; it grants what it is allowed to.
const SOCKET_BUFFER: usize = 4 << 20;

/// The first loopback address that is given to a transport; 127.0.0.1 and its neighbours are left to others.
const FIRST_SOURCE: u32 = 0x7f40_0001;

/// The group of a transport.
pub(super) fn group(id: TransportId) -> usize {
    (id.0 / GROUP) as usize
}

/// The loopback address of a transport.
pub(crate) fn source(id: TransportId) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_SOURCE + id.0)
}

/// The way of one transport's datagrams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    port: usize,
    from: Option<IpAddr>,
    to: SocketAddr,
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The only transport, if it is not shared.
    only: Option<TransportId>,
}

/// A datagram as it was received.
pub(super) struct Datagram<'a> {
    pub(super) id: TransportId,
    /// When the kernel got it, in nanoseconds of the Unix epoch.
    pub(super) arrived: u64,
    pub(super) bytes: &'a [u8],
}

/// See the module.
pub(super) struct Wires {
    registry: Registry,
    ports: Vec<Port>,
    shared_by_group: HashMap<usize, usize>,
    local: HashMap<IpAddr, bool>,
    buffer: Vec<u8>,
}

impl Wires {
    pub(super) fn new(registry: Registry) -> Self {
        let (ports, shared_by_group, local) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { registry, ports, shared_by_group, local, buffer: vec![0; BATCH * DATAGRAM] }
    }

    /// A way for a transport to a server. Readiness of port `n` is told as token `n`.
    pub(super) fn attach(&mut self, id: TransportId, to: SocketAddr) -> io::Result<Wire> {
        let shared = to.is_ipv4() && *self.local.entry(to.ip()).or_insert_with(|| is_local(to.ip()));
        if !shared {
            return Ok(Wire { port: self.bind(to, Some(id))?, from: None, to });
        }
        let port = match self.shared_by_group.get(&group(id)) {
            Some(port) => *port,
            None => {
                let port = self.bind(to, None)?;
                self.shared_by_group.insert(group(id), port);
                port
            }
        };
        Ok(Wire { port, from: Some(source(id).into()), to })
    }

    fn bind(&mut self, to: SocketAddr, only: Option<TransportId>) -> io::Result<usize> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        if only.is_none() {
            // Less than this only means that more may be dropped, which is reported.
            let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        }
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        socket.bind(&any.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let mut socket = UdpSocket::from_std(socket.into());
        let port = self.ports.len();
        self.registry.register(&mut socket, Token(port), Interest::READABLE)?;
        self.ports.push(Port { socket, state, only });
        Ok(port)
    }

    /// The loopback addresses of transports that receive.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let ports = self.shared_by_group.iter().filter_map(|(group, port)| {
            let port = self.ports.get(*port)?.socket.local_addr().ok()?.port();
            Some((*group as u32 * GROUP, port))
        });
        // The odd ones: see `TransportId::new`.
        ports
            .flat_map(|(first, port)| (1..GROUP).step_by(2).map(move |at| (first + at, port)))
            .map(|(id, port)| (source(TransportId(id)), port).into())
            .collect()
    }

    /// Sends a datagram. One that the kernel does not take is lost, as on any network.
    pub(super) fn send(&self, wire: &Wire, bytes: &[u8]) {
        let Port { socket, state, .. } = &self.ports[wire.port];
        let transmit =
            Transmit { destination: wire.to, ecn: None, contents: bytes, segment_size: None, src_ip: wire.from };
        let _ = state.try_send(socket.into(), &transmit);
    }

    /// Receives a batch of what has come to a port. Answers whether there may be more.
    pub(super) fn receive(&mut self, port: usize, mut each: impl FnMut(Datagram<'_>)) -> bool {
        let Some(Port { socket, state, only }) = self.ports.get(port) else { return false };
        let mut rooms = self.buffer.chunks_exact_mut(DATAGRAM);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().expect("a buffer of this many rooms")));
        let mut metas = [RecvMeta::default(); BATCH];
        let received = match state.recv(socket.into(), &mut slices, &mut metas) {
            Ok(received) => received,
            // That nobody listens any more is said by a silence that is measured; the socket goes on.
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        };
        for (meta, slice) in metas.iter().zip(&slices).take(received) {
            let id = only.or_else(|| match meta.dst_ip {
                Some(IpAddr::V4(to)) => u32::from(to).checked_sub(FIRST_SOURCE).map(TransportId),
                _ => None,
            });
            let Some(id) = id else { continue };
            let arrived = meta.timestamp.map_or_else(now_ns, |time| time.as_nanos() as u64);
            let bytes = &slice[..meta.len.min(DATAGRAM)];
            bytes.chunks(meta.stride.max(1)).for_each(|bytes| each(Datagram { id, arrived, bytes }));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn transports_of_one_socket_are_told_apart_by_their_addresses() {
        let mut poll = mio::Poll::new().expect("a descriptor");
        let mut wires = Wires::new(poll.registry().try_clone().expect("a descriptor"));
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("bound");
        let ids = [TransportId(0), TransportId(5), TransportId(31)];
        let ways: Vec<Wire> = ids.iter().map(|id| wires.attach(*id, to).expect("a way")).collect();
        assert_eq!(wires.ports.len(), 1);
        assert_eq!(wires.attach(TransportId(32), to).expect("a way").port, 1, "the next group");

        let mut buffer = [0; 16];
        let before = now_ns();
        for (id, way) in ids.iter().zip(&ways) {
            wires.send(way, b"question");
            let (len, from) = server.recv_from(&mut buffer).expect("sent");
            assert_eq!((&buffer[..len], from.ip()), (&b"question"[..], IpAddr::V4(source(*id))));
            server.send_to(&id.0.to_be_bytes(), from).expect("sent");
        }
        let (mut seen, mut events) = (Vec::new(), mio::Events::with_capacity(8));
        while seen.len() < ids.len() {
            poll.poll(&mut events, Some(Duration::from_secs(10))).expect("polls");
            assert!(!events.is_empty(), "nothing came");
            while wires.receive(0, |datagram| {
                assert_eq!(datagram.bytes, datagram.id.0.to_be_bytes());
                assert!((before..=now_ns()).contains(&datagram.arrived), "the kernel's clock is ours");
                seen.push(datagram.id);
            }) {}
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn towards_another_machine_each_has_its_port() {
        let poll = mio::Poll::new().expect("a descriptor");
        let mut wires = Wires::new(poll.registry().try_clone().expect("a descriptor"));
        let to = "192.0.2.1:9".parse().expect("valid");
        let ways: Vec<Wire> = (0..3).map(|id| wires.attach(TransportId(id), to).expect("a way")).collect();
        assert_eq!(ways.iter().map(|way| (way.port, way.from)).collect::<Vec<_>>(), [(0, None), (1, None), (2, None)]);
    }
}
