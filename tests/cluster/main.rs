//! The system as a whole, as its users meet it: scenarios over the all-in-one and over clusters of real processes with a
//! real Redis between them, and the faults that a cluster must survive.

#![allow(clippy::print_stdout, clippy::print_stderr)] // seeds and times are told to whoever reads the output

#[path = "../../bench/baselines.rs"]
mod baselines;
mod chaos;
mod cluster;
mod drain;
mod faults;
mod gates;
mod network;
mod partition;
#[allow(dead_code)] // of the tests of the all-in-one, which use all of it
#[path = "../stack/phone.rs"]
mod phone;
#[allow(dead_code)] // the same
#[path = "../stack/process.rs"]
mod process;
mod quiet;
mod scenarios;
#[allow(dead_code, unreachable_pub)] // of the state's tests
#[path = "../../state/tests/state/redis/servers.rs"]
mod servers;
mod sessions;
mod user;
