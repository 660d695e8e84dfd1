//! The events on their way to one subscriber: bounded, in order, never waiting for the reader.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::event::Event;
use crate::id::ChannelId;

/// A gateway that runs at all empties its queue in milliseconds; a whole event's staff joining at once is some thousand
/// events. At about 300 bytes each, the worst case is a megabyte per gateway.
pub(crate) const CAPACITY: usize = 4096;

#[derive(Default)]
pub(crate) struct Queue {
    events: Mutex<VecDeque<Event>>,
    filled: Notify,
}

impl Queue {
    /// Adds an event. When the reader is that far behind, all that it has not read is replaced by [`Event::Resync`]: it
    /// must read snapshots, and events that follow are newer than what it lost.
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.lock();
        if events.len() < CAPACITY {
            events.push_back(event);
        } else {
            events.clear();
            events.push_back(Event::Resync);
        }
        drop(events);
        self.filled.notify_one();
    }

    /// Waits for the next event. Nothing is awaited between taking an event and returning it, so a caller that stops
    /// waiting loses none. For one reader: two would wake each other too rarely.
    pub(crate) async fn next(&self) -> Event {
        loop {
            let next = self.lock().pop_front();
            if let Some(event) = next {
                return event;
            }
            // An event that is pushed just now leaves its notification behind for this call.
            self.filled.notified().await;
        }
    }

    /// Drops a channel's events.
    pub(crate) fn forget(&self, channel: &ChannelId) {
        self.lock().retain(|event| match event {
            Event::Floor(change) => change.channel != *channel,
            Event::Member(change) => change.channel != *channel,
            Event::Resync => true,
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().expect("nothing panics while it holds the queue")
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.lock().len()).finish()
    }
}
