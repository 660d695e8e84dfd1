//! What a node does for gateways without being asked: tells them its clock, and closes the clients of those that are gone.
//!
//! The clients of a gateway that dies keep their media, so that another gateway can adopt them; those that nobody adopts
//! would be heard and hear for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::worker::Worker;

/// How often gateways are told the clock.
const TICK: Duration = Duration::from_secs(5);

/// How often it is looked whether a grace has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Until the node ends.
pub(crate) async fn keep(grace: Duration, workers: Vec<Worker>, events: Arc<Events>, end: CancellationToken) {
    let start = Instant::now();
    let mut tick = interval_at(start + TICK, TICK);
    let look = LOOK.min(grace.max(Duration::from_millis(1)));
    let mut look = interval_at(start + look, look);
    loop {
        tokio::select! {
            _ = tick.tick() => events.tick(),
            _ = look.tick() => close_away(grace, &workers, &events),
            () = end.cancelled() => return,
        }
    }
}

/// Closes the connections of the gateways that have been away for the grace.
fn close_away(grace: Duration, workers: &[Worker], events: &Events) {
    for gateway in events.forget_away(grace) {
        tracing::warn!(%gateway, "a gateway is gone; what nobody has adopted of it is closed");
        for worker in workers {
            let gateway = gateway.clone();
            // A worker that has stopped has closed everything.
            let _ = worker.ask(move |engine, now, batch| engine.close_gateway(now, &gateway, batch));
        }
    }
}
