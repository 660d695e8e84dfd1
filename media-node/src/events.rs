//! The way of events from the workers to the gateways that watch: one bounded queue for each gateway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use tonic::Status;
use voiceping_engine::id::GatewayId;
use voiceping_engine::{ClosedReason, GatewayEvent};
use voiceping_proto::media::v1::NodeEvent;
use voiceping_proto::media::v1::node_event::transport_closed::Reason;
use voiceping_proto::media::v1::node_event::{
    Event, FloorMediaStarted, FloorMediaStopped, Ready, TransportClosed, TransportConnected,
};

/// Events that a gateway may be behind before it is cut off. A whole node's clients may leave at once.
const QUEUE: usize = 16_384;

/// What [`Watchers::watch`] gives.
pub(crate) type EventReceiver = mpsc::Receiver<Result<NodeEvent, Status>>;

/// The gateways that watch. Locked for a look-up and a push, by workers at most once for an event that is rare.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<String, mpsc::Sender<Result<NodeEvent, Status>>>>);

impl Watchers {
    /// Begins to watch; an earlier watch of the same gateway ends.
    pub(crate) fn watch(&self, gateway: String, node_id: &str) -> EventReceiver {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let ready =
            NodeEvent { event: Some(Event::Ready(Ready { node_id: node_id.to_owned(), ..Default::default() })) };
        // The queue is empty: there is room.
        let _ = sender.try_send(Ok(ready));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(gateway, sender);
        receiver
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Queues an event. A gateway that does not watch has nothing that it could do with it; one that is too far behind is
    /// cut off, and asks for the truth when it watches again.
    pub(crate) fn send(&self, gateway: &GatewayId, event: GatewayEvent) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watchers.get(gateway.as_str())
            && sender.try_send(Ok(message(event))).is_err()
        {
            tracing::warn!(%gateway, "a gateway has left or does not read its events: cut off");
            watchers.remove(gateway.as_str());
        }
    }
}

fn message(event: GatewayEvent) -> NodeEvent {
    let event = match event {
        GatewayEvent::TransportConnected(connection, transport) => Event::TransportConnected(TransportConnected {
            connection_id: connection.to_string(),
            transport_id: transport.to_string(),
        }),
        GatewayEvent::TransportClosed(connection, transport, reason) => Event::TransportClosed(TransportClosed {
            connection_id: connection.to_string(),
            transport_id: transport.to_string(),
            reason: match reason {
                ClosedReason::IceTimeout => Reason::IceTimeout,
                ClosedReason::DtlsFailed => Reason::DtlsFailed,
                ClosedReason::FingerprintMismatch => Reason::FingerprintMismatch,
                ClosedReason::CloseNotify => Reason::CloseNotify,
            }
            .into(),
        }),
        GatewayEvent::FloorMediaStarted(channel, epoch) => {
            Event::FloorMediaStarted(FloorMediaStarted { channel_id: channel.to_string(), epoch })
        }
        GatewayEvent::FloorMediaStopped(channel, epoch) => {
            Event::FloorMediaStopped(FloorMediaStopped { channel_id: channel.to_string(), epoch })
        }
    };
    NodeEvent { event: Some(event) }
}
