//! What a gateway knows of its own members, and of what the servers may not know: the truth that presence tells them.
//!
//! Nothing here talks to the servers.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::floor::Owner;
use crate::id::{ChannelId, ConnectionId};

/// A gateway on a channel.
pub(super) type Place = (String, ChannelId);

#[derive(Debug, Default)]
pub(in crate::redis) struct Presence {
    local: Mutex<Local>,
    pub(super) doubted: Notify,
}

pub(super) type Members = HashMap<ConnectionId, Member>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) owner: Owner,
    /// Since when the connection is its gateway's, as the servers count; 0: they have not said yet.
    pub(super) since: u64,
}

#[derive(Debug, Default)]
pub(super) struct Local {
    /// One, in a process that is a gateway.
    pub(super) generation_by_gateway: HashMap<String, u64>,
    pub(super) members_by_place: HashMap<Place, Members>,
    /// Where a gateway that cleans up after this one would look, and for how many heartbeats nobody has been there.
    pub(super) listed: HashMap<Place, u32>,
    /// The servers may say something else than this.
    pub(super) doubtful: HashSet<Place>,
    pub(super) has_heart: bool,
}

impl Presence {
    /// All members are told to the servers again, soon; also that there are none where the last has left lately.
    pub(in crate::redis) fn doubt_everything(&self) {
        let mut local = self.lock();
        let Local { members_by_place, listed, doubtful, .. } = &mut *local;
        doubtful.extend(members_by_place.keys().chain(listed.keys()).cloned());
        drop(local);
        self.doubted.notify_one();
    }

    pub(super) fn doubt(&self, place: Place) {
        self.lock().doubtful.insert(place);
        self.doubted.notify_one();
    }

    /// Whether it is news.
    pub(super) fn add(&self, place: &Place, member: &Owner) -> bool {
        let mut local = self.lock();
        let members = local.members_by_place.entry(place.clone()).or_default();
        let is_new = !members.contains_key(&member.connection);
        if is_new {
            members.insert(member.connection.clone(), Member { owner: member.clone(), since: 0 });
        }
        is_new
    }

    /// The servers have said since when a connection is its gateway's.
    pub(super) fn joined(&self, place: &Place, connection: &ConnectionId, since: u64) {
        let mut local = self.lock();
        if let Some(member) = local.members_by_place.get_mut(place).and_then(|members| members.get_mut(connection)) {
            member.since = since;
        }
    }

    /// Whether the connection was a member there.
    pub(super) fn remove(&self, place: &Place, connection: &ConnectionId) -> bool {
        self.remove_if(place, connection, |_| true)
    }

    pub(super) fn remove_if(
        &self,
        place: &Place,
        connection: &ConnectionId,
        is_it: impl FnOnce(&Member) -> bool,
    ) -> bool {
        let mut local = self.lock();
        let Some(members) = local.members_by_place.get_mut(place) else { return false };
        let is_there = members.get(connection).is_some_and(is_it);
        if is_there {
            members.remove(connection);
        }
        if members.is_empty() {
            local.members_by_place.remove(place);
        }
        is_there
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Local> {
        self.local.lock().expect("nothing panics while it holds the presence")
    }
}

/// A change on its way. If it is given up or fails, nobody knows whether it has happened: then what is remembered here is
/// told to the servers.
pub(super) struct Doubt<'a> {
    pub(super) presence: &'a Presence,
    pub(super) place: Option<Place>,
    /// Of a join that may not have happened.
    pub(super) joining: Option<&'a ConnectionId>,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Some(connection) = self.joining {
            self.presence.remove(&place, connection);
        }
        self.presence.doubt(place);
    }
}
