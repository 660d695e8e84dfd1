//! What a listener-packet costs in the engine, without the send, beside sealing alone in the same run; and what a packet
//! costs at a closed gate. Prints ratios: absolute times on a shared machine mean little.

#![allow(clippy::print_stdout)] // its output is its purpose

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use support::Sim;
use voiceping_engine::id::ChannelId;
use voiceping_engine::srtp::{Profile, Sealer};
use voiceping_engine::{Outbound, Path, Role};

const LISTENERS: usize = 1000;
const PACKETS: usize = 300;
const ROUNDS: usize = 7;
/// Header, audio level extension and payload of the simulated speaker's packets.
const PACKET: usize = 160;

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
    let template = [0x5a; PACKET];
    for _ in 0..ROUNDS {
        let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| sim.next_packet(alice).1).collect();
        let path = Path { socket: 0, remote: sim.clients[alice].address };
        arena.sent = 0;
        let start = Instant::now();
        for packet in &packets {
            sim.engine.handle_datagram(sim.now, path, packet, &mut arena);
        }
        engine_best = engine_best.min(start.elapsed());
        assert_eq!(arena.sent, LISTENERS * PACKETS, "every listener was served");

        let start = Instant::now();
        for index in 0..PACKETS {
            for sealer in &sealers {
                let buffer = arena.buffer();
                buffer[..PACKET].copy_from_slice(&template);
                let len = sealer.seal(buffer, 20, PACKET, 7, index as u64).expect("room");
                arena.send(len, path);
            }
        }
        sealing_best = sealing_best.min(start.elapsed());

        let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| sim.next_packet(bob).1).collect();
        let path = Path { socket: 0, remote: sim.clients[bob].address };
        arena.sent = 0;
        let start = Instant::now();
        for packet in &packets {
            sim.engine.handle_datagram(sim.now, path, packet, &mut arena);
        }
        gate_best = gate_best.min(start.elapsed());
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
}
