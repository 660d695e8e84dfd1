//! The signal to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to stop, with SIGTERM or SIGINT, and answers the name of the signal. A second signal
/// finds nobody listening for it here; whoever drains decides about impatience.
pub async fn shutdown_signal() -> &'static str {
    // Registering fails only without a runtime, or for signals that cannot be caught: a mistake in this function.
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
