//! The connections of this gateway: those with a socket, and those that are parked without one.
//!
//! A client of ours whose socket drops may come back within the grace and go on where it was. Until then its session is
//! parked here: member, talk and media go on, and what is pushed to it goes nowhere. This is the one place that ends a
//! connection from outside, whichever of the two it is.

mod parking;

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use voiceping_state::ConnectionId;

use crate::nodes::NodeHandle;
use crate::socket::{Close, Outbox};
use parking::Parking;
pub(crate) use parking::reap;

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
    /// A session was parked, or one that was has gone.
    parked: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<ConnectionId, Known>,
    parking: Parking,
}

#[derive(Debug)]
struct Known {
    client: Client,
    /// Where its next transport goes.
    node: Option<Arc<NodeHandle>>,
    /// Transports that their node has closed, until the session's next request. Never more than it has.
    closed_transports: Vec<String>,
}

/// How to reach a client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) outbox: Outbox,
    /// It is one of ours: it can resume its session, and move to another node.
    pub(crate) resumable: bool,
}

impl Connections {
    pub(crate) fn add(&self, connection: &ConnectionId, outbox: &Outbox) {
        let client = Client { outbox: outbox.clone(), resumable: false };
        let known = Known { client, node: None, closed_transports: Vec::new() };
        self.lock().by_id.insert(connection.clone(), known);
    }

    /// The session is over, or goes on elsewhere.
    pub(crate) fn remove(&self, connection: &ConnectionId) {
        self.lock().by_id.remove(connection);
    }

    pub(crate) fn contains(&self, connection: &ConnectionId) -> bool {
        self.lock().by_id.contains_key(connection)
    }

    /// Connections with or without a socket.
    pub(crate) fn count(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Those without one, whose client may come back.
    pub(crate) fn parked(&self) -> usize {
        self.lock().parking.count()
    }

    pub(crate) fn set_resumable(&self, connection: &ConnectionId) {
        if let Some(known) = self.lock().by_id.get_mut(connection) {
            known.client.resumable = true;
        }
    }

    /// The connection has another socket.
    pub(crate) fn set_outbox(&self, connection: &ConnectionId, outbox: &Outbox) {
        if let Some(known) = self.lock().by_id.get_mut(connection) {
            known.client.outbox = outbox.clone();
        }
    }

    pub(crate) fn set_node(&self, connection: &ConnectionId, node: Option<&Arc<NodeHandle>>) {
        if let Some(known) = self.lock().by_id.get_mut(connection) {
            known.node = node.cloned();
        }
    }

    /// The connections whose media is on a node.
    pub(crate) fn on_node(&self, node: &NodeHandle) -> Vec<(ConnectionId, Client)> {
        let inner = self.lock();
        let there = inner.by_id.iter().filter(|(_, known)| known.node.as_ref().is_some_and(|its| its.is(node)));
        there.map(|(connection, known)| (connection.clone(), known.client.clone())).collect()
    }

    /// All connections that have a socket.
    pub(crate) fn with_socket(&self) -> Vec<(ConnectionId, Client)> {
        let inner = self.lock();
        let open = inner.by_id.iter().filter(|(_, known)| !known.client.outbox.is_closed());
        open.map(|(connection, known)| (connection.clone(), known.client.clone())).collect()
    }

    /// Ends a connection for good: its socket, if it has one, or what is parked of it.
    pub(crate) fn end(&self, connection: &ConnectionId, why: Close) {
        let mut inner = self.lock();
        if let Some(known) = inner.by_id.get(connection) {
            known.client.outbox.close(why);
        }
        let parked = inner.parking.take(connection);
        drop(inner);
        // Its clean-up begins here, and takes the lock.
        drop(parked);
    }

    pub(crate) fn transport_closed(&self, connection: &ConnectionId, transport: String) {
        if let Some(known) = self.lock().by_id.get_mut(connection) {
            known.closed_transports.push(transport);
        }
    }

    pub(crate) fn take_closed_transports(&self, connection: &ConnectionId) -> Vec<String> {
        let mut inner = self.lock();
        inner.by_id.get_mut(connection).map(|known| mem::take(&mut known.closed_transports)).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under the lock")
    }
}
