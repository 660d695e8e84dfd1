//! Sessions without a socket, until their client comes back or the grace is over.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use voiceping_state::ConnectionId;

use super::Connections;
use crate::session::Session;
use crate::shared::Shared;
use crate::socket::Close;

/// A socket that is superseded ends within this time: it may be in the middle of a request.
const SUPERSEDED: Duration = Duration::from_secs(5);

/// What is parked. The grace is the same for all, so the order of coming is that of leaving.
#[derive(Debug, Default)]
pub(super) struct Parking {
    session_by_id: HashMap<ConnectionId, (Instant, Session)>,
    leaving: VecDeque<(Instant, ConnectionId)>,
}

impl Parking {
    pub(super) fn take(&mut self, connection: &ConnectionId) -> Option<Session> {
        self.session_by_id.remove(connection).map(|(_, session)| session)
    }

    pub(super) fn count(&self) -> usize {
        self.session_by_id.len()
    }

    fn park(&mut self, session: Session, until: Instant) {
        let connection = session.connection().clone();
        self.leaving.push_back((until, connection.clone()));
        self.session_by_id.insert(connection, (until, session));
    }

    fn take_over(&mut self, now: Instant) -> Vec<Session> {
        let mut over = Vec::new();
        while let Some((until, connection)) = self.leaving.pop_front_if(|(until, _)| *until <= now) {
            // One that came back and was parked again has a later time.
            if self.session_by_id.get(&connection).is_some_and(|(parked, _)| *parked == until) {
                over.extend(self.take(&connection));
            }
        }
        over
    }
}

impl Connections {
    /// Keeps a session whose socket has dropped.
    pub(crate) fn park(&self, session: Session, grace: Duration) {
        tracing::debug!(connection = %session.connection(), ?grace, "a session waits for its client");
        self.lock().parking.park(session, Instant::now() + grace);
        self.parked.notify_waiters();
    }

    /// The session of a connection of this gateway, whose client has come back over another socket. The former socket may
    /// not know yet that it is over: it is told. `None`: there is no such connection here, or it does not let go.
    pub(crate) async fn take_parked(&self, connection: &ConnectionId) -> Option<Session> {
        let taken = async {
            loop {
                let parked = self.parked.notified();
                {
                    let mut inner = self.lock();
                    if let Some(session) = inner.parking.take(connection) {
                        return Some(session);
                    }
                    inner.by_id.get(connection)?.client.outbox.close(Close::Superseded);
                }
                parked.await;
            }
        };
        timeout(SUPERSEDED, taken).await.ok().flatten()
    }

    /// All that is parked, with nobody to come back for it here.
    pub(crate) fn take_all_parked(&self) -> Vec<Session> {
        let mut inner = self.lock();
        std::mem::take(&mut inner.parking).session_by_id.into_values().map(|(_, session)| session).collect()
    }

    fn take_over(&self) -> Vec<Session> {
        self.lock().parking.take_over(Instant::now())
    }

    fn next_over(&self) -> Option<Instant> {
        self.lock().parking.leaving.front().map(|(until, _)| *until)
    }
}

/// Cleans up after the clients that have not come back, until the gateway ends.
pub(crate) async fn reap(gateway: &Shared, end: CancellationToken) {
    loop {
        let parked = gateway.connections.parked.notified();
        let next = gateway.connections.next_over();
        tokio::select! {
            () = end.cancelled() => return,
            () = parked => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                for session in gateway.connections.take_over() {
                    tracing::debug!(connection = %session.connection(), "a client has not come back");
                    drop(session);
                }
            }
        }
    }
}
