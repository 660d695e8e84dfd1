//! One floor that is held here: its gate, and what is to be done for it. No calls, no locks.

use std::sync::Arc;

use tokio::time::Instant;
use voiceping_state::{FloorCause, NodeId, Owner};

use super::Due;
use crate::nodes::NodeHandle;

/// A floor of a connection of this gateway.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) owner: Owner,
    /// `None`: a press whose outcome is unknown. Whatever it was, it is to be released; no gate was opened for it.
    pub(super) epoch: Option<u64>,
    /// Not later than when the talk began.
    pub(super) since: Instant,
    /// Where packets may pass; `None`: nowhere.
    pub(super) gate: Option<Gate>,
    /// Where the connection's media is now, if the gate is not there yet.
    next_node: Option<Arc<NodeHandle>>,
    /// When to try to open the gate there.
    open_at: Option<Instant>,
    pub(super) task: Task,
    /// How often in a row its node has refused to keep the gate open.
    pub(super) refusals: u32,
}

/// A gate that may be open.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) node: Arc<NodeHandle>,
    /// It is open no longer than until then.
    pub(super) until: Instant,
}

/// What is to be done for a floor besides renewing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Its media flows.
    None,
    /// Nothing is known of its media: ask the node when it is time.
    Judge(Instant),
    /// Give it back, now and until that is done.
    Release(FloorCause, Instant),
}

impl Gate {
    /// May packets pass?
    pub(super) fn may_be_open(&self, now: Instant) -> bool {
        self.until > now && !self.node.is_gone()
    }
}

impl Held {
    pub(super) fn new(owner: &Owner, epoch: Option<u64>, since: Instant) -> Self {
        let owner = owner.clone();
        Self { owner, epoch, since, gate: None, next_node: None, open_at: None, task: Task::None, refusals: 0 }
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.task, Task::Release(..))
    }

    /// Is no packet of it known?
    pub(super) fn is_without_media(&self) -> bool {
        self.epoch.is_some() && matches!(self.task, Task::Judge(_))
    }

    /// Is this the node of its gate?
    pub(super) fn is_on(&self, node: &NodeHandle) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.node.is(node))
    }

    /// The node to ask about its media.
    pub(super) fn node(&self) -> Option<&Arc<NodeHandle>> {
        self.gate.as_ref().map(|gate| &gate.node)
    }

    /// Has its connection gone to a node where the gate is not open yet?
    pub(super) fn is_moving(&self) -> bool {
        self.next_node.is_some()
    }

    /// The connection's media is there from now on. `false`: it was already.
    pub(super) fn move_to(&mut self, node: &Arc<NodeHandle>) -> bool {
        if self.is_on(node) {
            (self.next_node, self.open_at) = (None, None);
            return false;
        }
        self.next_node = Some(Arc::clone(node));
        self.open_at = Some(self.gate.as_ref().map_or_else(Instant::now, |gate| gate.until));
        true
    }

    fn may_be_open(&self, now: Instant) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.may_be_open(now))
    }

    /// The node whose gate may be open or is opened next.
    fn place(&self, now: Instant) -> Option<&Arc<NodeHandle>> {
        self.next_node.as_ref().filter(|_| !self.may_be_open(now)).or_else(|| self.node())
    }

    /// The same for others, who see it in the state; empty: nowhere, so nobody can make sure that it is closed.
    pub(super) fn place_id(&self, now: Instant) -> NodeId {
        self.place(now).map_or_else(|| "".into(), |node| node.id().clone())
    }

    /// The gate may be open until then, from now on. Answers the node to tell. `None`: nobody, because the gate is at
    /// another node and may be open there, because its node is lost, or because the time has passed.
    pub(super) fn extend(&mut self, until: Instant, now: Instant) -> Option<Arc<NodeHandle>> {
        if self.is_ending() || until <= now || self.is_moving() && self.may_be_open(now) {
            return None;
        }
        let node = Arc::clone(self.place(now)?);
        if node.is_lost() {
            return None;
        }
        let known = self.gate.as_ref().filter(|gate| gate.node.is(&node)).map(|gate| gate.until);
        self.gate = Some(Gate { node: Arc::clone(&node), until: known.map_or(until, |known| known.max(until)) });
        (self.next_node, self.open_at) = (None, None);
        Some(node)
    }

    /// A node is lost: a holder who was there, or on the way there, may come back elsewhere until `again`.
    pub(super) fn node_lost(&mut self, node: &NodeHandle, again: Instant) {
        let on_its_way = self.next_node.as_ref().is_some_and(|next| next.is(node));
        if on_its_way {
            (self.next_node, self.open_at) = (None, None);
        }
        if (on_its_way || self.is_on(node)) && !self.is_ending() {
            self.task = Task::Judge(again);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        match self.task {
            Task::Release(_, at) => Some(at),
            Task::Judge(at) => Some(self.open_at.map_or(at, |open_at| open_at.min(at))),
            Task::None => self.open_at,
        }
    }

    /// What is due, which comes again at `again`.
    pub(super) fn take_due(&mut self, now: Instant, again: Instant) -> Option<Due> {
        match &mut self.task {
            Task::Release(_, at) if *at <= now => {
                *at = again;
                return Some(Due::Release);
            }
            Task::Release(..) => return None,
            Task::Judge(at) if *at <= now => {
                *at = again;
                // A holder that is on its way has no media that could be judged.
                if self.next_node.is_none() {
                    return Some(Due::Judge);
                }
            }
            Task::Judge(_) | Task::None => {}
        }
        let open_at = self.open_at.as_mut().filter(|at| **at <= now)?;
        *open_at = again;
        Some(Due::Open)
    }
}
