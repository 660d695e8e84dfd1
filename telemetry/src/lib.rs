//! What every role of the binary shares: the log's set-up and the signal to stop.
//!
//! Called once by each command of the root binary. Never logs by itself, and knows nothing of what a role does.

mod log;
mod shutdown;

pub use log::{LogArgs, LogFormat, init};
pub use shutdown::shutdown_signal;
