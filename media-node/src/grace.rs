//! What a node does for gateways without being asked: tells them its clock, and closes the clients of those that are gone.
//!
//! The clients of a gateway that dies keep their media, so that another gateway can adopt them; those that nobody adopts
//! would be heard and hear for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::worker::{Answers, Worker};

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
            _ = look.tick() => close_away(grace, &workers, &events).await,
            () = end.cancelled() => return,
        }
    }
}

/// Closes the connections of the gateways that have been away for the grace.
async fn close_away(grace: Duration, workers: &[Worker], events: &Events) {
    for gateway in events.forget_away(grace) {
        let ask = |worker: &Worker| {
            let gateway = gateway.clone();
            worker.ask(move |engine, now, batch| engine.close_gateway(now, &gateway, batch))
        };
        let asked = Answers::of(workers.iter().map(ask));
        // Workers that have stopped have closed everything.
        let closed: usize = asked.all().await.unwrap_or_default().into_iter().sum();
        if closed > 0 {
            tracing::warn!(%gateway, closed, "a gateway is gone, and nobody has adopted these of its clients: closed");
        }
    }
}
