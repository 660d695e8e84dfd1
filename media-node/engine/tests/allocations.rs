//! The cost of a listener-packet in counts: no allocation, however many listeners and nodes there are.

#[path = "../../../bench/baselines.rs"]
mod baselines;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use support::nodes::Nodes;
use support::{Collected, Sim};
use voiceping_engine::id::{ChannelId, RelayId};
use voiceping_engine::{Outbound, Path, RelayKey, RelayOut, Role};

/// Counts what the system's allocator is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts datagrams and keeps none.
struct Counter {
    buffer: [u8; 1500],
    sent: usize,
    relayed: usize,
}

impl Counter {
    fn new() -> Self {
        Self { buffer: [0; 1500], sent: 0, relayed: 0 }
    }
}

impl Outbound for Counter {
    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn send(&mut self, _: usize, _: Path) {
        self.sent += 1;
    }

    fn relay(&mut self, _: u64, _: &ChannelId, _: u64, _: &[u8]) {
        self.relayed += 1;
    }
}

/// Allocations for one packet of a speaker with this many listeners and other nodes, in the steady state.
fn allocations(listeners: usize, nodes: usize, holder: bool) -> u64 {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    for listener in 0..listeners {
        sim.client(&format!("listener {listener}"), Role::Client);
    }
    sim.connect_all();
    sim.produce(alice, "c");
    for listener in 0..listeners {
        sim.consume(1 + listener, "c");
    }
    for node in 0..nodes {
        let paths = vec![Path { socket: 0, remote: ([10, 0, 0, 1], 4000).into() }];
        let relay = RelayOut { session: node as u32, key: RelayKey::new([node as u8; 16]), sender: 0, paths };
        sim.engine.add_relay(sim.now, RelayId(node as u64), relay).expect("a path");
        sim.engine.set_relay_listening(sim.now, &"c".into(), RelayId(node as u64), true);
    }
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 70); // beyond the retransmission cache, so that every buffer has its size
    if !holder {
        sim.set_floor("c", 2, None).expect("newer");
    }
    let (_, packet) = sim.next_packet(alice);
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    let mut counter = Counter::new();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    sim.engine.handle_datagram(sim.now, path, &packet, &mut counter);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(counter.sent, if holder { listeners + nodes } else { 0 });
    allocations
}

/// Allocations for one packet that comes from another node, for a listener here and another engine with listeners.
fn allocations_of_a_relayed_packet() -> u64 {
    let mut nodes = Nodes::new(1, &[1, 1]);
    let (alice, carol) = (nodes.client(0, "alice"), nodes.client(1, "carol"));
    nodes.connect_all();
    nodes.produce(alice, "c");
    nodes.consume(carol, "c");
    let now = nodes.now();
    nodes.engines[1].engine.set_peer_listening(now, &"c".into(), 5, true);
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    nodes.talk(alice, 70);
    let now = nodes.now();
    let (_, packet) = nodes.engines[0].next_packet(alice.1);
    let path = Path { socket: 0, remote: nodes.engines[0].clients[alice.1].address };
    let mut collected = Collected::default();
    nodes.engines[0].engine.handle_datagram(now, path, &packet, &mut collected);
    let (_, datagram) = collected.sent.pop().expect("it is relayed");
    let mut counter = Counter::new();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    nodes.engines[1].engine.handle_datagram(now, path, &datagram, &mut counter);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!((counter.sent, counter.relayed), (1, 1));
    allocations
}

/// One test, because the counter is the process's.
#[test]
fn allocations_do_not_grow_with_listeners_or_nodes_and_a_closed_gate_and_a_relayed_packet_make_none() {
    let (few, many) = (allocations(2, 0, true), allocations(150, 0, true));
    assert_eq!(few, many, "148 more listeners, no more allocations");
    // Opening the speaker's packet included.
    baselines::check("media.allocations_per_packet", few as f64);
    assert_eq!(allocations(2, 20, true), few, "20 nodes more, no more allocations");
    assert_eq!(allocations(2, 20, false), 0, "the closed gate");
    assert_eq!(allocations_of_a_relayed_packet(), 0, "from another node");
}
