//! The media nodes as this gateway knows them: who is there, and who gets the next client.
//!
//! One task follows the registry, one task for each node follows its events; sessions take a [`NodeHandle`] from here and
//! call their node through it. Nothing here knows of clients: what becomes of them when a node goes is in `moving`.

mod clock;
mod events;
mod follow;
mod handle;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use voiceping_state::{ChannelId, Node, NodeId, node};

use crate::media::MediaClient;
pub(crate) use follow::follow;
pub(crate) use handle::{Lost, NodeHandle, distinct};

/// Makes the way to a node. It only prepares: whether somebody answers there is found out by calls.
pub type Dial = Arc<dyn Fn(&Node) -> anyhow::Result<MediaClient> + Send + Sync>;

/// How long a client waits for a node that this gateway has not met yet.
const INTRODUCTION: Duration = Duration::from_millis(1500);

/// All nodes that this gateway knows.
pub(crate) struct Nodes {
    dial: Dial,
    region: String,
    by_id: Mutex<BTreeMap<NodeId, Arc<NodeHandle>>>,
    /// Changes with every node that comes.
    met: watch::Sender<()>,
    /// Somebody looks for a node that is not known: the registry is to be read now.
    wanted: Notify,
}

impl Nodes {
    pub(crate) fn new(dial: Dial, region: String) -> Self {
        Self { dial, region, by_id: Mutex::default(), met: watch::Sender::new(()), wanted: Notify::new() }
    }

    /// The node for a connection that goes to this channel. `None`: none is ready and has room.
    pub(crate) fn place(&self, channel: &ChannelId) -> Option<Arc<NodeHandle>> {
        let mut handles = self.all();
        handles.retain(|handle| handle.takes_clients());
        let nodes: Vec<_> = handles.iter().map(|handle| handle.described()).collect();
        let carries = |id: &NodeId| handles.iter().any(|handle| handle.id() == id && handle.carries(channel));
        let chosen = node::place(&nodes, carries, &self.region)?;
        let handle = handles.iter().find(|handle| *handle.id() == chosen.id)?;
        handle.placed(channel);
        Some(Arc::clone(handle))
    }

    /// Every node, whether it answers or not.
    pub(crate) fn all(&self) -> Vec<Arc<NodeHandle>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn any_ready(&self) -> bool {
        self.lock().values().any(|handle| handle.is_ready())
    }

    /// A node by its id, ready. It may have registered a moment ago, so the registry is read again for it.
    pub(crate) async fn find(&self, id: &NodeId) -> Option<Arc<NodeHandle>> {
        let mut met = self.met.subscribe();
        let found = async {
            loop {
                met.mark_unchanged();
                if let Some(handle) = self.get(id) {
                    return handle.until_ready().await.then_some(handle);
                }
                self.wanted.notify_one();
                met.changed().await.ok()?;
            }
        };
        timeout(INTRODUCTION, found).await.ok().flatten()
    }

    /// Waits until a node takes clients, but not for long: it may have registered a moment ago, when the only other one
    /// began to drain or when this gateway itself has just started.
    pub(crate) async fn room(&self) {
        let mut met = self.met.subscribe();
        let found = async {
            loop {
                met.mark_unchanged();
                let handles = self.all();
                if handles.iter().any(|handle| handle.takes_clients()) {
                    return;
                }
                self.wanted.notify_one();
                let joining = handles.into_iter().filter(|handle| !handle.is_ready());
                let mut joining: FuturesUnordered<_> =
                    joining.map(|handle| async move { handle.until_ready().await }).collect();
                tokio::select! {
                    Some(true) = joining.next() => {}
                    _ = met.changed() => {}
                }
            }
        };
        // Without one, clients are told so.
        let _ = timeout(INTRODUCTION, found).await;
    }

    /// A node by its id, whether it answers or not.
    pub(crate) fn get(&self, id: &NodeId) -> Option<Arc<NodeHandle>> {
        self.lock().get(id).cloned()
    }

    /// Takes in a node that is new or, as a new handle, one that was lost and may be there again.
    fn meet(&self, node: &Node) -> Option<Arc<NodeHandle>> {
        match (self.dial)(node) {
            Ok(client) => {
                let handle = Arc::new(NodeHandle::new(node.clone(), client));
                self.lock().insert(node.id.clone(), Arc::clone(&handle));
                self.met.send_replace(());
                Some(handle)
            }
            Err(error) => {
                tracing::error!(node = %node.id, address = node.address, %error, "a media node cannot be called");
                None
            }
        }
    }

    fn forget(&self, handle: &NodeHandle) {
        let mut by_id = self.lock();
        if by_id.get(handle.id()).is_some_and(|known| known.is(handle)) {
            by_id.remove(handle.id());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<NodeHandle>>> {
        self.by_id.lock().expect("nothing panics under the lock")
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("region", &self.region).field("nodes", &self.all()).finish_non_exhaustive()
    }
}
