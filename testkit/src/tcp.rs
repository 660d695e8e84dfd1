//! The way of a client whose network lets no UDP through: its datagrams in frames (RFC 4571) over one TCP connection.
//!
//! The client is told a UDP address of this machine instead of the server's; what a browser does inside is done here
//! beside it.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    task: JoinHandle<Result<()>>,
    stalled: watch::Sender<bool>,
}

impl Tunnel {
    /// A way to the server's TCP port.
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let client_side = UdpSocket::bind("127.0.0.1:0").await?;
        let socket = TcpSocket::new_v4()?;
        // What a stalled client has been sent and does not take is little.
        socket.set_recv_buffer_size(4096)?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let address = client_side.local_addr()?;
        let (stalled, until) = watch::channel(false);
        let task = tokio::spawn(carry(client_side, stream, until));
        Ok(Self { address, task, stalled })
    }

    /// Where the client sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether anything is taken from the server; the frame that is awaited at the moment is.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&mut self) {
        // It ends with an error in any case; which one it is depends on what the client sent last.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client_side: UdpSocket, stream: TcpStream, mut stalled: watch::Receiver<bool>) -> Result<()> {
    let (mut from_server, mut to_server) = stream.into_split();
    let mut buffer = [0; 2048];
    let (mut len, from) = client_side.recv_from(&mut buffer).await?;
    client_side.connect(from).await?;
    let up = async {
        loop {
            to_server.write_u16(u16::try_from(len)?).await?;
            to_server.write_all(&buffer[..len]).await?;
            len = client_side.recv(&mut buffer).await?;
        }
    };
    let down = async {
        let mut frame = Vec::new();
        loop {
            stalled.wait_for(|stalled| !stalled).await?;
            frame.resize(from_server.read_u16().await?.into(), 0);
            from_server.read_exact(&mut frame).await?;
            // It fails only when the client has gone, which the server finds out by itself.
            let _ = client_side.send(&frame).await;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
