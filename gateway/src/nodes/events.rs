//! What a media node tells of itself, of this gateway's connections and of the floors that they hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use voiceping_proto::media::v1::node_event::{Event, transport_closed::Reason};

use super::handle::NodeHandle;
use crate::moving;
use crate::shared::Shared;

/// Takes in an event that came after the first.
pub(super) fn take(gateway: &Arc<Shared>, node: &Arc<NodeHandle>, event: Event) {
    match event {
        // Comes first, and was read there.
        Event::Ready(_) => {}
        Event::Tick(tick) => node.heard_clock(tick.clock_ms),
        Event::ChannelCarried(carried) => node.carried(carried.channel_id.into(), carried.carried),
        Event::Draining(draining) => {
            tracing::info!(node = %node.id(), deadline_ms = draining.deadline_ms, "a media node drains");
            node.drain(Instant::now() + Duration::from_millis(draining.deadline_ms));
            moving::node_drains(gateway, node);
        }
        Event::TransportConnected(connected) => {
            tracing::debug!(connection = connected.connection_id, "a transport is connected");
        }
        Event::TransportClosed(closed) => {
            let reason = closed.reason();
            if matches!(reason, Reason::DtlsFailed | Reason::FingerprintMismatch) {
                tracing::info!(connection = closed.connection_id, ?reason, "a transport failed");
            }
            gateway.connections.transport_closed(&closed.connection_id.into(), closed.transport_id);
        }
        Event::FloorMediaStarted(started) => {
            gateway.floors.media_started(node, &started.channel_id.into(), started.epoch);
        }
        Event::FloorMediaStopped(stopped) => {
            gateway.floors.media_stopped(node, &stopped.channel_id.into(), stopped.epoch);
        }
    }
}
