//! The gate of a channel at the media node: whose packets pass.
//!
//! A press opens it, and waits for the answer. Whatever ends a floor closes it: nobody waits, it is tried again until
//! the node has it, and several gateways may do the same. The node refuses an epoch older than what it has seen, so
//! nothing here has to be in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};
use voiceping_proto::media::v1::SetFloorRequest;
use voiceping_state::{ChannelId, Owner};

use crate::media::Media;

/// Opens and closes gates. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    media: Media,
    tasks: TaskTracker,
    closing: Arc<Mutex<HashMap<ChannelId, u64>>>,
}

impl Gate {
    pub(crate) fn new(media: Media, tasks: TaskTracker) -> Self {
        Self { media, tasks, closing: Arc::default() }
    }

    /// Lets the holder of a floor through. Answered when it is so.
    pub(crate) async fn open(&self, channel: &ChannelId, epoch: u64, holder: &Owner) -> Result<(), Status> {
        let request = SetFloorRequest {
            channel_id: channel.to_string(),
            epoch,
            holder_connection_id: holder.connection.to_string(),
            holder_gateway_id: holder.gateway.clone(),
            ..Default::default()
        };
        self.media.call(|mut node| async move { node.set_floor(request).await }).await.map(drop)
    }

    /// The same without waiting, for a floor that went from one holder to another: should the new holder's gateway die
    /// now, the old holder must be silent all the same.
    pub(crate) fn hand_over(&self, channel: &ChannelId, epoch: u64, holder: &Owner) {
        let (gate, channel, holder) = (self.clone(), channel.clone(), holder.clone());
        self.tasks.spawn(async move {
            if let Err(status) = gate.open(&channel, epoch, &holder).await
                && status.code() != Code::FailedPrecondition
            {
                tracing::debug!(%channel, %status, "a gate was not handed over");
            }
        });
    }

    /// Lets nobody through from this epoch on.
    pub(crate) fn close(&self, channel: &ChannelId, epoch: u64) {
        let busy = {
            let mut closing = self.lock();
            match closing.get_mut(channel) {
                Some(latest) => {
                    *latest = epoch.max(*latest);
                    true
                }
                None => closing.insert(channel.clone(), epoch).is_some(),
            }
        };
        // Otherwise the task that closes an older epoch goes on with this one.
        if !busy {
            let (gate, channel) = (self.clone(), channel.clone());
            self.tasks.spawn(async move { gate.close_latest(&channel).await });
        }
    }

    async fn close_latest(&self, channel: &ChannelId) {
        let mut closed = None;
        while let Some(epoch) = self.still_to_close(channel, closed) {
            self.try_to_close(channel, epoch).await;
            closed = Some(epoch);
        }
    }

    /// The epoch to close, if it is not the one that was closed last; the channel is done otherwise.
    fn still_to_close(&self, channel: &ChannelId, closed: Option<u64>) -> Option<u64> {
        let mut closing = self.lock();
        let latest = closing.get(channel).copied();
        if latest == closed {
            closing.remove(channel);
            return None;
        }
        latest
    }

    async fn try_to_close(&self, channel: &ChannelId, epoch: u64) {
        let close = || {
            let request = SetFloorRequest { channel_id: channel.to_string(), epoch, ..Default::default() };
            self.media.call(|mut node| async move { node.set_floor(request).await })
        };
        // In all about a minute. A node that is away for longer has lost its transports too, and lets nobody through.
        let retries = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(16);
        // The node has seen a newer epoch: the gate is somebody else's by now.
        let superseded = |status: &Status| status.code() == Code::FailedPrecondition;
        match close.retry(retries).when(|status| !superseded(status)).await {
            Ok(_) => {}
            Err(status) if superseded(&status) => {}
            Err(status) => tracing::warn!(%channel, epoch, %status, "a gate could not be closed"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, u64>> {
        self.closing.lock().expect("nothing panics under the lock")
    }
}
