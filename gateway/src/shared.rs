//! What all sockets and tasks of one gateway share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voiceping_state::Store;

use crate::auth::Keys;
use crate::bus::Watcher;
use crate::config::Config;
use crate::floors::Floors;
use crate::gate::Gate;
use crate::http::Attempts;
use crate::hub::Hub;
use crate::media::Media;
use crate::sockets::Sockets;

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
    pub(crate) media: Media,
    pub(crate) media_ready: Flag,
    pub(crate) gate: Gate,
    pub(crate) floors: Floors,
    pub(crate) hub: Arc<Hub>,
    pub(crate) watcher: Watcher,
    pub(crate) sockets: Sockets,
    /// One for each socket that may still be opened.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) attempts: Attempts,
    pub(crate) started: Instant,
    pub(crate) draining: CancellationToken,
    /// What a shutdown waits for: sockets, their clean-up, gates that are being closed.
    pub(crate) tasks: TaskTracker,
}

/// Something that is so or not.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets it and answers what it was.
    pub(crate) fn replace(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::Relaxed)
    }
}
