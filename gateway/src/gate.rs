//! The gate of a channel at a media node: whose packets pass, and until when.
//!
//! Gates of one channel never overlap, on whatever nodes they are. Two rules make it so. A gate has an end, which is not
//! later than the lease that it was opened for. And a floor is given back only after its gate has closed: because the node
//! said so, because the node is gone, or because the gate's end has passed. [`crate::floors`] keeps to them; here are the
//! calls.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::{Code, Status};
use voiceping_proto::media::v1::SetFloorRequest;
use voiceping_state::{ChannelId, Owner};

use crate::nodes::NodeHandle;

/// Lets the holder of a floor through until a time; or moves that time, and the gateway that is told of its media.
/// Answered when it is so. The node refuses an epoch that has ended there, or is older than the last that it has seen, so
/// nothing here has to be in order.
pub(crate) async fn open(
    node: &NodeHandle,
    channel: &ChannelId,
    epoch: u64,
    holder: &Owner,
    until: Instant,
) -> Result<(), Status> {
    let valid_until_ms =
        node.clock_at(until).ok_or_else(|| Status::unavailable("the media node has not said how late it is"))?;
    let request = SetFloorRequest {
        channel_id: channel.to_string(),
        epoch,
        holder_connection_id: holder.connection.to_string(),
        holder_gateway_id: holder.gateway.clone(),
        valid_until_ms,
        hear_out: false,
    };
    let answer = node.call(|mut node| async move { node.set_floor(request).await }).await?;
    node.heard_clock(answer.clock_ms);
    Ok(())
}

/// What is known of a gate that was to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It is sure to be closed.
    Closed,
    /// The node did not say. It may be open until its end.
    Unknown,
    /// Another gateway has taken it over with its connection. It may be open, and so may the floor be held: neither is ours
    /// to end any more.
    Kept,
}

/// Ends an epoch at a node at once, unless the gate there is another gateway's by now.
pub(crate) async fn close(node: &NodeHandle, channel: &ChannelId, epoch: u64, gateway: &str) -> Closing {
    end(node, channel, epoch, gateway, false).await
}

/// The same when the holder has let go: what it had sent before is heard first, also by a node that is behind.
pub(crate) async fn release(node: &NodeHandle, channel: &ChannelId, epoch: u64, gateway: &str) -> Closing {
    end(node, channel, epoch, gateway, true).await
}

async fn end(node: &NodeHandle, channel: &ChannelId, epoch: u64, gateway: &str, hear_out: bool) -> Closing {
    let request = SetFloorRequest {
        channel_id: channel.to_string(),
        epoch,
        holder_gateway_id: gateway.to_owned(),
        hear_out,
        ..Default::default()
    };
    match node.call(|mut node| async move { node.set_floor(request).await }).await {
        Ok(answer) if answer.kept => Closing::Kept,
        Ok(_) => Closing::Closed,
        // The node has seen a newer epoch: this one is over there.
        Err(status) if status.code() == Code::FailedPrecondition => Closing::Closed,
        Err(status) if node.is_gone() || voiceping_rpc::is_refused(&status) => Closing::Closed,
        Err(status) => {
            tracing::debug!(%channel, epoch, node = %node.id(), %status, "a gate could not be closed");
            Closing::Unknown
        }
    }
}

/// Ends an epoch wherever its gate may be. Answers whether it is sure to be closed everywhere.
pub(crate) async fn close_everywhere(nodes: &[Arc<NodeHandle>], channel: &ChannelId, epoch: u64) -> bool {
    join_all(nodes.iter().map(|node| close(node, channel, epoch, "")))
        .await
        .into_iter()
        .all(|closing| closing == Closing::Closed)
}
