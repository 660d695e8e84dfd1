//! The last change that this process has heard of, for each channel that it watches: what a failover has lost.
//!
//! A master that takes over may not have the last writes. Somebody has heard of them, though: every call that decides says
//! which change its caller knows, and servers that are behind are told that change before they decide. So a talk goes on
//! although its grant was lost, one that has ended stays so, and no gateway is ever told of an older floor than it knows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::floor::Floor;
use crate::id::ChannelId;

#[derive(Debug, Default)]
pub(super) struct Known {
    by_channel: Mutex<HashMap<ChannelId, Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    floor: Floor,
}

impl Known {
    pub(super) fn watch(&self, channel: &ChannelId) {
        self.lock().entry(channel.clone()).or_default().watchers += 1;
    }

    pub(super) fn unwatch(&self, channel: &ChannelId) {
        let mut by_channel = self.lock();
        if let Some(watched) = by_channel.get_mut(channel) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                by_channel.remove(channel);
            }
        }
    }

    /// The floor as an answer or an event has it: both come here late at times.
    pub(super) fn heard(&self, channel: &ChannelId, floor: &Floor) {
        if let Some(watched) = self.lock().get_mut(channel)
            && floor.epoch >= watched.floor.epoch
        {
            watched.floor.clone_from(floor);
        }
    }

    pub(super) fn epoch(&self, channel: &ChannelId) -> Option<u64> {
        self.lock().get(channel).map(|watched| watched.floor.epoch)
    }

    pub(super) fn floor(&self, channel: &ChannelId) -> Option<Floor> {
        self.lock().get(channel).map(|watched| watched.floor.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Watched>> {
        self.by_channel.lock().expect("nothing panics while it holds what is known")
    }
}
