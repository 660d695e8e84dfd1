//! The media nodes among each other: each holds a subscription to every other one, and answers theirs.
//!
//! A subscription says which channels have listeners here; the talks of the other node's clients on them then come by UDP
//! for as long as the subscription's stream lives. A node is subscribed to while it is registered, or while it subscribes to
//! us: so a node that is new is known to the others before it takes its first client, and one whose lease was lost with
//! the state is not forgotten while it lives. No packet passes through here; the engines relay by what they are told.

mod hello;
mod service;
mod subscription;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::{Request, Response};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::StdError;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use voiceping_engine::id::RelayId;
use voiceping_proto::media::v1::relay_client;
use voiceping_state::{Node, NodeId};

use crate::events::Events;
use crate::worker::Worker;

/// Calls another media node, over any transport.
pub type RelayClient = relay_client::RelayClient<BoxCloneSyncService<Request<Body>, Response<Body>, CallError>>;

/// The transport could not carry a call.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CallError(StdError);

/// Makes a client for the node at an address.
pub type Dial = Arc<dyn Fn(&str) -> anyhow::Result<RelayClient> + Send + Sync>;

/// A client over a transport: a channel to a node or, in a test, its service.
pub fn relay_client<S>(transport: S) -> RelayClient
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
{
    RelayClient::new(BoxCloneSyncService::new(transport.map_err(|error| CallError(error.into()))))
}

/// See the module; also the gRPC service `Relay`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node_id: NodeId,
    workers: Vec<Worker>,
    /// The addresses that each worker listens on.
    sockets: Vec<IpAddr>,
    events: Arc<Events>,
    /// Set once, by [`Mesh::join`].
    own: OnceLock<Own>,
    nodes: Mutex<Nodes>,
    /// A subscription has become ready, or has ended.
    changed: Notify,
    next_session: AtomicU32,
    next_relay: AtomicU64,
    end: CancellationToken,
    tasks: TaskTracker,
}

/// How others reach this node, and how it reaches them.
struct Own {
    address: String,
    udp_addresses: Vec<SocketAddr>,
    dial: Dial,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The other nodes.
#[derive(Debug, Default)]
struct Nodes {
    /// In the registry, as it was read last.
    registered: HashSet<NodeId>,
    /// To whom we hold a subscription, and whether it is ready. Each has a task.
    subscriptions: HashMap<NodeId, bool>,
    /// Who holds one to us: which relay it is, and what ends it. Each has a task.
    subscribers: HashMap<NodeId, (RelayId, CancellationToken)>,
}

impl Mesh {
    /// A node that knows no other, and answers their subscriptions.
    pub(crate) fn new(node_id: NodeId, workers: Vec<Worker>, sockets: Vec<IpAddr>, events: Arc<Events>) -> Self {
        let inner = Inner {
            node_id,
            workers,
            sockets,
            events,
            own: OnceLock::new(),
            nodes: Mutex::default(),
            changed: Notify::new(),
            next_session: AtomicU32::new(rand::random()),
            next_relay: AtomicU64::new(0),
            end: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says how this node is reached, after which it may subscribe to others. The second call is one too many.
    pub(crate) fn join(&self, address: String, udp_addresses: Vec<SocketAddr>, dial: Dial) -> anyhow::Result<()> {
        let own = Own { address, udp_addresses, dial };
        self.inner.own.set(own).map_err(|_| anyhow::anyhow!("this node has joined already"))
    }

    /// Subscribes to the nodes of this list that are new.
    pub(crate) fn subscribe_to(&self, registered: &[Node]) {
        let mut nodes = self.nodes();
        nodes.registered = registered.iter().map(|node| node.id.clone()).collect();
        for node in registered {
            self.subscribe_once(&mut nodes, &node.id, &node.address);
        }
    }

    /// Waits until all subscriptions are ready. One to a node that is gone ends only when the registry forgets it, so the
    /// caller waits with a limit.
    pub(crate) async fn settled(&self) {
        loop {
            let changed = self.inner.changed.notified();
            if self.nodes().subscriptions.values().all(|ready| *ready) {
                return;
            }
            changed.await;
        }
    }

    /// Ends all subscriptions, in both directions.
    pub(crate) async fn close(&self) {
        self.inner.end.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn subscribe_once(&self, nodes: &mut Nodes, node: &NodeId, address: &str) {
        if *node == self.inner.node_id || nodes.subscriptions.contains_key(node) || self.inner.own.get().is_none() {
            return;
        }
        nodes.subscriptions.insert(node.clone(), false);
        self.inner.tasks.spawn(subscription::keep(self.clone(), node.clone(), address.to_owned()));
    }

    /// Notes that a subscription is ready.
    fn ready(&self, node: &NodeId) {
        self.nodes().subscriptions.insert(node.clone(), true);
        self.inner.changed.notify_waiters();
    }

    /// Notes that a subscription has ended, or was not to be had. Answers whether to try again; if not, it is forgotten.
    fn ended(&self, node: &NodeId) -> bool {
        let mut nodes = self.nodes();
        let wanted = nodes.registered.contains(node) || nodes.subscribers.contains_key(node);
        if wanted {
            nodes.subscriptions.insert(node.clone(), false);
        } else {
            nodes.subscriptions.remove(node);
        }
        self.inner.changed.notify_waiters();
        wanted
    }

    /// Notes a subscriber in the place of an earlier one of the same node, and subscribes to it in turn. Answers what it is
    /// known by, and what ends it.
    fn admit(&self, node: &NodeId, address: &str) -> (RelayId, CancellationToken) {
        let relay = RelayId(self.inner.next_relay.fetch_add(1, Ordering::Relaxed));
        let replaced = CancellationToken::new();
        let mut nodes = self.nodes();
        if let Some((_, earlier)) = nodes.subscribers.insert(node.clone(), (relay, replaced.clone())) {
            earlier.cancel();
        }
        self.subscribe_once(&mut nodes, node, address);
        (relay, replaced)
    }

    /// Forgets a subscriber, unless another has taken its place.
    fn dismiss(&self, node: &NodeId, relay: RelayId) {
        let mut nodes = self.nodes();
        if nodes.subscribers.get(node).is_some_and(|(known, _)| *known == relay) {
            nodes.subscribers.remove(node);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
