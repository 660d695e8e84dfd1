//! The floors that connections of this gateway hold: what keeps them alive, where their gates are, and what ends them.
//!
//! A table, and one task for all of it: [`keeper`] renews the leases together, takes the floor from a holder that sends
//! nothing, and goes on with what could not be done at once. [`talk`] has the steps of one talk: open, renew, move, end.
//! The requests begin and end talks; the bus tells when a floor has moved on; the media nodes' events tell of media.
//! Nothing here decides whose floor it is: that is the state's.
//!
//! What must hold: **no floor is given back in the state while its gate may be open.** So every entry knows the node of
//! its gate and the latest time at which that may be open, and this is noted before the node is asked.

mod held;
mod keeper;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use voiceping_state::{ChannelId, ConnectionId, FloorCause, FloorRules, NodeId, Owner};

use crate::nodes::NodeHandle;
use held::{Gate, Held, Task};
pub(crate) use keeper::keep;
pub(crate) use talk::{Ended, adopt, begin, end, end_surely, follow_to, lost};

/// The floors of this gateway's connections.
#[derive(Debug)]
pub(crate) struct Floors {
    held: Mutex<HashMap<Key, Held>>,
    changed: Notify,
    rules: FloorRules,
    silence_limit: Duration,
}

/// A gate that is refused for once may have come too late; it is not given up before the next try.
const REFUSALS: u32 = 1;

/// A talk begins within this time, or its floor counts as one without media.
const SILENT: Duration = Duration::from_secs(1);

type Key = (ChannelId, ConnectionId);

/// Something to do for a floor, besides renewing it with all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Ask the node about its media.
    Judge,
    /// Give it back.
    Release,
    /// Open its gate where the connection has moved to.
    Open,
}

/// A gate to be opened, or kept open, until a time.
#[derive(Debug)]
struct Opening {
    node: Arc<NodeHandle>,
    until: Instant,
}

impl Floors {
    pub(crate) fn new(rules: FloorRules, silence_limit: Duration) -> Self {
        Self { held: Mutex::default(), changed: Notify::new(), rules, silence_limit }
    }

    /// A connection has been granted a floor, or has it still; the state was asked at `asked`. Answers the gate to open;
    /// `None`: not now, because an earlier gate of this talk may still be open elsewhere.
    fn granted(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: u64,
        (asked, since): (Instant, Instant),
        node: &Arc<NodeHandle>,
    ) -> Option<Opening> {
        let mut table = self.lock();
        let held = table.entry(key(channel, owner)).or_insert_with(|| Held::new(owner, None, since));
        if held.epoch != Some(epoch) || held.is_ending() {
            let former = held.gate.take();
            *held = Held::new(owner, Some(epoch), since);
            held.gate = former;
            held.task = Task::Judge(Instant::now() + self.silence_limit);
        }
        held.move_to(node);
        self.changed.notify_one();
        self.extend(held, asked)
    }

    /// The lease was renewed; the state was asked at `asked`. Answers the gate to keep open as long.
    fn renewed(&self, channel: &ChannelId, owner: &Owner, epoch: u64, asked: Instant) -> Option<Opening> {
        let mut table = self.lock();
        let held = table.get_mut(&key(channel, owner)).filter(|held| held.epoch == Some(epoch))?;
        let opening = self.extend(held, asked);
        self.changed.notify_one();
        opening
    }

    /// The end of the gate is that of the lease, counted from before the state was asked; and no talk outlasts its limit.
    fn extend(&self, held: &mut Held, asked: Instant) -> Option<Opening> {
        let limit = self.rules.talk_limit.map(|limit| held.since + limit);
        let until = limit.unwrap_or(asked + self.rules.lease).min(asked + self.rules.lease);
        let (now, was_moving) = (Instant::now(), held.is_moving());
        let node = held.extend(until, now)?;
        if was_moving {
            // It has been silent on its way, and has as long as anybody to begin.
            held.task = Task::Judge(now + self.silence_limit);
        }
        Some(Opening { node, until })
    }

    /// Where the gate of a talk is, or will be.
    fn place_of(&self, channel: &ChannelId, owner: &Owner) -> Option<NodeId> {
        self.lock().get(&key(channel, owner)).map(|held| held.place_id(Instant::now()))
    }

    /// Is the talk on its way to another node?
    fn is_moving(&self, channel: &ChannelId, owner: &Owner) -> bool {
        self.lock().get(&key(channel, owner)).is_some_and(Held::is_moving)
    }

    /// The connection's media is on another node now. `None`: it does not hold the floor, or its gate is there already;
    /// else the gate that is to be closed first.
    fn moved(&self, channel: &ChannelId, owner: &Owner, node: &Arc<NodeHandle>) -> Option<(u64, Option<Gate>)> {
        let mut table = self.lock();
        let held = table.get_mut(&key(channel, owner)).filter(|held| !held.is_ending())?;
        held.move_to(node).then_some((held.epoch?, held.gate.clone()))
    }

    /// Does the connection hold this floor, as far as is known here?
    pub(crate) fn holds(&self, channel: &ChannelId, connection: &ConnectionId, epoch: u64) -> bool {
        self.lock().get(&(channel.clone(), connection.clone())).is_some_and(|held| held.epoch == Some(epoch))
    }

    /// Is a floor of the connection still to be given back?
    pub(crate) fn is_ending(&self, channel: &ChannelId, owner: &Owner) -> bool {
        self.lock().get(&key(channel, owner)).is_some_and(Held::is_ending)
    }

    /// How many floors are held, or are being given back.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many are held for over a second without a packet that is known of.
    pub(crate) fn without_media(&self, now: Instant) -> usize {
        let is_waiting = |held: &&Held| held.is_without_media() && now.duration_since(held.since) > SILENT;
        self.lock().values().filter(is_waiting).count()
    }

    /// Does the connection hold any floor?
    pub(crate) fn is_talking(&self, connection: &ConnectionId) -> bool {
        self.lock().keys().any(|(_, holder)| holder == connection)
    }

    /// The floor is to be given back: its lease is not renewed any more, and the keeper goes on until it is done. Also for
    /// a press whose outcome is unknown.
    pub(crate) fn release_later(&self, channel: &ChannelId, owner: &Owner, cause: FloorCause) {
        let now = Instant::now();
        let mut table = self.lock();
        let held = table.entry(key(channel, owner)).or_insert_with(|| Held::new(owner, None, now));
        held.task = Task::Release(cause, now);
        self.changed.notify_one();
    }

    /// The talk ends; who asked sees to it now, and the keeper later. `None`: the connection holds nothing.
    fn ending(&self, channel: &ChannelId, owner: &Owner, cause: FloorCause, later: Instant) -> Option<Held> {
        let mut table = self.lock();
        let held = table.get_mut(&key(channel, owner))?;
        held.task = Task::Release(cause, later);
        self.changed.notify_one();
        Some(held.clone())
    }

    /// The node has opened a gate, or kept it open, or has refused to. One that refuses again and again knows that this talk
    /// is over: somebody has ended it there, in order to take over from a holder who was silent.
    fn answered(&self, channel: &ChannelId, owner: &Owner, epoch: u64, refused: bool) {
        let mut table = self.lock();
        let held = table.get_mut(&key(channel, owner)).filter(|held| held.epoch == Some(epoch) && !held.is_ending());
        if let Some(held) = held {
            held.refusals = if refused { held.refusals + 1 } else { 0 };
            if held.refusals > REFUSALS {
                held.task = Task::Release(FloorCause::Silent, Instant::now());
                self.changed.notify_one();
            }
        }
    }

    /// The gate of a talk has closed.
    fn gate_closed(&self, channel: &ChannelId, owner: &Owner, gate: &Gate) {
        if let Some(held) = self.lock().get_mut(&key(channel, owner))
            && held.gate.as_ref().is_some_and(|known| known.node.is(&gate.node))
        {
            held.gate = None;
        }
    }

    /// Removes a floor if it is still the one that was looked at.
    fn remove(&self, channel: &ChannelId, owner: &Owner, epoch: Option<u64>) -> Option<Held> {
        let mut table = self.lock();
        let key = key(channel, owner);
        let same = table.get(&key).is_some_and(|held| held.epoch == epoch);
        same.then(|| table.remove(&key)).flatten()
    }

    /// The connection goes on at another gateway, or not at all: its floors are not this gateway's any more. Their gates
    /// and leases stay as they are.
    pub(crate) fn forget(&self, connection: &ConnectionId) {
        self.lock().retain(|(_, holder), _| holder != connection);
    }

    /// A channel's floor has a newer epoch: what was held with an older one is lost. Answers it.
    fn moved_on(&self, channel: &ChannelId, epoch: u64) -> Vec<Held> {
        let lost = |(of, _): &Key, held: &mut Held| of == channel && held.epoch.is_some_and(|held| held < epoch);
        self.lock().extract_if(lost).map(|(_, held)| held).collect()
    }

    /// The first packet of a talk has passed its gate.
    pub(crate) fn media_started(&self, node: &NodeHandle, channel: &ChannelId, epoch: u64) {
        self.set_task(channel, epoch, Task::None, |held| held.is_on(node));
    }

    /// The holder sent media, and sends none any more. What its former node says of it does not count.
    pub(crate) fn media_stopped(&self, node: &NodeHandle, channel: &ChannelId, epoch: u64) {
        let release = Task::Release(FloorCause::Silent, Instant::now());
        self.set_task(channel, epoch, release, |held| held.is_on(node));
    }

    fn set_task(&self, channel: &ChannelId, epoch: u64, task: Task, applies: impl Fn(&Held) -> bool) {
        let mut table = self.lock();
        let held = table.iter_mut().find(|((of, _), held)| of == channel && held.epoch == Some(epoch));
        if let Some((_, held)) = held
            && !held.is_ending()
            && applies(held)
        {
            held.task = task;
            self.changed.notify_one();
        }
    }

    /// A node's events may have been missed: the media of every holder there is looked at again.
    pub(crate) fn media_unknown(&self, node: &NodeHandle) {
        let now = Instant::now();
        for held in self.lock().values_mut().filter(|held| held.is_on(node)) {
            if held.task == Task::None {
                held.task = Task::Judge(now.max(held.since + self.silence_limit));
            }
        }
        self.changed.notify_one();
    }

    /// A node is lost: its holders have as long as a silent one to come back elsewhere.
    pub(crate) fn node_lost(&self, node: &NodeHandle) {
        let again = Instant::now() + self.silence_limit;
        for held in self.lock().values_mut() {
            held.node_lost(node, again);
        }
        self.changed.notify_one();
    }

    /// When something is to be done next, renewals aside.
    fn next_due(&self) -> Option<Instant> {
        self.lock().values().filter_map(Held::next_due).min()
    }

    /// What is to be done now. Each comes again after `again`, unless it is done by then.
    fn take_due(&self, now: Instant, again: Duration) -> Vec<(ChannelId, Held, Due)> {
        let mut table = self.lock();
        let due = table.iter_mut().filter_map(|((channel, _), held)| {
            let due = held.take_due(now, now + again)?;
            Some((channel.clone(), held.clone(), due))
        });
        due.collect()
    }

    /// The floors whose leases are to be renewed.
    fn renewable(&self) -> Vec<(ChannelId, Owner, u64)> {
        let table = self.lock();
        let renewable = table.iter().filter(|(_, held)| !held.is_ending());
        renewable.filter_map(|((channel, _), held)| Some((channel.clone(), held.owner.clone(), held.epoch?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Held>> {
        self.held.lock().expect("nothing panics under the lock")
    }
}

fn key(channel: &ChannelId, owner: &Owner) -> Key {
    (channel.clone(), owner.connection.clone())
}
