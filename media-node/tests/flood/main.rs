//! A flood from strangers while a talk goes on: junk that looks like checks and handshakes, and connections that say nothing.
//! They come from a network namespace, over a cable, at addresses that the node cannot tell from honest ones. Needs root.

#![allow(clippy::print_stderr)] // says what it saw, or that it was skipped

#[path = "../../../tests/cluster/network.rs"]
#[allow(dead_code)] // what cuts cables is for others
mod network;
#[path = "../webrtc/node.rs"]
#[allow(dead_code)]
mod node;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use voiceping_media_node::io::{self, BATCH, Sender};
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::Options;

use crate::network::Network;
use crate::node::{CHANNEL, Node};

/// Datagrams a second.
const RATE: usize = 50_000;

/// Packets of the talk: ten seconds.
const TALK: u32 = 500;

const IDLE_CONNECTIONS: usize = 2_000;

/// What the process may grow by, with everything in it: the flood itself, the clients, and the kernel's buffers not.
const GROWTH: usize = 32 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_costs_a_talk_nothing_and_memory_is_flat() -> Result<()> {
    let Some(network) = Network::new(1)? else { return Ok(()) };
    rlimit::increase_nofile_limit(3 * IDLE_CONNECTIONS as u64).context("descriptors for all connections")?;
    let listen = format!("{}:0", network.own_address());
    let node = Node::start_with(&["--media-listen", &listen, "--media-workers", "1"]).await?;
    let alice = node.member("alice");
    let speaker = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut listener = node.member("bob").listener(CHANNEL, Options::default()).await?;
    let (_, server, tcp) = node.member("carol").create_transport_with_tcp(Direction::Send).await?;
    let (udp, tcp) = (server.candidates[0], tcp[0]);
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;

    let host: IpAddr = network.address(0).parse()?;
    let junk = [check(&server.ufrag), check("00ffffffffffffff"), client_hello()];
    let sockets: Vec<UdpSocket> =
        inside(&network, move || (0..16).map(|_| io::bind(SocketAddr::new(host, 0))).collect::<std::io::Result<_>>())??;
    let idle = inside(&network, move || {
        (0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(tcp)).collect::<std::io::Result<Vec<_>>>()
    })??;
    let flood = Flood::start(sockets, udp, junk);
    // In the first second everything takes its place.
    speaker.microphone.say(50).await?;
    let before = memory()?;
    let dropped_before = kernel_drops(udp)?;
    let sent_before = flood.sent();
    speaker.microphone.say(TALK).await?;
    let sent = flood.sent() - sent_before;
    let dropped = kernel_drops(udp)? - dropped_before;
    let grown = memory()?.saturating_sub(before);
    flood.stop()?;
    let last = speaker.microphone.say(50).await? + 49;
    let mut heard = vec![listener.ear.next().await?.number];
    while heard.last() != Some(&last) {
        heard.push(listener.ear.next().await?.number);
    }
    // What the machine could not carry never came to the node; all the rest is heard.
    heard.sort_unstable();
    heard.dedup();
    eprintln!(
        "{sent} datagrams of junk; the kernel had no room for {dropped}; {} of {} packets heard; {} KiB more in memory",
        heard.len(),
        last + 1,
        grown >> 10
    );
    let missing = last as usize + 1 - heard.len();
    ensure!(missing as u64 <= dropped, "{missing} packets are missing of which {dropped} may have been dropped");
    ensure!(sent > RATE, "it was a flood: {sent}");
    ensure!(grown < GROWTH, "memory is flat: {grown} bytes more");
    assert_eq!(idle.len(), IDLE_CONNECTIONS);
    Ok(())
}

/// Runs something on a thread that is on the network's host; what it opens belongs there.
fn inside<T: Send + 'static>(network: &Network, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let [.., name] = network.on(0);
    let namespace = std::fs::File::open(format!("/var/run/netns/{name}"))?;
    let thread = std::thread::spawn(move || -> Result<T> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    });
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Sends junk at its rate until it is stopped.
struct Flood {
    sent: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Flood {
    fn start(sockets: Vec<UdpSocket>, to: SocketAddr, junk: [Vec<u8>; 3]) -> Self {
        let (sent, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, ended) = (Arc::clone(&sent), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut sender = Sender::default();
            let began = Instant::now();
            for (batch, socket) in sockets.iter().cycle().enumerate() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                for at in 0..BATCH {
                    let datagram = &junk[at % junk.len()];
                    sender.buffer()[..datagram.len()].copy_from_slice(datagram);
                    sender.push(datagram.len(), to);
                }
                sender.flush(socket);
                let all = (batch + 1) * BATCH;
                counter.store(all as u64, Ordering::Relaxed);
                let due = began + Duration::from_secs_f64(all as f64 / RATE as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { sent, end, thread }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed) as usize
    }

    fn stop(self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))
    }
}

/// A connectivity check without a good proof: what costs the node most of all that a stranger can send.
fn check(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:abc");
    assert_eq!(name.len() % 4, 0, "no padding needed");
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    check.extend([0, 6, 0, name.len() as u8]);
    check.extend(name.as_bytes());
    check.extend([0, 8, 0, 20]);
    check.extend([0x55; 20]);
    check[3] = (check.len() - 20) as u8;
    check
}

/// The beginning of a browser's handshake, or something like it.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0xb0, 1, 0, 5, 0x70, 0, 0, 0, 0, 0, 0, 4, 0xa4];
    hello.resize(1_200, 0x5a);
    hello
}

/// Bytes of this process in memory.
fn memory() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kilobytes: usize = resident.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

/// Datagrams that found no room in the socket at this port, since it was opened.
fn kernel_drops(socket: SocketAddr) -> Result<u64> {
    let port = format!(":{:04X}", socket.port());
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let line = table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)));
    Ok(line.and_then(|line| line.split_whitespace().last()).context("the node's socket")?.parse()?)
}
