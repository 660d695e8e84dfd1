//! The end of a gateway: nobody is cut off who could finish or go on elsewhere.
//!
//! Our own clients are told at once (1012): they resume at another gateway, so nothing of them is cleaned up here. Existing
//! clients that talk may finish; all others are told at once, and cleaned up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;
use crate::socket::Close;

/// How often it is looked whether a talk has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Ends all connections, and waits until that is done or the deadline has passed.
pub(crate) async fn drain(gateway: &Shared, shutdown: CancellationToken) {
    gateway.draining.cancel();
    // Also where a part's failure began this: the connections of the port end with it.
    shutdown.cancel();
    tracing::info!(connections = gateway.connections.count(), "draining");
    let deadline = Instant::now() + gateway.config.drain_deadline;
    // Some of the time is for what is to be done afterwards.
    let talks_until = deadline - gateway.config.drain_deadline / 4;
    for session in gateway.connections.take_all_parked() {
        session.forget();
    }
    while close_idle(gateway) && Instant::now() < talks_until {
        sleep(LOOK_AGAIN).await;
    }
    for (connection, _) in gateway.connections.with_socket() {
        gateway.connections.end(&connection, Close::Drain);
    }
    gateway.tasks.close();
    if timeout(deadline.saturating_duration_since(Instant::now()), gateway.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = gateway.tasks.len(), "the drain's deadline has passed; the rest is cut off");
    }
}

/// Closes the sockets of all who need not finish a talk. Answers whether some do.
fn close_idle(gateway: &Shared) -> bool {
    let mut talking = false;
    for (connection, client) in gateway.connections.with_socket() {
        if !client.resumable && gateway.floors.is_talking(&connection) {
            talking = true;
        } else {
            gateway.connections.end(&connection, Close::Drain);
        }
    }
    talking
}
