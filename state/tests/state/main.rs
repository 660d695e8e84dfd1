//! The tests of the state's backends: one contract suite and one set of random schedules, run against each backend.
//! A further backend adds a file like `memory.rs`.

#[macro_use]
mod contract;
mod memory;
mod races;
mod redis;
mod schedules;
mod support;
