//! What becomes of connections whose media node is lost, or is about to end.
//!
//! Our own client is told and moves: it opens transports anew, on another node, and keeps its socket and the floor that it
//! holds. Existing clients know nothing of that: their sockets are closed, and they come back. Called by the tasks that
//! follow the nodes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::message::push;
use crate::nodes::{Lost, NodeHandle};
use crate::shared::Shared;
use crate::socket::Close;

/// How often a draining node's clients are looked at, whether one of them has finished its talk.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A node is lost, with all transports that were there.
pub(crate) fn node_lost(gateway: &Shared, node: &NodeHandle, how: Lost) {
    let on_node = gateway.connections.on_node(node);
    if node.was_ready() {
        tracing::warn!(node = %node.id(), ?how, connections = on_node.len(), "a media node is lost");
    }
    gateway.floors.node_lost(node);
    let moved = moved("node-lost");
    for (connection, client) in on_node {
        if client.resumable {
            client.outbox.send(moved.clone());
        } else {
            gateway.connections.end(&connection, Close::MediaMoved);
        }
    }
}

/// A node is about to end. Who talks may finish, until the node's deadline.
pub(crate) fn node_drains(gateway: &Arc<Shared>, node: &Arc<NodeHandle>) {
    let moved = moved("draining");
    for (_, client) in gateway.connections.on_node(node).into_iter().filter(|(_, client)| client.resumable) {
        client.outbox.send(moved.clone());
    }
    let (gateway, node) = (Arc::clone(gateway), Arc::clone(node));
    tokio::spawn(async move {
        tokio::select! {
            () = let_go(&gateway, &node) => {}
            () = node.lost() => {}
            () = gateway.draining.cancelled() => {}
        }
    });
}

/// What a client is told that has to open transports anew.
pub(crate) fn moved(reason: &'static str) -> axum::extract::ws::Utf8Bytes {
    push("media-moved", json!({"reason": reason}))
}

/// Closes the sockets of existing clients, each when it does not talk.
async fn let_go(gateway: &Shared, node: &NodeHandle) {
    let mut look = interval(LOOK_AGAIN);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let over = node.drain_deadline().is_none_or(|deadline| deadline <= Instant::now());
        let existing = gateway.connections.on_node(node).into_iter().filter(|(_, client)| !client.resumable);
        let existing: Vec<_> = existing.collect();
        for (connection, _) in &existing {
            if over || !gateway.floors.is_talking(connection) {
                gateway.connections.end(connection, Close::MediaMoved);
            }
        }
        if existing.is_empty() || over {
            return;
        }
    }
}
