//! The signaling side of VoicePing: one gateway, which serves clients over WebSockets.
//!
//! A gateway authenticates and authorizes, asks the shared state for floors and the media node for transports, and pushes
//! what happens to its own sockets. It keeps nothing that another gateway could not serve as well: losing one costs its
//! sockets a reconnect and costs the audio nothing. It never touches a packet of audio.
//!
//! Built and run by the root binary, which gives it the [`Dependencies`]. Where to look: `socket` is the actor behind a
//! WebSocket, `request/` has one file for each thing that a client can ask, `hub` fans out, `bus` follows the state,
//! `nodes` the media nodes, `floors` and `gate` keep the floors that connections here hold.

mod auth;
mod bus;
mod config;
mod connections;
mod drain;
mod error;
mod files;
mod floors;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod http;
mod hub;
mod media;
mod message;
mod metrics;
mod moving;
mod nodes;
mod request;
mod session;
mod shared;
mod socket;
mod state;
mod status;
mod turn;
mod view;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voiceping_state::{ChannelId, FloorRules, State, Store};

pub use auth::{AuthConfig, Claims, Keys, MIN_SECRET_BYTES, Role, SecretConfig, random_secret};
pub use config::{ChannelAccess, Config};
pub use http::{OriginConfig, ProxyConfig, ProxyHeader, TlsConfig};
pub use media::{CallError, MediaClient, MediaService, media_client};
pub use metrics::declared as metrics;
pub use nodes::Dial;
pub use status::Status;
pub use turn::TurnConfig;

use bus::{Watch, Watcher};
use floors::Floors;
use http::Tls;
use hub::Hub;
use nodes::Nodes;
use shared::Shared;
use turn::Turn;

/// How long the first client may have to wait for a provider's keys.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);

/// What a gateway works with.
pub struct Dependencies {
    /// Floors and presence.
    pub store: Store,
    /// The rules of the floor, as the store has them: gates end with the leases.
    pub rules: FloorRules,
    /// The way to a media node of the store's registry.
    pub dial: Dial,
    /// What tokens are verified with.
    pub keys: Keys,
    /// Give tokens to whoever asks.
    pub dev_sign_in: bool,
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, rules, dial: _, keys, dev_sign_in } = self;
        f.debug_struct("Dependencies")
            .field("store", store)
            .field("rules", rules)
            .field("keys", keys)
            .field("dev_sign_in", dev_sign_in)
            .finish_non_exhaustive()
    }
}

/// A gateway that has its port.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    watches: mpsc::Receiver<Watch>,
    idle: mpsc::UnboundedReceiver<ChannelId>,
}

impl Gateway {
    /// Binds the port; nothing runs yet, and port 0 can be read back.
    pub fn bind(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { store, rules, dial, keys, dev_sign_in } = dependencies;
        ensure!(!rules.lease.is_zero(), "the lease of a floor must be longer than nothing");
        ensure!(!dev_sign_in || keys.can_sign(), "the development sign-in needs a secret to sign tokens with");
        let listen = config.listen;
        let listener = http::listen(listen)?;
        let local_addr = listener.local_addr().context("the port cannot be read back")?;
        let access =
            config.channel_access.unwrap_or(if dev_sign_in { ChannelAccess::Open } else { ChannelAccess::Listed });
        let (turn, tls) = (Turn::from_config(&config.turn)?, Tls::from_config(&config.tls)?);
        let (hub, idle) = Hub::new();
        let (watcher, watches) = Watcher::new();
        let shared = Arc::new(Shared {
            id: format!("gw-{:016x}", rand::random::<u64>()),
            open: access == ChannelAccess::Open,
            nodes: Nodes::new(dial, config.region.clone()),
            turn,
            floors: Floors::new(rules, config.silence_limit),
            connections: Default::default(),
            room: Arc::new(Semaphore::new(config.max_sockets)),
            attempts: http::Attempts::new(config.connect_rate, config.connect_burst),
            guests: http::Guests::default(),
            tls,
            started: Instant::now(),
            draining: CancellationToken::new(),
            config,
            keys,
            dev_sign_in,
            store,
            hub,
            watcher,
            tasks: TaskTracker::new(),
        });
        Ok(Self { listener, local_addr, shared, watches, idle })
    }

    /// Does its port speak TLS?
    pub fn is_tls(&self) -> bool {
        self.shared.tls.is_some()
    }

    /// To ask it how it is, also while it runs.
    pub fn status(&self) -> Status {
        Status(Arc::clone(&self.shared))
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then drains: refuses new sockets, lets talks of existing clients finish, tells all clients
    /// to move (close 1012), and returns when that is done or the deadline has passed. Fails if a part of it ends by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, shared: gateway, watches, idle, .. } = self;
        let listener = tokio::net::TcpListener::from_std(listener).context("the port cannot be used")?;
        // The parts end last: sockets that end need them.
        let end = CancellationToken::new();
        let mut parts = JoinSet::new();
        metrics::observe(&gateway);
        let subscription = gateway.store.subscribe();
        let (shared, token) = (Arc::clone(&gateway), end.clone());
        parts.spawn(async move { bus::serve(&shared, subscription, watches, idle, token).await });
        let (shared, token) = (Arc::clone(&gateway), end.clone());
        parts.spawn(async move {
            tokio::join!(shared.keys.keep(token.clone()), files::follow(token, || shared.look_at_files()));
            Ok(())
        });
        let (hub, token) = (Arc::clone(&gateway.hub), end.clone());
        parts.spawn(async move {
            hub.send(token).await;
            Ok(())
        });
        let (shared, token) = (Arc::clone(&gateway), end.clone());
        parts.spawn(async move {
            // Together in one task: they wait most of the time.
            tokio::join!(
                bus::expire(&shared, token.clone()),
                floors::keep(&shared, token.clone()),
                nodes::follow(&shared, token.clone()),
                connections::reap(&shared, token.clone()),
                shared.attempts.forget(token),
            );
            Ok(())
        });

        let router = http::router(Arc::clone(&gateway));
        let serve = async {
            // Whoever has neither keys nor a node says so to its clients.
            let _ = timeout(KEYS_PATIENCE, async { tokio::join!(gateway.keys.asked(), gateway.nodes.room()) }).await;
            http::serve(listener, router, &gateway, shutdown.clone()).await;
        };
        let outcome = tokio::select! {
            () = serve => Ok(()),
            ended = parts.join_next() => Err(why_ended(ended)),
        };
        drain::drain(&gateway, shutdown).await;
        end.cancel();
        while parts.join_next().await.is_some() {}
        outcome
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
