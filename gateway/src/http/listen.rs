//! The port of the gateway: bound with room for a crowd that comes at once.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted. With the system library's 128 a thousand that come at once lose some of their
/// packets, and those try again after a second. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds; nothing is accepted yet. An IPv6 wildcard takes IPv4 too, whatever the system's default is.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Connections of the process before this one may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        std::io::Result::Ok(socket.into())
    };
    bind().with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_crowd_that_nobody_has_accepted_yet_is_connected() {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let address = listener.local_addr().expect("an address");
        let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
        let room = somaxconn.trim().parse::<usize>().expect("a number").min(400);
        // One beyond the room would wait for a second, and then for longer: that is refused here.
        let patience = Duration::from_millis(900);
        let crowd: Vec<_> = (0..room).map(|_| TcpStream::connect_timeout(&address, patience)).collect();
        assert!(crowd.iter().all(Result::is_ok));
    }

    #[test]
    fn an_ipv6_wildcard_takes_both_families() {
        let Ok(listener) = listen("[::]:0".parse().expect("an address")) else { return };
        let port = listener.local_addr().expect("an address").port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
    }
}
