//! The sockets of this gateway by connection: for what concerns one of them and comes from elsewhere.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard};

use voiceping_state::ConnectionId;

use crate::socket::{Close, Outbox};

/// All sockets.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    by_connection: Mutex<HashMap<ConnectionId, Socket>>,
}

#[derive(Debug)]
struct Socket {
    outbox: Outbox,
    /// Transports that the media node has closed, until the socket's next request. Never more than it has.
    closed_transports: Vec<String>,
}

impl Sockets {
    pub(crate) fn add(&self, connection: &ConnectionId, outbox: &Outbox) {
        let socket = Socket { outbox: outbox.clone(), closed_transports: Vec::new() };
        self.lock().insert(connection.clone(), socket);
    }

    pub(crate) fn remove(&self, connection: &ConnectionId) {
        self.lock().remove(connection);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends all sockets.
    pub(crate) fn close_all(&self, why: Close) {
        for socket in self.lock().values() {
            socket.outbox.close(why);
        }
    }

    pub(crate) fn transport_closed(&self, connection: &ConnectionId, transport: String) {
        if let Some(socket) = self.lock().get_mut(connection) {
            socket.closed_transports.push(transport);
        }
    }

    pub(crate) fn take_closed_transports(&self, connection: &ConnectionId) -> Vec<String> {
        self.lock().get_mut(connection).map(|socket| mem::take(&mut socket.closed_transports)).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Socket>> {
        self.by_connection.lock().expect("nothing panics under the lock")
    }
}
