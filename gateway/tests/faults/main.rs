//! Gateways and media nodes, and what goes wrong between them. Everything is the real thing, in one process; what stands
//! between a gateway and a node is a transport that does as the test says.

mod client;
mod cluster;
mod gates;
mod moving;
mod network;
mod node;
mod placement;
mod sessions;
mod shutdown;
mod state;
mod voice;

use std::sync::atomic::{AtomicUsize, Ordering};

/// A channel of the test's own: the account of gates is kept by channel.
fn channel() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
