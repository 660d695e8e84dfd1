//! One media node, held by whoever has something there.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::{Response, Status};
use voiceping_state::{ChannelId, Node, NodeId};

use super::clock::Reading;
use crate::media::MediaClient;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// One life of a node, from when it is met to when it is lost. Lost is lost: what answers later is another handle, so that
/// nobody who holds this one mistakes it for the node that has his transports.
#[derive(Debug)]
pub(crate) struct NodeHandle {
    id: NodeId,
    client: MediaClient,
    known: Mutex<Known>,
    standing: watch::Sender<Standing>,
    drain_deadline: OnceLock<Instant>,
}

#[derive(Debug)]
struct Known {
    /// As it last described itself, with the clients that were placed there since.
    node: Node,
    /// It is in the registry.
    registered: bool,
    /// The channels that have listeners there, or soon will.
    carried: HashSet<ChannelId>,
    clock: Option<Reading>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its events have not come yet.
    Joining,
    Ready,
    /// Its events have ended; they may be there again in a moment.
    Away,
    Lost(Lost),
}

/// How a node was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its process has ended, and its gates with it.
    Gone,
    /// It says nothing. Its gates may be open until their ends.
    Silent,
}

impl NodeHandle {
    pub(crate) fn new(node: Node, client: MediaClient) -> Self {
        let known = Known { node, registered: true, carried: HashSet::new(), clock: None };
        Self {
            id: known.node.id.clone(),
            client,
            known: Mutex::new(known),
            standing: watch::Sender::new(Standing::Joining),
            drain_deadline: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.id
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }

    /// Makes a call and waits for its answer, but not for ever. A call that was given up may have been carried out.
    pub(crate) async fn call<T, F>(&self, rpc: impl FnOnce(MediaClient) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // In a box: a call is large, and would make every future that makes one so.
        match timeout(PATIENCE, Box::pin(rpc(self.client.clone()))).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the media node did not answer in time")),
        }
    }

    /// What the node's clock says at `time`, or a little less. `None`: it has never said how late it is.
    pub(crate) fn clock_at(&self, time: Instant) -> Option<u64> {
        self.known().clock.map(|reading| reading.at(time))
    }

    pub(crate) fn heard_clock(&self, clock_ms: u64) {
        self.known().clock = Some(Reading::now(clock_ms));
    }

    pub(super) fn described(&self) -> Node {
        self.known().node.clone()
    }

    /// It has described itself anew, or is in the registry no more.
    pub(super) fn describe(&self, node: Option<&Node>) {
        let mut known = self.known();
        known.registered = node.is_some();
        if let Some(node) = node {
            known.node.clone_from(node);
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.known().registered
    }

    pub(super) fn carries(&self, channel: &ChannelId) -> bool {
        self.known().carried.contains(channel)
    }

    /// A client goes there, and will listen to this channel. The registry says so later.
    pub(super) fn placed(&self, channel: &ChannelId) {
        let mut known = self.known();
        known.node.load = known.node.load.saturating_add(1);
        known.carried.insert(channel.clone());
    }

    pub(super) fn carried(&self, channel: ChannelId, carried: bool) {
        let mut known = self.known();
        if carried {
            known.carried.insert(channel);
        } else {
            known.carried.remove(&channel);
        }
    }

    /// Its events flow, beginning with what it carries.
    pub(super) fn ready(&self, clock_ms: u64, carried: HashSet<ChannelId>) {
        let mut known = self.known();
        known.clock = Some(Reading::now(clock_ms));
        known.carried = carried;
        drop(known);
        self.stand(Standing::Ready);
    }

    pub(super) fn away(&self) {
        self.stand(Standing::Away);
    }

    pub(crate) fn lose(&self, how: Lost) {
        self.stand(Standing::Lost(how));
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let changes = !matches!(now, Standing::Lost(_)) && *now != standing;
            if changes {
                *now = standing;
            }
            changes
        });
    }

    /// It takes nobody new, and ends at this time at the latest.
    pub(super) fn drain(&self, deadline: Instant) {
        // A second word about it says the same.
        let _ = self.drain_deadline.set(deadline);
    }

    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline.get().copied()
    }

    /// How it is, as a label. `None`: it is lost.
    pub(crate) fn state(&self) -> Option<&'static str> {
        match *self.standing.borrow() {
            Standing::Lost(_) => None,
            _ if self.is_draining() => Some("draining"),
            Standing::Joining => Some("joining"),
            Standing::Ready => Some("ready"),
            Standing::Away => Some("away"),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_deadline().is_some()
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.standing.borrow() == Standing::Ready
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Lost(_))
    }

    /// Was it ever of use?
    pub(crate) fn was_ready(&self) -> bool {
        self.known().clock.is_some()
    }

    /// Its process has ended: nothing that it had is there any more.
    pub(crate) fn is_gone(&self) -> bool {
        *self.standing.borrow() == Standing::Lost(Lost::Gone)
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) {
        let mut standing = self.standing.subscribe();
        // It fails only when the sender has gone, which is this handle's own.
        let _ = standing.wait_for(|standing| matches!(standing, Standing::Lost(_))).await;
    }

    pub(super) fn takes_clients(&self) -> bool {
        self.is_ready() && !self.is_draining()
    }

    /// Waits until it is ready. `false`: it was lost instead.
    pub(super) async fn until_ready(&self) -> bool {
        let mut standing = self.standing.subscribe();
        let decided = |standing: &Standing| matches!(standing, Standing::Ready | Standing::Lost(_));
        standing.wait_for(decided).await.is_ok_and(|standing| *standing == Standing::Ready)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics under the lock")
    }
}

/// The nodes of a list, each once.
pub(crate) fn distinct(nodes: impl Iterator<Item = Arc<NodeHandle>>) -> Vec<Arc<NodeHandle>> {
    nodes.fold(Vec::new(), |mut distinct, node| {
        if !distinct.iter().any(|known| known.is(&node)) {
            distinct.push(node);
        }
        distinct
    })
}
