//! What a media node tells of this gateway's connections and of the floors they hold.
//!
//! One task subscribes, and subscribes again when the stream ends; what may have been missed is asked for.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use voiceping_proto::media::v1::node_event::{Event, transport_closed::Reason};
use voiceping_proto::media::v1::{NodeEvent, WatchEventsRequest};

use crate::shared::Shared;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows the node's events until the gateway ends.
pub(crate) async fn follow(gateway: &Shared, end: CancellationToken) {
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times();
    let mut pause = pauses.build();
    while !end.is_cancelled() {
        let ended = tokio::select! {
            ended = watch(gateway) => ended,
            () = end.cancelled() => return,
        };
        if gateway.media_ready.replace(false) {
            pause = pauses.build();
        }
        tracing::warn!(why = %ended, "the media node's events ended; subscribing again");
        tokio::select! {
            () = sleep(pause.next().unwrap_or(LONGEST_PAUSE)) => {}
            () = end.cancelled() => return,
        }
    }
}

/// Reads one stream to its end, and answers why it ended.
async fn watch(gateway: &Shared) -> Status {
    let request = WatchEventsRequest { gateway_id: gateway.id.clone() };
    let mut events = match gateway.media.call(|mut node| async move { node.watch_events(request).await }).await {
        Ok(events) => events,
        Err(status) => return status,
    };
    loop {
        match events.message().await {
            Ok(Some(NodeEvent { event: Some(event) })) => take(gateway, event),
            // Of a newer node.
            Ok(Some(NodeEvent { event: None })) => {}
            Ok(None) => return Status::ok("the node ended the stream"),
            Err(status) => return status,
        }
    }
}

fn take(gateway: &Shared, event: Event) {
    match event {
        Event::Ready(ready) => {
            tracing::info!(node = ready.node_id, "the media node is ready");
            gateway.media_ready.set(true);
            gateway.floors.media_unknown();
        }
        Event::TransportConnected(connected) => {
            tracing::debug!(connection = connected.connection_id, "a transport is connected");
        }
        Event::TransportClosed(closed) => {
            let reason = closed.reason();
            if matches!(reason, Reason::DtlsFailed | Reason::FingerprintMismatch) {
                tracing::info!(connection = closed.connection_id, ?reason, "a transport failed");
            }
            gateway.sockets.transport_closed(&closed.connection_id.into(), closed.transport_id);
        }
        Event::FloorMediaStarted(started) => gateway.floors.media_started(&started.channel_id.into(), started.epoch),
        Event::FloorMediaStopped(stopped) => gateway.floors.media_stopped(&stopped.channel_id.into(), stopped.epoch),
        Event::Tick(_) | Event::ChannelCarried(_) | Event::Draining(_) => {}
    }
}
