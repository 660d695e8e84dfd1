//! What is to be done when a connection has ended or left a channel: its media, its talk, its membership.
//!
//! Each step on its own, tried again when it fails, so that one failure skips nothing. But the membership, which frees the
//! floor too, ends only when the talk's gate is sure to be closed. Started by the end of a session, and used by
//! `leave-channel`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use voiceping_proto::media::v1::CloseConnectionRequest;
use voiceping_state::{ChannelId, FloorCause, Leaving, Owner, State, StateError};

use crate::floors;
use crate::hub::Interest;
use crate::nodes::NodeHandle;
use crate::shared::Shared;
use crate::state::within;

/// Channels that are left at a time.
const CONCURRENCY: usize = 8;

/// Cleans up after a connection.
pub(super) async fn clean_up(
    gateway: Arc<Shared>,
    owner: Owner,
    joined: HashMap<ChannelId, Interest>,
    nodes: Vec<Arc<NodeHandle>>,
) {
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
    tokio::join!(close_media(&gateway, &nodes, &owner, None), channels);
}

/// Ends a membership and, first, the talk of the connection on the channel.
pub(crate) async fn leave(
    gateway: &Shared,
    channel: &ChannelId,
    owner: &Owner,
    leaving: Leaving,
) -> Result<(), StateError> {
    floors::end_surely(gateway, channel, owner, FloorCause::Left).await;
    (|| within(gateway.store.leave(channel, owner, leaving))).retry(retries()).await.map(drop)
}

/// Closes what the connection has on a channel or, without one, all of its media. Another gateway that has taken the
/// connection over keeps it.
pub(crate) async fn close_media(
    gateway: &Shared,
    nodes: &[Arc<NodeHandle>],
    owner: &Owner,
    channel: Option<&ChannelId>,
) {
    let close = |node: &Arc<NodeHandle>| {
        let request = CloseConnectionRequest {
            connection_id: owner.connection.to_string(),
            channel_id: channel.map(ChannelId::to_string).unwrap_or_default(),
            gateway_id: gateway.id.clone(),
        };
        let node = Arc::clone(node);
        async move { node.call(|mut node| async move { node.close_connection(request).await }).await }
    };
    join_all(nodes.iter().filter(|node| !node.is_gone()).map(|node| async move {
        if let Err(status) = (|| close(node)).retry(retries()).await {
            tracing::warn!(%status, "media that nobody needs is left to the ICE timeout");
        }
    }))
    .await;
}

/// A short while; then the lease and the ICE timeout do the same.
fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(4)
}
