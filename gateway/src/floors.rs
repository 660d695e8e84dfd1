//! The floors that connections of this gateway hold: what keeps them alive, and what takes them away.
//!
//! One task for all of them renews the leases together, takes the floor from a holder that sends nothing, and repeats a
//! release that the state did not answer. The requests enter and remove floors; the bus tells when a floor has moved
//! on; the media node's events tell of media. Nothing here decides whose floor it is: that is the state's.

mod keeper;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use voiceping_state::{ChannelId, ConnectionId, FloorCause, Owner};

pub(crate) use keeper::keep;

/// The floors of this gateway's connections.
#[derive(Debug)]
pub(crate) struct Floors {
    held: Mutex<HashMap<(ChannelId, ConnectionId), Held>>,
    changed: Notify,
    silence_limit: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    owner: Owner,
    /// `None`: a press whose outcome is unknown. Whatever it was, it is to be released.
    epoch: Option<u64>,
    since: Instant,
    task: Task,
}

/// What is to be done for a floor besides renewing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Its media flows.
    None,
    /// Nothing is known of its media: ask the node when it is time.
    Judge(Instant),
    /// Give it back, now and until the state answers.
    Release(FloorCause, Instant),
}

/// A floor with something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    channel: ChannelId,
    held: Held,
}

impl Floors {
    pub(crate) fn new(silence_limit: Duration) -> Self {
        Self { held: Mutex::default(), changed: Notify::new(), silence_limit }
    }

    /// A connection has been granted a floor, or has it still.
    pub(crate) fn granted(&self, channel: &ChannelId, owner: &Owner, epoch: u64) {
        let now = Instant::now();
        let mut held = self.lock();
        let key = (channel.clone(), owner.connection.clone());
        let again =
            held.get(&key).is_some_and(|held| held.epoch == Some(epoch) && !matches!(held.task, Task::Release(..)));
        if !again {
            let task = Task::Judge(now + self.silence_limit);
            held.insert(key, Held { owner: owner.clone(), epoch: Some(epoch), since: now, task });
            self.changed.notify_one();
        }
    }

    /// Does the connection hold this floor, as far as is known here?
    pub(crate) fn holds(&self, channel: &ChannelId, connection: &ConnectionId, epoch: u64) -> bool {
        self.lock().get(&(channel.clone(), connection.clone())).is_some_and(|held| held.epoch == Some(epoch))
    }

    /// The floor has been given back, or will be now. Answers whether the connection may have held it.
    pub(crate) fn released(&self, channel: &ChannelId, connection: &ConnectionId) -> bool {
        self.lock().remove(&(channel.clone(), connection.clone())).is_some()
    }

    /// The floor is to be given back, but the state has not answered: it is asked again from here. Its lease is not
    /// renewed meanwhile. Also for a press whose outcome is unknown.
    pub(crate) fn release_later(&self, channel: &ChannelId, owner: &Owner, cause: FloorCause) {
        let now = Instant::now();
        let mut held = self.lock();
        let key = (channel.clone(), owner.connection.clone());
        let unknown = || Held { owner: owner.clone(), epoch: None, since: now, task: Task::None };
        let held = held.entry(key).or_insert_with(unknown);
        held.task = Task::Release(cause, now);
        self.changed.notify_one();
    }

    /// A channel's floor has a new epoch: what was held with an older one is lost.
    pub(crate) fn moved_on(&self, channel: &ChannelId, epoch: u64) {
        self.lock().retain(|(of, _), held| of != channel || held.epoch.is_none_or(|held| held >= epoch));
    }

    /// The first packet of a talk has passed the gate.
    pub(crate) fn media_started(&self, channel: &ChannelId, epoch: u64) {
        self.set_task(channel, epoch, Task::None);
    }

    /// The holder sent media, and sends none any more.
    pub(crate) fn media_stopped(&self, channel: &ChannelId, epoch: u64) {
        self.set_task(channel, epoch, Task::Release(FloorCause::Silent, Instant::now()));
    }

    /// The node's events may have been missed: every holder's media is looked at again.
    pub(crate) fn media_unknown(&self) {
        let now = Instant::now();
        for held in self.lock().values_mut() {
            if held.task == Task::None {
                held.task = Task::Judge(now.max(held.since + self.silence_limit));
            }
        }
        self.changed.notify_one();
    }

    fn set_task(&self, channel: &ChannelId, epoch: u64, task: Task) {
        let mut held = self.lock();
        let held = held.iter_mut().find(|((of, _), held)| of == channel && held.epoch == Some(epoch));
        if let Some((_, held)) = held
            && !matches!(held.task, Task::Release(..))
        {
            held.task = task;
            self.changed.notify_one();
        }
    }

    /// When something is to be done next, renewals aside.
    fn next_task(&self) -> Option<Instant> {
        self.lock()
            .values()
            .filter_map(|held| match held.task {
                Task::None => None,
                Task::Judge(at) | Task::Release(_, at) => Some(at),
            })
            .min()
    }

    /// What is to be done now. Each comes again after `again`, unless it is done by then.
    fn take_due(&self, now: Instant, again: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        for ((channel, _), held) in self.lock().iter_mut() {
            match &mut held.task {
                Task::Judge(at) | Task::Release(_, at) if *at <= now => *at = now + again,
                _ => continue,
            }
            due.push(Due { channel: channel.clone(), held: held.clone() });
        }
        due
    }

    /// The floors whose leases are to be renewed.
    fn renewable(&self) -> Vec<(ChannelId, Owner, u64)> {
        let held = self.lock();
        held.iter()
            .filter(|(_, held)| !matches!(held.task, Task::Release(..)))
            .filter_map(|((channel, _), held)| Some((channel.clone(), held.owner.clone(), held.epoch?)))
            .collect()
    }

    /// Removes a floor if it is still the one that was looked at.
    fn remove(&self, channel: &ChannelId, connection: &ConnectionId, epoch: Option<u64>) {
        let key = (channel.clone(), connection.clone());
        let mut held = self.lock();
        if held.get(&key).is_some_and(|held| held.epoch == epoch) {
            held.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ChannelId, ConnectionId), Held>> {
        self.held.lock().expect("nothing panics under the lock")
    }
}

#[cfg(test)]
mod tests;
