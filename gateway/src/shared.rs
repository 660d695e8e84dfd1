//! What all sockets and tasks of one gateway share.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voiceping_state::Store;

use crate::auth::Keys;
use crate::bus::Watcher;
use crate::config::Config;
use crate::connections::Connections;
use crate::floors::Floors;
use crate::http::{Attempts, Guests, Tls};
use crate::hub::Hub;
use crate::nodes::Nodes;
use crate::turn::Turn;

/// One gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Unique in the deployment.
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    /// May a token that lists no channels join any?
    pub(crate) open: bool,
    pub(crate) dev_sign_in: bool,
    pub(crate) store: Store,
    pub(crate) nodes: Nodes,
    /// `None`: clients are told of no TURN servers.
    pub(crate) turn: Option<Turn>,
    pub(crate) floors: Floors,
    pub(crate) hub: Arc<Hub>,
    pub(crate) watcher: Watcher,
    pub(crate) connections: Connections,
    /// One for each socket that may still be opened.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) attempts: Attempts,
    pub(crate) guests: Guests,
    /// `None`: the port speaks plain HTTP.
    pub(crate) tls: Option<Tls>,
    pub(crate) started: Instant,
    pub(crate) draining: CancellationToken,
    /// What a shutdown waits for: sockets, their clean-up, gates that are being closed.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    /// Takes in the files that have changed. Small ones, on a local file system: not worth a thread of their own.
    pub(crate) fn look_at_files(&self) {
        self.keys.look_at_files();
        if let Some(tls) = &self.tls {
            tls.look_at_files();
        }
        if let Some(turn) = &self.turn {
            turn.look_at_files();
        }
    }
}
