//! The one task that keeps the floors of a gateway's connections.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use voiceping_proto::media::v1::GetFloorActivityRequest;
use voiceping_state::{ChannelId, FloorCause, Owner, State};

use super::{Due, Task};
use crate::shared::Shared;
use crate::state::within;

/// Calls that are under way at a time.
const CONCURRENCY: usize = 32;

/// What could not be done is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the floors until the gateway ends. A lease is renewed three times in its length: two renewals may fail.
pub(crate) async fn keep(gateway: &Shared, lease: Duration, end: CancellationToken) {
    let mut renewals = interval(lease / 3);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = gateway.floors.next_task();
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            _ = renewals.tick() => {
                let floors = stream::iter(gateway.floors.renewable());
                floors.for_each_concurrent(CONCURRENCY, |(channel, owner, epoch)| async move {
                    renew(gateway, &channel, &owner, epoch).await;
                }).await;
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let due = stream::iter(gateway.floors.take_due(Instant::now(), AGAIN));
                due.for_each_concurrent(CONCURRENCY, |due| act(gateway, due)).await;
            }
            () = gateway.floors.changed.notified() => {}
        }
    }
}

async fn renew(gateway: &Shared, channel: &ChannelId, owner: &Owner, epoch: u64) {
    match within(gateway.store.renew_floor(channel, owner, epoch)).await {
        Ok(true) => {}
        // Whoever took it has announced it.
        Ok(false) => gateway.floors.remove(channel, &owner.connection, Some(epoch)),
        Err(error) => tracing::warn!(%channel, %error, "a floor was not renewed"),
    }
}

async fn act(gateway: &Shared, due: Due) {
    match due.held.task {
        Task::None => {}
        Task::Judge(_) => judge(gateway, due).await,
        Task::Release(cause, _) => release(gateway, &due, cause).await,
    }
}

/// Asks the node about the holder's media. The node's events say the same sooner, but they can be missed.
async fn judge(gateway: &Shared, due: Due) {
    let Some(epoch) = due.held.epoch else { return };
    let request = GetFloorActivityRequest { channel_id: due.channel.to_string() };
    let activity = gateway.media.call(|mut node| async move { node.get_floor_activity(request).await }).await;
    let silent_for = match activity {
        Ok(activity) if activity.epoch == epoch => activity.silent_for_ms.map(Duration::from_millis),
        // The node knows nothing of this floor: no packet of it passes.
        Ok(activity) if activity.epoch < epoch => None,
        // The floor has moved on, and the bus will say so.
        Ok(_) => return,
        Err(status) if status.code() == tonic::Code::NotFound => None,
        // A node that does not answer is no reason to end a talk.
        Err(status) => return tracing::warn!(channel = %due.channel, %status, "a talk's media is not known"),
    };
    match silent_for {
        Some(time) if time < gateway.floors.silence_limit => gateway.floors.media_started(&due.channel, epoch),
        _ => release(gateway, &due, FloorCause::Silent).await,
    }
}

async fn release(gateway: &Shared, due: &Due, cause: FloorCause) {
    let Due { channel, held } = due;
    match within(gateway.store.release_floor(channel, &held.owner, held.epoch, cause)).await {
        Ok((floor, freed)) => {
            gateway.floors.remove(channel, &held.owner.connection, held.epoch);
            if freed {
                gateway.gate.close(channel, floor.epoch);
                tracing::info!(%channel, cause = cause.as_str(), "a floor was taken from its holder");
            }
        }
        Err(error) => tracing::warn!(%channel, %error, "a floor was not released"),
    }
}
