//! The signaling side of VoicePing: one gateway, which serves clients over WebSockets.
//!
//! A gateway authenticates and authorizes, asks the shared state for floors and the media node for transports, and pushes
//! what happens to its own sockets. It keeps nothing that another gateway could not serve as well: losing one costs its
//! sockets a reconnect and costs the audio nothing. It never touches a packet of audio.
//!
//! Built and run by the root binary, which gives it the [`Dependencies`]. Where to look: `socket` is the actor behind a
//! WebSocket, `request/` has one file for each thing that a client can ask, `hub` fans out, `bus` follows the state,
//! `floors` and `gate` keep the floors that connections here hold.

mod auth;
mod bus;
mod config;
mod error;
mod floors;
mod gate;
mod http;
mod hub;
mod media;
mod message;
mod request;
mod session;
mod shared;
mod socket;
mod sockets;
mod state;
mod view;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voiceping_state::{ChannelId, State, Store};

pub use auth::{AuthConfig, Claims, Keys, MIN_SECRET_BYTES, Role, random_secret};
pub use config::{ChannelAccess, Config};
pub use media::{CallError, MediaClient, MediaService, media_client};

use bus::{Watch, Watcher};
use floors::Floors;
use gate::Gate;
use hub::Hub;
use media::Media;
use shared::{Flag, Shared};
use socket::Close;

/// What a gateway works with.
#[derive(Debug)]
pub struct Dependencies {
    /// Floors and presence.
    pub store: Store,
    /// How long a floor outlives its holder's gateway: the leases are renewed three times in this time.
    pub floor_lease: Duration,
    /// The media node.
    pub media: MediaClient,
    /// What tokens are verified with.
    pub keys: Keys,
    /// Give tokens to whoever asks.
    pub dev_sign_in: bool,
}

/// A gateway that has its port.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    local_addr: SocketAddr,
    floor_lease: Duration,
    shared: Arc<Shared>,
    watches: mpsc::Receiver<Watch>,
    idle: mpsc::UnboundedReceiver<ChannelId>,
}

impl Gateway {
    /// Binds the port; nothing runs yet, and port 0 can be read back.
    pub fn bind(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { store, floor_lease, media, keys, dev_sign_in } = dependencies;
        ensure!(!floor_lease.is_zero(), "the lease of a floor must be longer than nothing");
        let listen = config.listen;
        let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        listener.set_nonblocking(true).context("cannot listen without blocking")?;
        let local_addr = listener.local_addr().context("the port cannot be read back")?;
        let access =
            config.channel_access.unwrap_or(if dev_sign_in { ChannelAccess::Open } else { ChannelAccess::Listed });
        let (hub, idle) = Hub::new();
        let (watcher, watches) = Watcher::new();
        let (media, tasks) = (Media::new(media), TaskTracker::new());
        let shared = Arc::new(Shared {
            id: format!("gw-{:016x}", rand::random::<u64>()),
            open: access == ChannelAccess::Open,
            gate: Gate::new(media.clone(), tasks.clone()),
            floors: Floors::new(config.silence_limit),
            sockets: Default::default(),
            room: Arc::new(Semaphore::new(config.max_sockets)),
            attempts: http::Attempts::new(config.connect_rate, config.connect_burst),
            started: Instant::now(),
            draining: CancellationToken::new(),
            media_ready: Flag::default(),
            config,
            keys,
            dev_sign_in,
            store,
            media,
            hub,
            watcher,
            tasks,
        });
        Ok(Self { listener, local_addr, floor_lease, shared, watches, idle })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then drains: refuses new sockets, tells clients to move (close 1012), ends their talks
    /// and memberships, and returns when that is done or the deadline has passed. Fails if a part of it ends by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, floor_lease, shared: gateway, watches, idle, .. } = self;
        let listener = tokio::net::TcpListener::from_std(listener).context("the port cannot be used")?;
        // The parts end last: sockets that end need them.
        let end = CancellationToken::new();
        let mut parts = JoinSet::new();
        let subscription = gateway.store.subscribe();
        let (shared, token) = (Arc::clone(&gateway), end.clone());
        parts.spawn(async move { bus::serve(&shared, subscription, watches, idle, token).await });
        let (shared, token) = (Arc::clone(&gateway), end.clone());
        parts.spawn(async move {
            // Together in one task: they wait most of the time.
            tokio::join!(
                bus::expire(&shared, token.clone()),
                floors::keep(&shared, floor_lease, token.clone()),
                media::events::follow(&shared, token.clone()),
                shared.attempts.forget(token),
            );
            Ok(())
        });

        let router = http::router(Arc::clone(&gateway));
        let outcome = tokio::select! {
            () = http::serve(listener, router, &gateway.tasks, shutdown.clone()) => Ok(()),
            ended = parts.join_next() => Err(why_ended(ended)),
        };
        drain(&gateway, shutdown).await;
        end.cancel();
        while parts.join_next().await.is_some() {}
        outcome
    }
}

async fn drain(gateway: &Shared, shutdown: CancellationToken) {
    gateway.draining.cancel();
    // Also where a part's failure began this: the connections of the port end with it.
    shutdown.cancel();
    tracing::info!(connections = gateway.sockets.count(), "draining");
    gateway.sockets.close_all(Close::Drain);
    gateway.tasks.close();
    if timeout(gateway.config.drain_deadline, gateway.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = gateway.tasks.len(), "the drain's deadline has passed; the rest is cut off");
    }
}

/// A part of the gateway ends only when it is told to, or fails.
fn why_ended(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a part of the gateway failed"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("a part of the gateway ended by itself"),
    }
}
