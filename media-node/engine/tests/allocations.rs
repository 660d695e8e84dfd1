//! The cost of a listener-packet in counts: no allocation, however many listeners there are.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use support::Sim;
use voiceping_engine::id::ChannelId;
use voiceping_engine::{Outbound, Path, Role};

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
}

impl Outbound for Counter {
    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn send(&mut self, _: usize, _: Path) {
        self.sent += 1;
    }

    fn relay(&mut self, _: u64, _: &ChannelId, _: u64, _: &[u8]) {}
}

/// Allocations for one packet of the holder with this many listeners, in the steady state.
fn allocations(listeners: usize, holder: bool) -> u64 {
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
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 70); // beyond the retransmission cache, so that every buffer has its size
    if !holder {
        sim.set_floor("c", 2, None).expect("newer");
    }
    let (_, packet) = sim.next_packet(alice);
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    let mut counter = Counter { buffer: [0; 1500], sent: 0 };
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    sim.engine.handle_datagram(sim.now, path, &packet, &mut counter);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(counter.sent, if holder { listeners } else { 0 });
    allocations
}

/// One test, because the counter is the process's.
#[test]
fn allocations_do_not_grow_with_listeners_and_a_closed_gate_makes_none() {
    let (few, many) = (allocations(2, true), allocations(150, true));
    assert_eq!(few, many, "148 more listeners, no more allocations");
    assert!(few <= 3, "opening the speaker's packet: {few}");
    assert_eq!(allocations(2, false), 0, "the closed gate");
}
