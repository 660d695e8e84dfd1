//! From the shared state to the hub: the one subscription of this gateway, and the snapshots that fill its gaps.
//!
//! One task owns the subscription; joins ask it to watch a channel. Every change of a floor passes through
//! [`floor_changed`], whether the bus or a snapshot brought it.

use std::time::Duration;

use anyhow::bail;
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use voiceping_signals::{span, trace};
use voiceping_state::{ChannelId, Event, Floor, FloorChanged, State, StateError, Subscription};

use crate::floors;
use crate::hub::{Applied, Change};
use crate::shared::Shared;
use crate::state::within;

/// Snapshots and expiry checks that are under way at a time.
const CONCURRENCY: usize = 16;

/// Joins that wait for the subscription at a time; more wait to be heard.
const QUEUE: usize = 256;

/// Events after which the writing halves of the sockets get a turn, so that a flood of events fills no outbox of a
/// client that reads as fast as it can.
const TURN: usize = 32;

/// An expiry check without an answer, or for a lease that goes on, is repeated after this time.
const EXPIRY_AGAIN: Duration = Duration::from_secs(1);

/// What an expiry check has freed is announced on the bus within this time.
const ANNOUNCEMENT_PATIENCE: Duration = Duration::from_millis(250);

/// Asks the subscription's task to watch channels.
#[derive(Debug)]
pub(crate) struct Watcher(mpsc::Sender<Watch>);

/// A channel to watch, and where to say that it is watched.
#[derive(Debug)]
pub(crate) struct Watch {
    channel: ChannelId,
    done: oneshot::Sender<Result<(), StateError>>,
}

impl Watcher {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Watch>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    async fn watch(&self, channel: &ChannelId) -> Result<(), StateError> {
        let (done, watched) = oneshot::channel();
        let ended = |_| StateError::Unavailable("the gateway ends".into());
        self.0.send(Watch { channel: channel.clone(), done }).await.map_err(|_| ended(()))?;
        watched.await.unwrap_or_else(|_| Err(ended(())))
    }
}

/// Makes sure that a channel's floor is known and stays so. The caller holds an interest in it.
pub(crate) async fn follow_channel(gateway: &Shared, channel: &ChannelId) -> Result<(), StateError> {
    if !gateway.hub.is_watched(channel) {
        within(gateway.watcher.watch(channel)).await?;
    }
    if gateway.hub.known(channel).is_none() {
        snapshot(gateway, channel).await?;
    }
    Ok(())
}

/// Serves the subscription until the gateway or the state ends.
pub(crate) async fn serve(
    gateway: &Shared,
    mut subscription: Subscription,
    mut watches: mpsc::Receiver<Watch>,
    mut idle: mpsc::UnboundedReceiver<ChannelId>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let mut events_in_turn = 0;
    loop {
        // Joins are served also while changes have to wait.
        let has_room = gateway.hub.has_room();
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = gateway.hub.room(), if !has_room => {}
            Some(watch) = watches.recv() => {
                let watched = subscription.watch(&watch.channel).await;
                if watched.is_ok() {
                    gateway.hub.set_watched(&watch.channel);
                }
                // A join that has given up does not wait for it.
                let _ = watch.done.send(watched);
            }
            Some(channel) = idle.recv() => {
                if gateway.hub.forget_if_idle(&channel)
                    && let Err(error) = subscription.unwatch(&channel).await
                {
                    tracing::debug!(%channel, %error, "a channel stays watched");
                }
            }
            event = subscription.next(), if has_room => match event {
                Some(event) => {
                    take(gateway, event).await;
                    events_in_turn += 1;
                    if events_in_turn == TURN {
                        events_in_turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                None => bail!("the shared state has shut down"),
            },
        }
    }
}

async fn take(gateway: &Shared, event: Event) {
    match event {
        Event::Floor(changed) => {
            let FloorChanged { channel, floor, cause, previous, trace } = &changed;
            let change = Change { channel, floor, cause: Some(*cause), previous: previous.as_ref() };
            // Of the press that has caused it, here or at another gateway.
            let span = trace::continued(trace.as_deref(), || {
                span!("push speaker-changed", kind = "consumer", "voiceping.channel" = channel.as_str())
            });
            span.in_scope(|| floor_changed(gateway, &change));
        }
        Event::Member(changed) => gateway.hub.member_changed(changed),
        Event::Resync => {
            tracing::warn!("events of the shared state were lost; reading snapshots");
            let channels = stream::iter(gateway.hub.watched());
            channels
                .for_each_concurrent(CONCURRENCY, |channel| async move {
                    if let Err(error) = snapshot(gateway, &channel).await {
                        tracing::warn!(%channel, %error, "no snapshot could be read");
                    }
                })
                .await;
        }
    }
}

async fn snapshot(gateway: &Shared, channel: &ChannelId) -> Result<(), StateError> {
    let floor = within(gateway.store.floor(channel)).await?;
    seen(gateway, channel, &floor);
    Ok(())
}

fn seen(gateway: &Shared, channel: &ChannelId, floor: &Floor) {
    floor_changed(gateway, &Change { channel, floor, cause: None, previous: None });
}

/// Tells the members, and lets go of what is lost. The press that took a floor opens its gate.
fn floor_changed(gateway: &Shared, change: &Change<'_>) {
    if gateway.hub.apply(change) == Applied::Changed {
        floors::lost(gateway, change.channel, change.floor.epoch);
    }
}

/// Asks the state about the leases that should have ended, for all channels with local members, until the gateway ends.
/// Every gateway of a channel does; one of them frees the floor and announces it.
pub(crate) async fn expire(gateway: &Shared, end: CancellationToken) {
    loop {
        let next = gateway.hub.next_lease();
        tokio::select! {
            () = end.cancelled() => return,
            () = gateway.hub.lease_changed() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let due = stream::iter(gateway.hub.take_expired(Instant::now(), EXPIRY_AGAIN));
                due.for_each_concurrent(CONCURRENCY, |channel| async move {
                    match within(gateway.store.expire_floor(&channel)).await {
                        Ok(floor) => seen_after_expiry(gateway, &channel, &floor).await,
                        Err(error) => tracing::warn!(%channel, %error, "a lease could not be checked"),
                    }
                }).await;
            }
        }
    }
}

/// A floor that the check has freed is announced on the bus, with the cause. The bus goes first; should it stay silent,
/// the answer counts.
async fn seen_after_expiry(gateway: &Shared, channel: &ChannelId, floor: &Floor) {
    if floor.holder.is_none() {
        sleep(ANNOUNCEMENT_PATIENCE).await;
    }
    seen(gateway, channel, floor);
}
