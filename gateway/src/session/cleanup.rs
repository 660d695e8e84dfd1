//! What is to be done when a connection has ended or left a channel: its media, its membership, its floor.
//!
//! Each step on its own, tried again when it fails, so that one failure skips nothing. Started by the end of a session,
//! and used by `leave-channel`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::{StreamExt, stream};
use voiceping_proto::media::v1::CloseConnectionRequest;
use voiceping_state::{ChannelId, ConnectionId, FloorCause, Leaving, Owner, State, StateError};

use crate::hub::Interest;
use crate::shared::Shared;
use crate::state::within;

/// Channels that are left at a time.
const CONCURRENCY: usize = 8;

/// Cleans up after a connection.
pub(super) async fn clean_up(gateway: Arc<Shared>, owner: Owner, joined: HashMap<ChannelId, Interest>) {
    // Nothing is pushed to it any more, before anything that could wait.
    for channel in joined.keys() {
        gateway.hub.exit(channel, &owner.connection);
    }
    let channels = stream::iter(joined).for_each_concurrent(CONCURRENCY, |(channel, interest)| {
        let (gateway, owner) = (Arc::clone(&gateway), owner.clone());
        async move {
            if let Err(error) = leave(&gateway, &channel, &owner, Leaving::Disconnected).await {
                tracing::warn!(%channel, %error, "a connection that ended is still a member");
            }
            drop(interest);
        }
    });
    tokio::join!(close_media(&gateway, &owner.connection, None), channels);
}

/// Ends a membership and, first, the talk of the connection on the channel.
pub(crate) async fn leave(
    gateway: &Shared,
    channel: &ChannelId,
    owner: &Owner,
    leaving: Leaving,
) -> Result<(), StateError> {
    if gateway.floors.released(channel, &owner.connection) {
        // The end of the membership frees the floor too, but does not tell the epoch, and when this was the channel's
        // last member here the bus may not either.
        let release = gateway.store.release_floor(channel, owner, None, FloorCause::Left);
        if let Ok((floor, true)) = within(release).await {
            gateway.gate.close(channel, floor.epoch);
        }
    }
    (|| within(gateway.store.leave(channel, owner, leaving))).retry(retries()).await.map(drop)
}

/// Closes what the connection has on a channel or, without one, all of its media.
pub(crate) async fn close_media(gateway: &Shared, connection: &ConnectionId, channel: Option<&ChannelId>) {
    let close = || {
        let request = CloseConnectionRequest {
            connection_id: connection.to_string(),
            channel_id: channel.map(ChannelId::to_string).unwrap_or_default(),
            ..Default::default()
        };
        gateway.media.call(|mut node| async move { node.close_connection(request).await })
    };
    if let Err(status) = close.retry(retries()).await {
        tracing::warn!(%status, "media that nobody needs is left to the ICE timeout");
    }
}

/// A short while; then the lease and the ICE timeout do the same.
fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(4)
}
