//! News of members of large channels: merged, and paced.
//!
//! Each coming and going told to everybody costs the square of a crowd: five thousand who join one channel would be 12.5
//! million pushes, with who speaks somewhere behind them. So above [`CROWD`] users at most one such piece of news waits
//! for a channel, and a newer one takes its place: the last is always told. All of them together leave at [`PACE`], after
//! everything that the fan-out has to send ([`super::fan_out`]). Their text is made when they leave, with the floor as it
//! is then: existing clients take their busy display from it, and must not be shown an older floor after a newer one.
//!
//! Used by the hub, under its lock. Never decides what is news, and sends nothing of floors alone.
//!
//! Cost: a list of sockets for each round through a channel's members, a text for each round and each change of the floor
//! meanwhile; nothing for a change that is replaced before it leaves.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::time::Instant;
use voiceping_state::{ChannelId, Floor, MemberChanged};

use super::fan_out::{Next, PORTION};
use super::{CHANNEL_STATE, Channel};
use crate::metrics;
use crate::socket::Outbox;
use crate::view;

/// Users of a channel whose comings and goings are all told, each with a name. Clients rely on it: with more, they keep no
/// list (docs/protocol.md, section 4).
pub(crate) const CROWD: usize = 100;

/// Time for each push: 5,000 a second, some percent of a core. A round through 5,000 members takes a second.
const PACE: Duration = Duration::from_micros(200);

/// What is told of the members of large channels.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    news_by_channel: HashMap<ChannelId, News>,
    /// The channels of the table, each once.
    turns: VecDeque<ChannelId>,
    /// When the next portion may leave.
    next: Option<Instant>,
}

/// Of one channel; never without both.
#[derive(Debug, Default)]
struct News {
    waiting: Option<Change>,
    round: Option<Round>,
}

#[derive(Debug)]
struct Change {
    change: MemberChanged,
    /// It stands for others too, which it has replaced.
    merged: bool,
}

/// On its way through the members.
#[derive(Debug)]
struct Round {
    news: Change,
    /// Of the floor that the text shows.
    epoch: u64,
    text: Utf8Bytes,
    to: Vec<Outbox>,
}

impl Crowds {
    /// Takes in what is to be told next, instead of what waits.
    pub(super) fn tell(&mut self, change: MemberChanged) {
        let news = self.news_by_channel.entry(change.channel.clone()).or_insert_with(|| {
            self.turns.push_back(change.channel.clone());
            News::default()
        });
        let merged = news.waiting.is_some();
        news.waiting = Some(Change { change, merged });
    }

    /// Drops what not everybody has been told, for what is newer and goes another way. `true`: there was something.
    pub(super) fn give_up(&mut self, channel: &ChannelId) -> bool {
        let given_up = self.news_by_channel.remove(channel).is_some();
        if given_up {
            self.turns.retain(|turn| turn != channel);
        }
        given_up
    }

    /// Sends one portion, of the channel whose turn it is. The fan-out is empty: everybody has been told of every floor.
    pub(super) fn send_portion(&mut self, channel_by_id: &HashMap<ChannelId, Channel>, now: Instant) -> Next {
        if let Some(next) = self.next.filter(|next| *next > now && !self.turns.is_empty()) {
            return Next::At(next);
        }
        let Some(id) = self.turns.pop_front() else { return Next::Nothing };
        let Some(news) = self.news_by_channel.get_mut(&id) else { return Next::Now };
        if let Some((channel, floor)) = channel_by_id.get(&id).and_then(Channel::with_floor)
            && let Some(round) = news.round_through(channel, floor)
        {
            let sent = round.send(floor);
            metrics::pushed(CHANNEL_STATE, sent);
            self.next = Some(now + PACE * u32::try_from(sent).unwrap_or(u32::MAX));
            news.round.take_if(|round| round.to.is_empty());
        } else {
            // Nobody is there any more.
            *news = News::default();
        }
        if news.waiting.is_some() || news.round.is_some() {
            self.turns.push_back(id);
        } else {
            self.news_by_channel.remove(&id);
        }
        Next::Now
    }

    /// Sends a member what is on its way to it: it is about to be told something newer.
    pub(super) fn catch_up(&mut self, channel: &ChannelId, outbox: &Outbox, floor: &Floor) {
        if let Some(round) = self.take(channel, outbox) {
            outbox.send(round.text_with(floor));
            metrics::pushed(CHANNEL_STATE, 1);
        }
    }

    /// Sends a member nothing of this any more: it has left.
    pub(super) fn forget(&mut self, channel: &ChannelId, outbox: &Outbox) {
        self.take(channel, outbox);
    }

    /// Takes a member out of the round that has yet to come to it.
    fn take(&mut self, channel: &ChannelId, outbox: &Outbox) -> Option<&mut Round> {
        let round = self.news_by_channel.get_mut(channel)?.round.as_mut()?;
        let at = round.to.iter().position(|waiting| waiting.is(outbox))?;
        round.to.swap_remove(at);
        Some(round)
    }
}

impl News {
    /// The round that goes on, or the next one.
    fn round_through(&mut self, channel: &Channel, floor: &Floor) -> Option<&mut Round> {
        if self.round.is_none() {
            self.round = self.waiting.take().map(|news| Round::through(channel, floor, news));
        }
        self.round.as_mut()
    }
}

impl Round {
    /// To all but the subject, and those whose join was answered with it already.
    fn through(channel: &Channel, floor: &Floor, news: Change) -> Self {
        let Change { change, merged } = &news;
        let members = channel.member_by_connection.iter();
        let told = members.filter(|(connection, member)| {
            **connection != change.member.connection && change.roster.version > member.roster_version
        });
        let to = told.map(|(_, member)| member.outbox.clone()).collect();
        Self { epoch: floor.epoch, text: view::member_changed(change, floor, *merged), to, news }
    }

    /// Answers to how many.
    fn send(&mut self, floor: &Floor) -> usize {
        let text = self.text_with(floor);
        let rest = self.to.len().saturating_sub(PORTION);
        self.to.drain(rest..).map(|outbox| outbox.send(text.clone())).count()
    }

    fn text_with(&mut self, floor: &Floor) -> Utf8Bytes {
        if self.epoch != floor.epoch {
            self.epoch = floor.epoch;
            self.text = view::member_changed(&self.news.change, floor, self.news.merged);
        }
        self.text.clone()
    }
}
