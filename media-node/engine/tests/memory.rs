//! What a member costs in memory, in bytes that were asked of the C library's allocator, on which Rust's and the
//! cryptography's stand. Counts, not resident pages: the same on every machine. `docs/performance.md` says where they go.

#![allow(clippy::print_stdout)] // the figures are what one wants to see

#[path = "../../../bench/baselines.rs"]
mod baselines;
mod support;

use std::time::{Duration, Instant, SystemTime};

use support::Sim;
use voiceping_engine::{Config, Engine, Identity, Role};

const MEMBERS: usize = 250;

/// What speaking for a while, or hearing somebody, adds to it: keys, and what is known of the stream.
const ACTIVE: usize = 2 << 10;

/// Bytes in use in the whole process; nothing else runs in it.
#[allow(unsafe_code)]
fn used() -> usize {
    // SAFETY: takes nothing, answers a structure of numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Bytes of an engine's share of this test, which ends here.
fn bytes_of_engine(sim: &mut Sim) -> usize {
    let identity = Identity::generate().expect("randomness");
    let empty = Engine::new(Config::new(identity, (sim.now, SystemTime::now())), [1; 32]);
    let before = used();
    sim.engine = empty;
    before - used()
}

fn members(role: Role) -> Sim {
    let mut sim = Sim::replaying(Instant::now(), 1, Duration::from_secs(1));
    (0..MEMBERS).for_each(|number| {
        sim.client(&format!("member {number}"), role);
    });
    sim.connect_all();
    sim
}

/// The same when their handshakes are long over.
fn settled_members(role: Role) -> Sim {
    let mut sim = members(role);
    sim.run_for(Duration::from_secs(40));
    sim
}

/// One test, because the count is the process's.
#[test]
fn a_transport_has_its_size() {
    for role in [Role::Client, Role::Server] {
        let connected = bytes_of_engine(&mut members(role)) / MEMBERS;
        println!("{role:?}: a connected transport has {connected} bytes");
        // With its association, certificate and keys checked, before the first packet. DTLS has nine tenths of it.
        baselines::check("media.bytes_per_connected_transport", connected as f64);

        let mut sim = settled_members(role);
        let idle = bytes_of_engine(&mut sim) / MEMBERS;
        println!("{role:?}: one whose handshake is long over has {idle} bytes");
        baselines::check("media.bytes_per_idle_transport", idle as f64);

        let mut sim = settled_members(role);
        for member in 0..MEMBERS {
            sim.consume(member, "c");
        }
        sim.produce(0, "c");
        sim.set_floor("c", 1, Some("member 0")).expect("first");
        sim.talk(0, 100);
        assert_eq!(sim.clients[MEMBERS - 1].heard("member 0").len(), 100);
        let hearing = bytes_of_engine(&mut sim) / MEMBERS;
        println!("{role:?}: one that hears has {hearing} bytes");
        assert!(hearing < idle + ACTIVE, "{hearing} bytes");

        let mut sim = settled_members(role);
        for member in 0..MEMBERS {
            sim.produce(member, "c");
            sim.set_floor("c", 1 + member as u64, Some(&format!("member {member}"))).expect("newer");
            sim.talk(member, 2);
        }
        let speaking = bytes_of_engine(&mut sim) / MEMBERS;
        println!("{role:?}: one that has spoken has {speaking} bytes");
        assert!(speaking < idle + ACTIVE, "{speaking} bytes");

        // What is kept of a talk's beginning for who comes late is not kept where nobody came.
        let mut sim = settled_members(role);
        for member in 0..MEMBERS / 10 {
            let channel = format!("channel {member}");
            sim.produce(member, &channel);
            sim.set_floor(&channel, 1, Some(&format!("member {member}"))).expect("first");
            sim.talk(member, 55);
        }
        let unheard = (bytes_of_engine(&mut sim) - MEMBERS * idle) / (MEMBERS / 10);
        println!("{role:?}: one that has spoken where nobody listens, and its channel, have {unheard} bytes more");
        assert!(unheard < 2 * ACTIVE, "{unheard} bytes");
    }
}
