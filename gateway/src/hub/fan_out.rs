//! Pushes to channels with many members, on their way: some at a time, so that nobody waits for all of them.
//!
//! A push to a thousand sockets makes a thousand tasks runnable, each with a write to the kernel: some ten milliseconds in
//! which the answer to the press that caused it would stand in the same line. So a push to more than a handful is kept
//! here, and one task sends it in portions; in between, everything else has its turn. Channels take turns too: a small one
//! does not wait for a large one. Each member gets all pushes of a channel in their order, and what it is answered comes
//! after what was decided before ([`FanOut::catch_up`]). What may wait and be left out is elsewhere ([`super::crowd`]).
//!
//! Cost: one list for each push, and for each member what its queue takes. The text is shared.

use std::collections::{HashMap, VecDeque};

use axum::extract::ws::Utf8Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use voiceping_state::{ChannelId, ConnectionId};

use super::{Channel, Hub, Inner, Member};
use crate::metrics;
use crate::socket::Outbox;

/// Sockets that are pushed to in one turn. Their writes take some three hundred microseconds.
pub(super) const PORTION: usize = 32;

/// Pushes to single sockets that may wait; more changes are left to the bus until some are sent.
const ROOM: usize = 16 * 1024;

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    pushes_by_channel: HashMap<ChannelId, VecDeque<Push>>,
    /// The channels of the table, each once.
    turns: VecDeque<ChannelId>,
    waiting: usize,
}

/// When there is something to send again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another portion waits.
    Now,
    /// What waits may not leave before.
    At(Instant),
    /// When something comes.
    Nothing,
}

#[derive(Debug)]
struct Push {
    kind: &'static str,
    since: Instant,
    text: Utf8Bytes,
    to: Vec<Outbox>,
}

impl Hub {
    /// Sends a member what it has not been sent yet. Before it is told of a floor in another way, so that nothing older
    /// comes after that.
    pub(crate) fn catch_up(&self, channel: &ChannelId, outbox: &Outbox) {
        self.lock().catch_up(channel, outbox);
    }

    /// To a handful at once, to more in portions.
    pub(super) fn push(
        &self,
        fan_out: &mut FanOut,
        channel: &Channel,
        id: &ChannelId,
        (kind, text): (&'static str, Utf8Bytes),
        except: Option<&ConnectionId>,
        is_news: impl Fn(&Member) -> bool,
    ) {
        let since = Instant::now();
        let members = channel.member_by_connection.iter();
        let told = members.filter(|(connection, member)| Some(*connection) != except && is_news(member));
        let told = told.map(|(_, member)| &member.outbox);
        if channel.member_by_connection.len() <= PORTION && !fan_out.is_behind(id) {
            let mut count = 0;
            for outbox in told {
                outbox.send(text.clone());
                count += 1;
            }
            metrics::pushed(kind, count);
            metrics::pushed_to_all(kind, since.elapsed());
        } else {
            let to: Vec<_> = told.cloned().collect();
            metrics::pushed(kind, to.len());
            fan_out.add(id, Push { kind, since, text, to });
            self.pushed.notify_one();
        }
    }

    /// Sends what is to be sent in portions, until the gateway ends.
    pub(crate) async fn send(&self, end: CancellationToken) {
        while !end.is_cancelled() {
            let next = match self.send_portion() {
                Next::Now => {
                    // Until the sockets have written this one, and whatever else was waiting is done.
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::At(time) => Some(time),
                Next::Nothing => None,
            };
            tokio::select! {
                () = end.cancelled() => {}
                () = self.pushed.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// News of members of large channels only when there is nothing else.
    pub(super) fn send_portion(&self) -> Next {
        let mut inner = self.lock();
        let Inner { channel_by_id, fan_out, crowds, .. } = &mut *inner;
        if !fan_out.send_portion() {
            return crowds.send_portion(channel_by_id, Instant::now());
        }
        if fan_out.has_room() {
            self.room_made.notify_waiters();
        }
        Next::Now
    }

    /// May more changes be taken in? What is not sent yet takes memory.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().fan_out.has_room()
    }

    /// Waits until [`Self::has_room`] has another answer.
    pub(crate) async fn room(&self) {
        let made = self.room_made.notified();
        if !self.has_room() {
            made.await;
        }
    }
}

impl FanOut {
    fn has_room(&self) -> bool {
        self.waiting < ROOM
    }

    /// Does the channel have pushes that are not sent yet? Then what comes after them has to wait too.
    fn is_behind(&self, channel: &ChannelId) -> bool {
        self.pushes_by_channel.contains_key(channel)
    }

    fn add(&mut self, channel: &ChannelId, push: Push) {
        if push.to.is_empty() {
            return;
        }
        self.waiting += push.to.len();
        let pushes = self.pushes_by_channel.entry(channel.clone()).or_insert_with(|| {
            self.turns.push_back(channel.clone());
            VecDeque::new()
        });
        pushes.push_back(push);
    }

    /// Sends one portion, of the channel whose turn it is. `false`: there was nothing.
    fn send_portion(&mut self) -> bool {
        let Some(channel) = self.turns.pop_front() else { return false };
        let Some(pushes) = self.pushes_by_channel.get_mut(&channel) else { return true };
        if let Some(push) = pushes.front_mut() {
            let rest = push.to.len().saturating_sub(PORTION);
            for outbox in push.to.drain(rest..) {
                outbox.send(push.text.clone());
                self.waiting -= 1;
            }
        }
        while let Some(sent) = pushes.pop_front_if(|push| push.to.is_empty()) {
            metrics::pushed_to_all(sent.kind, sent.since.elapsed());
        }
        if pushes.is_empty() {
            self.pushes_by_channel.remove(&channel);
        } else {
            self.turns.push_back(channel);
        }
        true
    }

    /// Sends a member now what it has not been sent: it is about to be told something newer.
    pub(super) fn catch_up(&mut self, channel: &ChannelId, outbox: &Outbox) {
        self.take(channel, outbox, |text| outbox.send(text.clone()));
    }

    /// Sends a member nothing of this any more: it has left.
    pub(super) fn forget(&mut self, channel: &ChannelId, outbox: &Outbox) {
        self.take(channel, outbox, |_| {});
    }

    fn take(&mut self, channel: &ChannelId, outbox: &Outbox, mut sent: impl FnMut(&Utf8Bytes)) {
        for push in self.pushes_by_channel.get_mut(channel).into_iter().flatten() {
            if let Some(at) = push.to.iter().position(|waiting| waiting.is(outbox)) {
                push.to.swap_remove(at);
                self.waiting -= 1;
                sent(&push.text);
            }
        }
    }
}
