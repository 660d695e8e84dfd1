//! The one task that keeps the floors of a gateway's connections.

use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use voiceping_proto::media::v1::GetFloorActivityRequest;
use voiceping_state::{ChannelId, FloorCause};

use super::Due;
use super::held::Held;
use super::talk::{AGAIN, Ended, give_back, renew};
use crate::shared::Shared;

/// Calls that are under way at a time. A node that hangs must not keep the leases of others waiting.
const CONCURRENCY: usize = 256;

/// Keeps the floors until the gateway ends. A lease is renewed five times in its length: some renewals may fail.
pub(crate) async fn keep(gateway: &Shared, end: CancellationToken) {
    tokio::join!(renew_all(gateway, end.clone()), do_due(gateway, end));
}

async fn renew_all(gateway: &Shared, end: CancellationToken) {
    let every = gateway.floors.rules.lease / 5;
    let mut next = Instant::now() + every;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep_until(next) => {}
        }
        let began = Instant::now();
        let floors = stream::iter(gateway.floors.renewable());
        let renewed =
            floors.map(|(channel, owner, epoch)| async move { renew(gateway, &channel, &owner, epoch).await });
        let all = renewed.buffer_unordered(CONCURRENCY).fold(true, |all, renewed| future::ready(all && renewed));
        // A state that comes back has to be met before the first lease is over.
        next = began + if all.await { every } else { AGAIN.min(every) };
    }
}

async fn do_due(gateway: &Shared, end: CancellationToken) {
    loop {
        let next = gateway.floors.next_due();
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let due = stream::iter(gateway.floors.take_due(Instant::now(), AGAIN));
                due.for_each_concurrent(CONCURRENCY, |(channel, held, due)| act(gateway, channel, held, due)).await;
            }
            () = gateway.floors.changed.notified() => {}
        }
    }
}

async fn act(gateway: &Shared, channel: ChannelId, held: Held, due: Due) {
    match (due, held.epoch) {
        (Due::Release, _) => {
            if let Ended::StateAway(error) = give_back(gateway, &channel, &held).await {
                tracing::warn!(%channel, %error, "a floor was not given back yet");
            }
        }
        (Due::Judge, Some(epoch)) => judge(gateway, &channel, &held, epoch).await,
        (Due::Open, Some(epoch)) => {
            renew(gateway, &channel, &held.owner, epoch).await;
        }
        (Due::Judge | Due::Open, None) => {}
    }
}

/// Asks the node about the holder's media. The node's events say the same sooner, but they can be missed.
async fn judge(gateway: &Shared, channel: &ChannelId, held: &Held, epoch: u64) {
    // A holder whose node is lost has been waited for, and has not come back.
    let silent_for = match held.node().filter(|node| !node.is_lost()) {
        None => None,
        Some(node) => {
            let request = GetFloorActivityRequest { channel_id: channel.to_string() };
            match node.call(|mut node| async move { node.get_floor_activity(request).await }).await {
                Ok(activity) if activity.epoch == epoch => activity.silent_for_ms.map(Duration::from_millis),
                // The node knows nothing of this floor: no packet of it passes.
                Ok(activity) if activity.epoch < epoch => None,
                // The floor has moved on, and the bus will say so.
                Ok(_) => return,
                Err(status) if status.code() == tonic::Code::NotFound => None,
                // A node that does not answer is no reason to end a talk.
                Err(status) => return tracing::warn!(%channel, %status, "a talk's media is not known"),
            }
        }
    };
    match (silent_for, held.node()) {
        (Some(time), Some(node)) if time < gateway.floors.silence_limit => {
            gateway.floors.media_started(node, channel, epoch);
        }
        // The keeper takes it up at once.
        _ => gateway.floors.release_later(channel, &held.owner, FloorCause::Silent),
    }
}
