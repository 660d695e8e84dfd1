//! Late listeners: who begins to hear a talk in its first moments hears it from its first word.
//!
//! Existing clients consume when they are told that somebody speaks, and then need a moment before they can hear. What was said
//! until then is kept by the floor output; they are sent it faster than it was spoken, in order and without a gap to what
//! follows, until they have caught up with the others.
//!
//! They do so for each talk, and say nothing when they stop to listen to the consumer of the one before. What that would be
//! sent of the next talk's beginning might be heard, or not. So it is held back for a moment, for the consumer that is to come.
//!
//! Nobody is sent a word twice: whoever consumes anew goes on where its last consumer was.
//!
//! A worker or a node that has nobody to hear a channel is not sent its packets. When its first listener comes in the first
//! moments of a talk, the speaker's engine sends what it has kept.
//!
//! A talk that is over because its floor was taken, its end came or a gateway closed it is replayed to nobody any more. After a
//! release it still is, for a moment: its last words are as good as its first, and the next talk is heard behind them. Another
//! node is not told of the release: there the next talk ends the replay.
//!
//! Cost model: nothing while nobody is late, but for the packets that are kept where nobody listens. A late listener costs a
//! packet what any other does, and a timer a hundred times a second for all of a channel, for a second at most.

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::{Engine, Outbound};
use crate::channel::{Channel, ChannelKey, Consumer, ConsumerKey, Floor, Late, RelaySlot};
use crate::floor_output::{CACHE_LEN, FloorOutput};
use crate::id::{ChannelId, RelayId};
use crate::relay::Outgoing;
use crate::rtp;
use crate::srtp::Sealer;
use crate::timers::Timer;
use crate::transport::{Path, Transport};

/// Between two portions.
const TICK: Duration = Duration::from_millis(10);

/// Packets of one portion: four times as fast as they were spoken. A browser's jitter buffer holds seconds, and plays faster
/// until it has no more than it needs.
const PORTION: usize = 2;

/// How long a client takes from the answer to its `consume` to being able to hear, usually: what comes sooner is lost.
pub(super) const NEGOTIATION: Duration = Duration::from_millis(60);

/// The same once its transport is connected, if it was not.
const SETTLING: Duration = Duration::from_millis(20);

/// How long a talk's beginning is held back for a client that is expected to consume anew: longer than the news of the talk
/// and the client's answer are on their way. It is held back once in vain; then the consumer is one that is kept.
const RENEWAL: Duration = Duration::from_millis(500);

impl Engine {
    /// A consumer has come: if a talk has just begun, it is late. `kept`: it is there for all talks. `owed`: where one goes
    /// on that it replaces, if that was late.
    pub(super) fn catch_up(
        &mut self,
        now: Instant,
        key: ChannelKey,
        consumer_key: ConsumerKey,
        kept: bool,
        owed: Option<u64>,
    ) {
        let channel = &mut self.channels[key];
        let Some(consumer) = channel.consumers.get_mut(consumer_key) else { return };
        let begun = channel.output.begun(now, channel.epoch, self.config.replay);
        let may_hear = match &channel.floor {
            Floor::Held(holder) => holder.connection != consumer.connection,
            Floor::Unknown => true, // somebody speaks at another node
            Floor::Expired(_) | Floor::Ended => false,
        };
        let heard = channel.heard.get(&consumer.connection).copied();
        let next = owed.or(begun.filter(|_| may_hear).map(|first| heard.map_or(first, |heard| heard.max(first))));
        if next.is_none() || consumer.member.is_some() {
            return;
        }
        consumer.late = next;
        consumer.renewed |= !kept;
        let give_up = now + 2 * self.config.replay;
        channel.late.push(Late { consumer: consumer_key, start: consumer.ready_at, held: false, give_up });
        self.schedule_replay(now, key);
    }

    /// A consumer hears no more for now: remembers how much of a talk that has just begun it has heard.
    pub(super) fn remember_heard(&mut self, now: Instant, key: ChannelKey, consumer: ConsumerKey) {
        let channel = &mut self.channels[key];
        let Some(first) = channel.output.begun(now, channel.epoch, self.config.replay) else { return };
        let Some(consumer) = channel.consumers.get(consumer) else { return };
        if let Some(next) = consumer.heard(channel.output.next_index()).filter(|next| *next > first) {
            let heard = channel.heard.entry(consumer.connection.clone()).or_default();
            *heard = next.max(*heard);
        }
    }

    /// Hands what is kept of a talk that has just begun here to another engine of this node, which has its first listener.
    pub fn replay_to_peer(&mut self, now: Instant, id: &ChannelId, peer: u32, out: &mut impl Outbound) {
        self.replay_kept(
            now,
            id,
            |channel, _, packet, out: &mut _| {
                Outbound::relay(out, 1 << peer, &channel.id, channel.epoch, packet);
            },
            out,
        );
    }

    /// The same to another node.
    pub fn replay_to_node(&mut self, now: Instant, id: &ChannelId, relay: RelayId, out: &mut impl Outbound) {
        let Some(&slot) = self.relay_by_id.get(&relay) else { return };
        self.replay_kept(
            now,
            id,
            |channel, relays, packet, out: &mut _| {
                let Some(relay) = relays.get_mut(slot) else { return };
                let id = (channel.id.as_str(), channel.hash);
                if let Some((len, path)) = relay.seal(Outbound::buffer(out), id, channel.epoch, packet) {
                    Outbound::send(out, len, path);
                }
            },
            out,
        );
    }

    /// Passes on what is kept of a talk that goes on here, as it came from its speaker.
    fn replay_kept<O: Outbound>(
        &mut self,
        now: Instant,
        id: &ChannelId,
        mut each: impl FnMut(&Channel, &mut SlotMap<RelaySlot, Outgoing>, &[u8], &mut O),
        out: &mut O,
    ) {
        let Some(channel) = self.channel_by_id.get(id).map(|key| &self.channels[*key]) else { return };
        // Only where it has passed the gate, and only while that is open.
        let Some(holder) = channel.holder().filter(|holder| now < holder.valid_until) else { return };
        if !self.transports_by_connection.contains_key(&holder.connection) {
            return;
        }
        let Some(first) = channel.output.begun(now, channel.epoch, self.config.replay) else { return };
        for index in first..channel.output.next_index() {
            if channel.output.as_spoken(index, &mut self.normal_form).is_some() {
                each(channel, &mut self.relays, &self.normal_form, out);
            }
        }
    }

    pub(super) fn schedule_replay(&mut self, now: Instant, key: ChannelKey) {
        let channel = &mut self.channels[key];
        if !channel.replaying {
            channel.replaying = true;
            self.timers.set(now + TICK, Timer::Replay(key));
        }
    }

    /// Sends every late listener of a channel its next portion.
    pub(super) fn replay(&mut self, now: Instant, key: ChannelKey, out: &mut impl Outbound) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Channel { output, consumers, late, .. } = channel;
        let transports = &self.transports;
        late.retain_mut(|late| {
            let Some(consumer) = consumers.get_mut(late.consumer) else { return false };
            let Some(mut next) = consumer.late else { return false };
            let Some(Transport { srtp: Some(srtp), selected: Some(path), .. }) = transports.get(consumer.transport)
            else {
                late.start = late.start.max(now + SETTLING);
                return now < late.give_up || consumer.hear_from_now();
            };
            if now < late.start {
                return true;
            }
            if std::mem::take(&mut late.held) {
                consumer.renewed = false;
            }
            let mut portion = 0;
            while portion < PORTION && next < output.next_index() {
                let sent = send_kept(output, consumer, next, srtp.sealer(), *path, out);
                self.counters.forwarded += u64::from(sent == Some(true));
                portion += usize::from(sent.is_some());
                next += 1;
            }
            let caught_up = next == output.next_index();
            consumer.late = (!caught_up).then_some(next);
            !caught_up && (now < late.give_up || consumer.hear_from_now())
        });
        let again = !channel.late.is_empty();
        channel.replaying = false;
        if again {
            self.schedule_replay(now, key);
        }
    }

    /// The listener's place among the late, if it is one at a packet of a talk that has just begun. `first`: the talk's first.
    #[inline]
    pub(super) fn late(
        now: Instant,
        replay: Duration,
        key: ConsumerKey,
        consumer: &Consumer,
        connected: bool,
        first: bool,
    ) -> Option<Late> {
        if consumer.late.is_some() || consumer.member.is_some() || consumer.paused {
            return None;
        }
        // Its client was quicker than the talk's first packet, if it has only just made it.
        let held = consumer.renewed && first && now >= consumer.ready_at + replay;
        let start = match connected {
            _ if held => now + RENEWAL.min(replay),
            false => now,
            true if now < consumer.ready_at => consumer.ready_at,
            true => return None,
        };
        Some(Late { consumer: key, start, held, give_up: now + 2 * replay })
    }

    /// A packet comes, for which the oldest that is kept has to go: a worker that was behind has many at once. Who has not been
    /// sent it yet is sent it now.
    pub(super) fn make_room(&mut self, key: ChannelKey, out: &mut impl Outbound) {
        let Channel { output, consumers, late, .. } = &mut self.channels[key];
        for late in late.iter() {
            let Some(consumer) = consumers.get_mut(late.consumer) else { continue };
            let Some(next) = consumer.late.filter(|next| next + CACHE_LEN <= output.next_index()) else { continue };
            let Some(Transport { srtp: Some(srtp), selected: Some(path), .. }) =
                self.transports.get(consumer.transport)
            else {
                continue;
            };
            let sent = send_kept(output, consumer, next, srtp.sealer(), *path, out);
            self.counters.forwarded += u64::from(sent == Some(true));
            consumer.late = Some(next + 1);
        }
    }

    /// The talk is over in a way after which nothing of it may be heard any more.
    pub(super) fn stop_replay(&mut self, key: ChannelKey) {
        let Channel { late, consumers, .. } = &mut self.channels[key];
        for late in late.drain(..) {
            if let Some(consumer) = consumers.get_mut(late.consumer) {
                consumer.hear_from_now();
            }
        }
    }
}

/// Sends a listener a packet that is kept. Answers whether it fitted; `None`: it was lost on the way to us, which is a hole for
/// everybody, or came too late for this one.
fn send_kept(
    output: &FloorOutput,
    consumer: &mut Consumer,
    index: u64,
    sealer: &Sealer,
    path: Path,
    out: &mut impl Outbound,
) -> Option<bool> {
    let packet = output.cached(index)?;
    let header_len = rtp::Packet::parse(packet)?.header_len();
    let index = consumer.index(index)?;
    Some(consumer.send(packet, header_len, index, sealer, path, out))
}
