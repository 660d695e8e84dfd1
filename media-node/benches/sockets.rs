//! Packets per second and core with real sockets: the engine with its batches beside a bare `sendmmsg` loop that sends
//! packets of the same size to the same thousand addresses, in the same run. The receiver is one socket that never reads,
//! so both numbers hold the kernel's way through loopback and nothing else.

#![allow(clippy::print_stdout)] // its output is its purpose

#[path = "../engine/tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::Sim;
use voiceping_engine::id::ChannelId;
use voiceping_engine::{Outbound, Path, Role};
use voiceping_media_node::io::{self, Sender};

const LISTENERS: usize = 1000;
const PACKETS: usize = 100;
const ROUNDS: usize = 9;
/// A sealed packet: header, audio level, payload, the tag of the AEAD profile that is negotiated here.
const SEALED: usize = 176;

struct Batch<'a> {
    sender: Sender,
    socket: &'a UdpSocket,
    port: u16,
    sent: usize,
}

impl Outbound for Batch<'_> {
    fn buffer(&mut self) -> &mut [u8] {
        if self.sender.is_full() {
            self.sender.flush(self.socket);
        }
        self.sender.buffer()
    }

    fn send(&mut self, len: usize, path: Path) {
        assert_eq!(len, SEALED);
        self.sender.push(len, SocketAddr::new(path.remote.ip(), self.port));
        self.sent += 1;
    }

    fn relay(&mut self, _: u64, _: &ChannelId, _: u64, _: &[u8]) {}
}

fn main() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    for listener in 0..LISTENERS {
        sim.client(&format!("listener {listener}"), Role::Client);
    }
    sim.connect_all();
    sim.produce(alice, "c");
    for listener in 0..LISTENERS {
        sim.consume(1 + listener, "c");
    }
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 70);

    let sink = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = sink.local_addr().expect("bound").port();
    let socket = io::bind("127.0.0.1:0".parse().expect("valid")).expect("a free port");
    let addresses: Vec<SocketAddr> =
        sim.clients[1..].iter().map(|client| SocketAddr::new(client.address.ip(), port)).collect();
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    let mut ratios = Vec::new();
    let (mut engine_best, mut bare_best) = (Duration::MAX, Duration::MAX);
    let mut batch = Batch { sender: Sender::default(), socket: &socket, port, sent: 0 };
    for _ in 0..ROUNDS {
        let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| sim.next_packet(alice).1).collect();
        batch.sent = 0;
        let start = Instant::now();
        for packet in &packets {
            sim.now += Duration::from_millis(20); // as a talk comes, within its budget
            sim.engine.handle_datagram(sim.now, path, packet, &mut batch);
            batch.sender.flush(&socket); // a worker's turn ends
        }
        let engine = start.elapsed();
        assert_eq!(batch.sent, LISTENERS * PACKETS);

        let start = Instant::now();
        for _ in 0..PACKETS {
            for address in &addresses {
                if batch.sender.is_full() {
                    batch.sender.flush(&socket);
                }
                batch.sender.buffer();
                batch.sender.push(SEALED, *address);
            }
            batch.sender.flush(&socket);
        }
        let bare = start.elapsed();
        ratios.push(bare.as_secs_f64() / engine.as_secs_f64());
        engine_best = engine_best.min(engine);
        bare_best = bare_best.min(bare);
    }
    ratios.sort_by(f64::total_cmp);
    let rate = |time: Duration| (LISTENERS * PACKETS) as f64 / time.as_secs_f64() / 1000.0;
    println!("sockets, {LISTENERS} destinations on loopback, {SEALED}-byte datagrams, one thread, {ROUNDS} rounds");
    println!("  engine and sendmmsg     {:8.0} k packets/s (best)", rate(engine_best));
    println!("  bare sendmmsg loop      {:8.0} k packets/s (best)", rate(bare_best));
    println!("  ratio, median of rounds {:8.2}  (aim: at least 0.90)", ratios[ROUNDS / 2]);
    println!("  dropped by the kernel   {:8}", batch.sender.dropped());
}
