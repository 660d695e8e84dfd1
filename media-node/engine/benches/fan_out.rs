//! What a listener-packet costs in the engine, without the send, beside sealing alone in the same run; what a packet costs
//! at a closed gate; and what it costs to hand a talk to other nodes, and to take it from one. Prints ratios: absolute times
//! on a shared machine mean little.

#![allow(clippy::print_stdout)] // its output is its purpose

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use support::Sim;
use voiceping_engine::id::{ChannelId, RelayId};
use voiceping_engine::srtp::{Profile, Sealer};
use voiceping_engine::{Outbound, Path, RelayKey, RelayOut, Role};

const LISTENERS: usize = 1000;
const PACKETS: usize = 300;
const ROUNDS: usize = 7;
/// Header, audio level extension and payload of the simulated speaker's packets.
const PACKET: usize = 160;
/// Nodes that have listeners.
const NODES: usize = 20;
/// What a datagram between nodes has more than a packet, without its tag, and how much of that is not encrypted.
const RELAYED: (usize, usize) = (12 + 2 + 1 + 8, 12);

/// Like a worker's batch without the system call: datagrams one behind the other, begun anew after 64.
struct Arena {
    bytes: Vec<u8>,
    used: usize,
    count: usize,
    sent: usize,
}

impl Outbound for Arena {
    fn buffer(&mut self) -> &mut [u8] {
        if self.count == 64 {
            (self.used, self.count) = (0, 0);
        }
        &mut self.bytes[self.used..self.used + 1500]
    }

    fn send(&mut self, len: usize, path: Path) {
        black_box(path);
        self.used += len.next_multiple_of(64);
        self.count += 1;
        self.sent += 1;
    }

    fn relay(&mut self, _: u64, _: &ChannelId, _: u64, _: &[u8]) {}
}

/// Keeps every datagram.
#[derive(Default)]
struct Kept {
    buffer: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
}

impl Outbound for Kept {
    fn buffer(&mut self) -> &mut [u8] {
        self.buffer.resize(1500, 0);
        &mut self.buffer
    }

    fn send(&mut self, len: usize, _: Path) {
        self.datagrams.push(self.buffer[..len].to_vec());
    }

    fn relay(&mut self, _: u64, _: &ChannelId, _: u64, _: &[u8]) {}
}

/// Sealing alone with a choice of keys, one packet after the other, each with every key.
fn sealing(arena: &mut Arena, sealers: &[Sealer], header_len: usize, len: usize) -> Duration {
    let template = [0x5a; 2 * PACKET];
    let start = Instant::now();
    for index in 0..PACKETS {
        for sealer in sealers {
            let buffer = arena.buffer();
            buffer[..len].copy_from_slice(&template[..len]);
            let len = sealer.seal(buffer, header_len, len, 7, index as u64).expect("room");
            arena.send(len, Path { socket: 0, remote: ([127, 0, 0, 1], 9).into() });
        }
    }
    start.elapsed()
}

fn relay_out(node: usize) -> RelayOut {
    let paths = vec![Path { socket: 0, remote: ([10, 0, 0, 1], 4000).into() }];
    RelayOut { session: node as u32, key: RelayKey::new([node as u8; 16]), sender: 0, paths }
}

/// Puts datagrams before an engine that come from one place.
fn handle(sim: &mut Sim, client: usize, datagrams: &[Vec<u8>], out: &mut impl Outbound) -> Duration {
    let path = Path { socket: 0, remote: sim.clients[client].address };
    let start = Instant::now();
    for datagram in datagrams {
        sim.now += Duration::from_millis(20); // as a talk comes, within its budget
        sim.engine.handle_datagram(sim.now, path, datagram, out);
    }
    start.elapsed()
}

/// Prints what a packet costs that is handed to other nodes, and one that comes from another node.
fn relay() {
    let (mut sim, mut receiving) = (Sim::new(2), Sim::new(3));
    let alice = sim.client("alice", Role::Client);
    let carol = receiving.client("carol", Role::Client);
    sim.connect_all();
    receiving.connect_all();
    sim.produce(alice, "c");
    receiving.consume(carol, "c");
    receiving.engine.accept_relay(0, 0, RelayKey::new([0; 16]));
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 70);
    let key = [3; 16];
    let sealers: Vec<Sealer> =
        (0..NODES).map(|_| Sealer::new(Profile::AeadAes128Gcm, &key, &key[..12]).expect("fits")).collect();
    let mut arena = Arena { bytes: vec![0; 66 * 1500], used: 0, count: 0, sent: 0 };
    let [mut alone, mut to_nodes, mut sealed, mut incoming, mut direct] = [Duration::MAX; 5];
    let mut kept = Kept::default();
    for _ in 0..ROUNDS {
        let packets = |sim: &mut Sim| (0..PACKETS).map(|_| sim.next_packet(alice).1).collect::<Vec<_>>();
        let first = packets(&mut sim);
        alone = alone.min(handle(&mut sim, alice, &first, &mut arena));
        for node in 0..NODES {
            sim.engine.add_relay(sim.now, RelayId(node as u64), relay_out(node)).expect("a path");
            sim.engine.set_relay_listening(sim.now, &"c".into(), RelayId(node as u64), true);
        }
        let second = packets(&mut sim);
        arena.sent = 0;
        to_nodes = to_nodes.min(handle(&mut sim, alice, &second, &mut arena));
        assert_eq!(arena.sent, NODES * PACKETS, "every node was served");
        (1..NODES).for_each(|node| sim.engine.remove_relay(sim.now, RelayId(node as u64)));
        let (header, plain) = (RELAYED.1, PACKET + RELAYED.0);
        sealed = sealed.min(sealing(&mut arena, &sealers, header, plain));

        // One node remains: its datagrams are what the receiving engine is given.
        let third = packets(&mut sim);
        kept.datagrams.clear();
        handle(&mut sim, alice, &third, &mut kept);
        sim.engine.remove_relay(sim.now, RelayId(0));
        arena.sent = 0;
        incoming = incoming.min(handle(&mut receiving, carol, &kept.datagrams, &mut arena));
        assert_eq!(arena.sent, PACKETS, "the listener was served");
        direct = direct.min(sealing(&mut arena, &sealers[..1], 20, PACKET));
    }
    let per = |time: Duration, count: usize| time.as_nanos() as f64 / count as f64;
    let relayed = per(to_nodes.saturating_sub(alone), NODES * PACKETS);
    let sealed = per(sealed, NODES * PACKETS);
    println!("relay, {NODES} nodes, {PACKET}-byte packets, AES-128-GCM");
    println!("  per node and packet, without the send   {relayed:7.0} ns");
    println!("  copying and sealing alone               {sealed:7.0} ns");
    println!("  ratio                                   {:7.2}  (aim: under 1.5)", relayed / sealed);
    println!("  a speaker's packet, no listener         {:7.0} ns", per(alone, PACKETS));
    println!("  a node's packet, one listener           {:7.0} ns", per(incoming, PACKETS));
    println!("  of which sealing for the listener       {:7.0} ns", per(direct, PACKETS));
}

fn main() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let bob = sim.client("bob", Role::Client);
    for listener in 0..LISTENERS {
        sim.client(&format!("listener {listener}"), Role::Client);
    }
    sim.connect_all();
    sim.produce(alice, "c");
    sim.produce(bob, "c");
    for listener in 0..LISTENERS {
        sim.consume(2 + listener, "c");
    }
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 70);
    sim.talk(bob, 2);

    let mut arena = Arena { bytes: vec![0; 66 * 1500], used: 0, count: 0, sent: 0 };
    let (mut engine_best, mut sealing_best, mut gate_best) = (Duration::MAX, Duration::MAX, Duration::MAX);
    // The same number of keys as there are listeners: what is in the caches is the same.
    let profile = sim.clients[alice].srtp.as_ref().expect("connected").profile;
    let key: Vec<u8> = (0..32).collect();
    let sealers: Vec<Sealer> = (0..LISTENERS)
        .map(|_| Sealer::new(profile, &key[..profile.key_len()], &key[..profile.salt_len()]).expect("fits"))
        .collect();
    for _ in 0..ROUNDS {
        let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| sim.next_packet(alice).1).collect();
        arena.sent = 0;
        engine_best = engine_best.min(handle(&mut sim, alice, &packets, &mut arena));
        assert_eq!(arena.sent, LISTENERS * PACKETS, "every listener was served");

        sealing_best = sealing_best.min(sealing(&mut arena, &sealers, 20, PACKET));

        let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| sim.next_packet(bob).1).collect();
        arena.sent = 0;
        gate_best = gate_best.min(handle(&mut sim, bob, &packets, &mut arena));
        assert_eq!(arena.sent, 0, "the gate is closed");
    }
    let per = |time: Duration, count: usize| time.as_nanos() as f64 / count as f64;
    let engine = per(engine_best, LISTENERS * PACKETS);
    let sealing = per(sealing_best, LISTENERS * PACKETS);
    println!("engine, {LISTENERS} listeners, {PACKET}-byte packets, {profile:?}, best of {ROUNDS} rounds");
    println!("  per listener-packet, without the send  {engine:7.0} ns");
    println!("  copying and sealing alone               {sealing:7.0} ns");
    println!("  ratio                                   {:7.2}  (aim: under 1.5)", engine / sealing);
    println!("  a packet at a closed gate               {:7.0} ns", per(gate_best, PACKETS));
    for profile in Profile::ALL {
        let sealer = Sealer::new(profile, &[7; 32][..profile.key_len()], &[7; 14][..profile.salt_len()]).expect("fits");
        let mut buffer = [0x5a; 256];
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for index in 0..100_000 {
                black_box(sealer.seal(&mut buffer, 20, PACKET, 7, index));
            }
            best = best.min(start.elapsed());
        }
        println!("  sealing alone, one key, {:<18}{:7.0} ns", format!("{profile:?}"), per(best, 100_000));
    }
    relay();
}
