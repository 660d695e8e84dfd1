//! A network path between one client and the server that loses exactly the datagrams that a test wants lost.
//!
//! A UDP socket towards each side: the client is told this address instead of the server's. Nothing is decrypted; what a
//! test needs to choose, the headers of RTP, RTCP, DTLS and STUN show in the clear.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Path {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Path {
    /// A path to the server; `passes` is asked about every datagram.
    pub async fn open(server: SocketAddr, mut passes: impl FnMut(Way, &[u8]) -> bool + Send + 'static) -> Result<Self> {
        let (client_side, server_side) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        server_side.connect(server).await?;
        let address = client_side.local_addr()?;
        let task = tokio::spawn(async move {
            let (mut up, mut down) = ([0; 2048], [0; 2048]);
            let mut client = None;
            loop {
                // A send fails only when the other side has gone, which is nothing that a path would know.
                tokio::select! {
                    Ok((len, from)) = client_side.recv_from(&mut up) => {
                        client = Some(from);
                        if passes(Way::Up, &up[..len]) {
                            let _ = server_side.send(&up[..len]).await;
                        }
                    }
                    Ok(len) = server_side.recv(&mut down) => {
                        if let Some(client) = client && passes(Way::Down, &down[..len]) {
                            let _ = client_side.send_to(&down[..len], client).await;
                        }
                    }
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where the client sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a datagram is, by its first bytes (RFC 7983 section 7, RFC 5761 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connectivity check.
    Stun,
    /// Handshake or goodbye.
    Dtls,
    /// Voice.
    Rtp {
        /// Its sequence number.
        sequence_number: u16,
    },
    /// Report or feedback.
    Rtcp,
    /// Anything else.
    Unknown,
}

impl Kind {
    /// Of a datagram.
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, high, low, ..] => Self::Rtp { sequence_number: u16::from_be_bytes([*high, *low]) },
            _ => Self::Unknown,
        }
    }
}
