//! The channels that have members on this gateway: who they are, whose floor it is, and the pushes to them.
//!
//! A push is serialized once for a channel; all its members get the same bytes. One plain mutex guards everything and is
//! never held across an await; a push to many is sent in portions by a task of its own ([`fan_out`]), news of the members of
//! large channels after all others and not each of it ([`crowd`]). The bus and the
//! snapshots bring the changes in, joins and leaves bring members. An idle member costs a map entry, no timer and no task.

mod crowd;
mod fan_out;
mod leases;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use voiceping_state::{ChannelId, ConnectionId, Floor, FloorCause, MemberChanged, Owner, Roster};

use crate::socket::Outbox;
use crate::view;
pub(crate) use crowd::CROWD;
use crowd::Crowds;
use fan_out::FanOut;
use leases::Leases;

/// The types of what is pushed.
const SPEAKER_CHANGED: &str = "speaker-changed";
const CHANNEL_STATE: &str = "channel-state";

/// The channels with local members.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    lease_changed: Notify,
    /// There is something to send in portions.
    pushed: Notify,
    /// Some of it is sent.
    room_made: Notify,
    /// To the task that owns the subscription. Never more entries than joins and leaves in progress.
    idle: mpsc::UnboundedSender<ChannelId>,
}

#[derive(Debug, Default)]
struct Inner {
    channel_by_id: HashMap<ChannelId, Channel>,
    leases: Leases,
    fan_out: FanOut,
    crowds: Crowds,
}

#[derive(Debug, Default)]
struct Channel {
    /// Members and joins in progress.
    interest: usize,
    /// The subscription watches it.
    watched: bool,
    known: Option<Known>,
    /// The latest that a join was answered or the bus brought.
    roster: Option<Roster>,
    member_by_connection: HashMap<ConnectionId, Member>,
}

/// A connection that is told what happens on a channel.
#[derive(Debug)]
struct Member {
    outbox: Outbox,
    /// The roster that its join was answered with: older news of members is none to it.
    roster_version: u64,
}

/// A floor, and since when this gateway has known it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) floor: Floor,
    pub(crate) since: Instant,
}

/// A change of a floor as the hub is told: an event of the bus, or a snapshot of the state.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) channel: &'a ChannelId,
    pub(crate) floor: &'a Floor,
    /// `None` in a snapshot.
    pub(crate) cause: Option<FloorCause>,
    pub(crate) previous: Option<&'a Owner>,
}

/// What a change was to the hub.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Not newer than what is known, or of a channel without local members.
    Nothing,
    /// The first that is known of the channel.
    First,
    /// Newer; the members have been told.
    Changed,
    /// Older than what was known, and yet the truth: the state has lost what it had written. The members have been told.
    Corrected,
}

/// Keeps a channel in the hub for as long as it lives.
#[derive(Debug)]
pub(crate) struct Interest {
    hub: Arc<Hub>,
    channel: ChannelId,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        if let Some(channel) = inner.channel_by_id.get_mut(&self.channel) {
            channel.interest -= 1;
            if channel.interest == 0 {
                // Fails only when the gateway has ended, and its subscription with it.
                let _ = self.hub.idle.send(self.channel.clone());
            }
        }
    }
}

impl Hub {
    /// A hub, and the channels that have lost their last member: to be forgotten by the owner of the subscription.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<ChannelId>) {
        let (idle, receiver) = mpsc::unbounded_channel();
        let (inner, lease_changed, pushed, room_made) = (Mutex::default(), Notify::new(), Notify::new(), Notify::new());
        (Arc::new(Self { inner, lease_changed, pushed, room_made, idle }), receiver)
    }

    /// Begins a join: the channel stays until the answer is dropped.
    pub(crate) fn interest(self: &Arc<Self>, channel: &ChannelId) -> Interest {
        self.lock().channel_by_id.entry(channel.clone()).or_default().interest += 1;
        Interest { hub: Arc::clone(self), channel: channel.clone() }
    }

    pub(crate) fn is_watched(&self, channel: &ChannelId) -> bool {
        self.lock().channel_by_id.get(channel).is_some_and(|channel| channel.watched)
    }

    pub(crate) fn set_watched(&self, channel: &ChannelId) {
        if let Some(channel) = self.lock().channel_by_id.get_mut(channel) {
            channel.watched = true;
        }
    }

    /// Forgets a channel that nobody is interested in. `false`: somebody is, again.
    pub(crate) fn forget_if_idle(&self, channel: &ChannelId) -> bool {
        let mut inner = self.lock();
        let idle = inner.channel_by_id.get(channel).is_some_and(|channel| channel.interest == 0);
        if idle {
            inner.channel_by_id.remove(channel);
            inner.leases.remove(channel);
        }
        idle
    }

    /// How many channels have members here, or joins in progress.
    pub(crate) fn channels(&self) -> usize {
        self.lock().channel_by_id.len()
    }

    /// All channels that the subscription watches.
    pub(crate) fn watched(&self) -> Vec<ChannelId> {
        let inner = self.lock();
        inner.channel_by_id.iter().filter(|(_, channel)| channel.watched).map(|(id, _)| id.clone()).collect()
    }

    /// How many users a channel has, by the latest that is known of it.
    pub(crate) fn users(&self, channel: &ChannelId) -> usize {
        let inner = self.lock();
        inner.channel_by_id.get(channel).and_then(|channel| channel.roster).map_or(0, |roster| roster.users)
    }

    /// A channel's floor, if anything is known of it.
    pub(crate) fn known(&self, channel: &ChannelId) -> Option<Known> {
        self.lock().channel_by_id.get(channel)?.known.clone()
    }

    /// Adds a member, whose join was answered with `joined`. `reply` is called under the lock with the floor and the
    /// number of users: a change that comes later is queued behind it.
    pub(crate) fn enter(
        &self,
        channel: &ChannelId,
        connection: &ConnectionId,
        outbox: &Outbox,
        joined: Roster,
        reply: impl FnOnce(&Floor, usize),
    ) {
        let mut inner = self.lock();
        // Who joins again is answered with what is newer than that.
        inner.catch_up(channel, outbox);
        let channel = inner.channel_by_id.entry(channel.clone()).or_default();
        // The bus may have brought more since the join was answered: it was not told that.
        let roster = channel.learn(joined);
        // Who joins again goes on where it was; over another socket, it has missed what came in between.
        let member = || Member { outbox: outbox.clone(), roster_version: roster.version };
        let known = channel.member_by_connection.entry(connection.clone()).or_insert_with(member);
        if !known.outbox.is(outbox) {
            *known = member();
        }
        match &channel.known {
            Some(known) => reply(&known.floor, roster.users),
            None => reply(&Floor::default(), roster.users),
        }
    }

    /// Removes a member.
    pub(crate) fn exit(&self, channel: &ChannelId, connection: &ConnectionId) {
        let mut inner = self.lock();
        let Inner { channel_by_id, fan_out, crowds, .. } = &mut *inner;
        if let Some(left) = channel_by_id.get_mut(channel)
            && let Some(member) = left.member_by_connection.remove(connection)
        {
            fan_out.forget(channel, &member.outbox);
            crowds.forget(channel, &member.outbox);
        }
    }

    /// Takes a change in, unless it is old, and tells the members.
    pub(crate) fn apply(&self, change: &Change<'_>) -> Applied {
        let mut inner = self.lock();
        let Inner { channel_by_id, leases, fan_out, .. } = &mut *inner;
        let Some(channel) = channel_by_id.get_mut(change.channel) else {
            return Applied::Nothing;
        };
        let known_epoch = channel.known.as_ref().map(|known| known.floor.epoch);
        if known_epoch.is_some_and(|epoch| change.floor.epoch < epoch) {
            return if channel.is_corrected_by(change, leases) {
                let text = channel.correct(change.channel, leases);
                self.push(fan_out, channel, change.channel, (SPEAKER_CHANGED, text), None, |_| true);
                Applied::Corrected
            } else {
                Applied::Nothing
            };
        }
        // Also at the same epoch: a renewed lease announces nothing, but a snapshot shows it.
        if leases.follow(change.channel, change.floor) {
            self.lease_changed.notify_one();
        }
        if known_epoch == Some(change.floor.epoch) {
            return Applied::Nothing;
        }
        channel.known = Some(Known { floor: change.floor.clone(), since: Instant::now() });
        if known_epoch.is_none() {
            return Applied::First;
        }
        let text = view::speaker_changed(change.channel, change.floor, change.cause);
        self.push(fan_out, channel, change.channel, (SPEAKER_CHANGED, text), untold(change), |_| true);
        Applied::Changed
    }

    /// Tells the members that a user came or went; not the connection that did, which has its own answer. On a channel with
    /// a crowd not at once, and not each of it.
    pub(crate) fn member_changed(&self, change: MemberChanged) {
        let mut inner = self.lock();
        let Inner { channel_by_id, fan_out, crowds, .. } = &mut *inner;
        let Some(channel) = channel_by_id.get_mut(&change.channel) else { return };
        channel.learn(change.roster);
        let Some((channel, floor)) = channel.with_floor() else { return };
        if change.roster.users > CROWD {
            crowds.tell(change);
            self.pushed.notify_one();
        } else {
            let merged = crowds.give_up(&change.channel);
            let news = (CHANNEL_STATE, view::member_changed(&change, floor, merged));
            let is_news = |member: &Member| change.roster.version > member.roster_version;
            self.push(fan_out, channel, &change.channel, news, Some(&change.member.connection), is_news);
        }
    }

    /// When the next lease should end, if any floor is held.
    pub(crate) fn next_lease(&self) -> Option<Instant> {
        self.lock().leases.next()
    }

    /// Waits until [`Self::next_lease`] may have another answer.
    pub(crate) async fn lease_changed(&self) {
        self.lease_changed.notified().await;
    }

    /// The channels whose lease should have ended. Each comes again after `again`, unless its floor changes before.
    pub(crate) fn take_expired(&self, now: Instant, again: Duration) -> Vec<ChannelId> {
        self.lock().leases.take_due(now, now + again)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under the lock")
    }
}

impl Inner {
    /// Sends a member what it has not been sent yet.
    fn catch_up(&mut self, channel: &ChannelId, outbox: &Outbox) {
        self.fan_out.catch_up(channel, outbox);
        if let Some((_, floor)) = self.channel_by_id.get(channel).and_then(Channel::with_floor) {
            self.crowds.catch_up(channel, outbox, floor);
        }
    }
}

impl Channel {
    /// Itself and its floor; nothing is told of a channel before that is known.
    fn with_floor(&self) -> Option<(&Self, &Floor)> {
        Some((self, &self.known.as_ref()?.floor))
    }

    /// Takes in a roster, unless a newer one is known; answers the newest.
    fn learn(&mut self, roster: Roster) -> Roster {
        let newest = self.roster.filter(|known| known.version > roster.version).unwrap_or(roster);
        self.roster = Some(newest);
        newest
    }

    /// Does a snapshot that is older than what is known count all the same? A state that lost its last writes, in a
    /// failover, does not know a talk that we know, and nobody would ever announce its end. Its word counts when the talk's
    /// lease is over by what we know: no snapshot is under way for as long as that, so this one is not merely late.
    fn is_corrected_by(&self, change: &Change<'_>, leases: &Leases) -> bool {
        let busy = self.known.as_ref().is_some_and(|known| known.floor.holder.is_some());
        change.cause.is_none() && change.floor.holder.is_none() && busy && leases.is_over(change.channel)
    }

    /// Shows the channel as free. With an epoch of its own, because clients drop what is not newer than what they know; the
    /// next real one is higher, by the time that a lease takes. Of the display only: no gate ever sees it.
    /// Answers what the members are to be told.
    fn correct(&mut self, id: &ChannelId, leases: &mut Leases) -> Utf8Bytes {
        let epoch = self.known.as_ref().map_or(0, |known| known.floor.epoch);
        let floor = Floor { epoch: epoch.saturating_add(1), holder: None };
        let text = view::speaker_changed(id, &floor, Some(FloorCause::Expired));
        self.known = Some(Known { floor, since: Instant::now() });
        leases.remove(id);
        text
    }
}

/// The connection that is not told of a change: the one that speaks, and the one that knows because it gave the floor
/// back itself or is told in another way. Who lost the floor otherwise must hear of it.
fn untold<'a>(change: &Change<'a>) -> Option<&'a ConnectionId> {
    match (&change.floor.holder, change.cause) {
        (Some(holder), _) => Some(&holder.owner.connection),
        (None, Some(FloorCause::Released | FloorCause::Left | FloorCause::NodeFailed)) => {
            change.previous.map(|owner| &owner.connection)
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests;
