//! One channel: its floor, its members and who watches it. Called under the lock of [`super::Memory`], so that an event
//! is queued in the step that decided it. Never decides about the floor itself: the rules do.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use voiceping_signals::trace;

use crate::contract::{JoinError, Leaving};
use crate::event::{Event, FloorCause, FloorChanged, MemberAction, MemberChanged, Roster};
use crate::floor::{Answer, Floor, FloorRules, Owner, Request, transition};
use crate::id::{ChannelId, ConnectionId, UserId};
use crate::metrics;
use crate::queue::Queue;

pub(super) struct Channel {
    id: ChannelId,
    floor: Floor,
    member_by_connection: HashMap<ConnectionId, Owner>,
    user_by_id: HashMap<UserId, User>,
    roster_version: u64,
    watchers: Vec<Arc<Queue>>,
}

/// A user on the channel, whatever the number of devices.
struct User {
    /// As the connection that joined last gave it.
    name: String,
    connections: usize,
}

impl Channel {
    /// A free channel whose next epoch is above `last_epoch`.
    pub(super) fn new(id: ChannelId, last_epoch: u64) -> Self {
        Self {
            id,
            floor: Floor { epoch: last_epoch, holder: None },
            member_by_connection: HashMap::new(),
            user_by_id: HashMap::new(),
            roster_version: 0,
            watchers: Vec::new(),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.floor.epoch
    }

    /// Nothing is lost, except the epoch, when this channel is forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.member_by_connection.is_empty() && self.floor.holder.is_none() && self.watchers.is_empty()
    }

    /// Asks the rules, keeps the floor and announces the change.
    pub(super) fn decide(&mut self, request: Request<'_>, now_ms: u64, rules: &FloorRules) -> (Floor, Answer) {
        let outcome = transition(mem::take(&mut self.floor), request, now_ms, rules);
        self.floor = outcome.floor;
        if let Some(announcement) = outcome.announce {
            if announcement.previous.is_some() {
                metrics::freed(announcement.cause);
            }
            self.announce(&Event::Floor(FloorChanged {
                channel: self.id.clone(),
                floor: self.floor.clone(),
                cause: announcement.cause,
                previous: announcement.previous,
                trace: trace::parent(),
            }));
        }
        (self.floor.clone(), outcome.answer)
    }

    pub(super) fn join(
        &mut self,
        member: &Owner,
        limit: Option<usize>,
        now_ms: u64,
        rules: &FloorRules,
    ) -> Result<Roster, JoinError> {
        if let Some(known) = self.member_by_connection.get_mut(&member.connection) {
            if known.user == member.user {
                known.gateway.clone_from(&member.gateway);
                self.decide(Request::Move { owner: member }, now_ms, rules);
            }
            return Ok(self.roster());
        }
        // Another device of a user who is there already does not count.
        let known = self.user_by_id.contains_key(&member.user);
        if let Some(limit) = limit.filter(|limit| !known && self.user_by_id.len() >= *limit) {
            return Err(JoinError::Full(limit));
        }
        let user =
            self.user_by_id.entry(member.user.clone()).or_insert_with(|| User { name: String::new(), connections: 0 });
        user.name.clone_from(&member.user_name);
        user.connections += 1;
        self.member_by_connection.insert(member.connection.clone(), member.clone());
        // One who was no member can hold the floor, through another gateway at that.
        self.decide(Request::Move { owner: member }, now_ms, rules);
        if !known {
            self.announce_member(member.clone(), MemberAction::Joined, now_ms);
        }
        Ok(self.roster())
    }

    pub(super) fn leave(&mut self, owner: &Owner, leaving: Leaving, now_ms: u64, rules: &FloorRules) -> usize {
        // Also for who is no member: nothing that a connection has on a channel may outlive its leave.
        let request = Request::Release { owner, epoch: None, cause: FloorCause::Left };
        self.decide(request, now_ms, rules);
        let is_here = |member: &Owner| member.gateway == owner.gateway && member.user == owner.user;
        if self.member_by_connection.get(&owner.connection).is_some_and(is_here)
            && let Some(member) = self.member_by_connection.remove(&owner.connection)
            && self.remove_connection_of(&member.user)
        {
            let action = match leaving {
                Leaving::Left => MemberAction::Left,
                Leaving::Disconnected => MemberAction::Disconnected,
            };
            self.announce_member(member, action, now_ms);
        }
        self.user_by_id.len()
    }

    pub(super) fn users(&self) -> Vec<(UserId, String)> {
        self.user_by_id.iter().map(|(id, user)| (id.clone(), user.name.clone())).collect()
    }

    /// A subscription adds its queue once; it keeps the list of what it watches.
    pub(super) fn add_watcher(&mut self, queue: &Arc<Queue>) {
        self.watchers.push(Arc::clone(queue));
    }

    pub(super) fn remove_watcher(&mut self, queue: &Arc<Queue>) {
        self.watchers.retain(|watcher| !Arc::ptr_eq(watcher, queue));
    }

    /// Whether it was the user's last connection here.
    fn remove_connection_of(&mut self, user: &UserId) -> bool {
        match self.user_by_id.get_mut(user) {
            Some(known) if known.connections > 1 => {
                known.connections -= 1;
                false
            }
            _ => self.user_by_id.remove(user).is_some(),
        }
    }

    fn roster(&self) -> Roster {
        Roster { users: self.user_by_id.len(), version: self.roster_version }
    }

    fn announce_member(&mut self, member: Owner, action: MemberAction, now_ms: u64) {
        // By the time, so that it grows even over a channel that was forgotten in between.
        self.roster_version = now_ms.max(self.roster_version + 1);
        let roster = self.roster();
        self.announce(&Event::Member(MemberChanged { channel: self.id.clone(), member, action, roster }));
    }

    fn announce(&self, event: &Event) {
        for watcher in &self.watchers {
            watcher.push(event.clone());
        }
    }
}
