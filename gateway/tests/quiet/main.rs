//! What members who do nothing cost the gateway, in counts: bytes of memory for each, allocations for a push.
//!
//! The clients are sockets of the system without memory of their own, so that what is counted is the gateway's, with the
//! state in memory that stands for Redis. Everything is counted in one process and one test binary, because the
//! allocator is.

#[path = "../../../bench/baselines.rs"]
mod baselines;
mod counting;
mod crowd;
mod fan_out;
mod idle;
mod members;
