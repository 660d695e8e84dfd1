//! Floors: who may speak on a channel and until when, and the truth about every gate.
//!
//! A gate belongs to one epoch and one connection, and has an end. The epoch never goes back: what is older than the highest
//! that was seen, from gateways or in relayed packets, opens nothing. The end is the gateway's promise that the floor's lease
//! lasts longer, so no gate outlives its lease even if nobody can reach the node to close it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Engine, Error, Event};
use crate::channel::{ChannelKey, Floor, Holder};
use crate::id::{ChannelId, ConnectionId, GatewayId};
use crate::timers::Timer;

/// For whom a gate is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHolder {
    /// Who may speak.
    pub connection: ConnectionId,
    /// Who is told about the talk's media, and may close the gate.
    pub gateway: GatewayId,
    /// When the gate closes by itself: packets at that instant and later do not pass.
    pub valid_until: Instant,
}

/// How long a holder has been silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloorActivity {
    /// The channel's epoch.
    pub epoch: u64,
    /// `None`: there is no holder, or no packet of the holder has passed here.
    pub silent_for: Option<Duration>,
}

/// What became of a gate. Every engine of a node is told of every floor; what counts is what the engine says that has the
/// connection, for only there can a packet pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateEvent {
    /// The channel.
    pub channel: ChannelId,
    /// The epoch.
    pub epoch: u64,
    /// Who could speak.
    pub connection: ConnectionId,
    /// What happened.
    pub change: GateChange,
}

/// What can become of a gate: it is opened, perhaps extended, and closed, once. One that came to its end and is opened anew
/// under the same epoch begins again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChange {
    /// It was closed and is open now.
    Opened {
        /// When it closes by itself.
        valid_until: Instant,
    },
    /// It is open, and its end has been given anew.
    Extended {
        /// When it closes by itself now; earlier than before, perhaps.
        valid_until: Instant,
    },
    /// It was open until `at`.
    Closed {
        /// No packet has passed at this instant or later.
        at: Instant,
        /// Why.
        why: GateClosed,
    },
}

/// Why a gate was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateClosed {
    /// A gateway ended its epoch, or everything of its gateway was closed.
    Closed,
    /// Its end came.
    Expired,
    /// A newer epoch came.
    Superseded,
}

impl Engine {
    /// Says who may speak on a channel, and until when: the gate of everybody else is closed when this returns. `None` is
    /// [`Self::close_floor`] without a condition.
    ///
    /// Refused with [`Error::Conflict`], and nothing has changed: an end that is past, an epoch lower than the highest that
    /// was seen, an epoch that was closed or belongs to another connection. With the epoch and the connection of the gate
    /// that is open, gateway and end are replaced by what is given here, also by an end that is earlier. A gate that came to
    /// its end is opened anew, for the same connection: only the gateway knows whether the lease went on.
    pub fn set_floor(
        &mut self,
        now: Instant,
        id: &ChannelId,
        epoch: u64,
        holder: Option<NewHolder>,
    ) -> Result<(), Error> {
        let Some(holder) = holder else { return self.close_floor(now, id, epoch, None).map(drop) };
        if epoch == 0 {
            return Err(Error::Invalid("epochs begin at 1"));
        }
        if holder.valid_until <= now {
            return Err(Error::Conflict("the end of the gate is past"));
        }
        let key = self.channel(id);
        self.expire(now, key);
        self.check_epoch(key, epoch)?;
        let NewHolder { connection, gateway, valid_until } = holder;
        let channel = &mut self.channels[key];
        let again = epoch == channel.epoch;
        let change = match &mut channel.floor {
            // One epoch is one decision: it is never given to somebody else.
            Floor::Held(known) | Floor::Expired(known) if again && known.connection != connection => {
                return Err(Error::Conflict("the epoch has another holder"));
            }
            Floor::Ended if again => return Err(Error::Conflict("the epoch has ended")),
            Floor::Held(known) if again => {
                known.gateway = gateway;
                known.valid_until = valid_until;
                GateChange::Extended { valid_until }
            }
            _ => {
                self.supersede(now, key, epoch);
                let connection = connection.clone();
                self.channels[key].floor = Floor::Held(Holder { connection, gateway, valid_until, last_packet: None });
                GateChange::Opened { valid_until }
            }
        };
        let producer = self.channels[key].producer_by_connection.get(&connection);
        if let Some(producer) = producer.and_then(|key| self.producers.get_mut(*key)) {
            producer.open_until = Some(valid_until);
        }
        self.timers.set(valid_until, Timer::Gate(key, epoch));
        self.events.push_back(Event::Gate(GateEvent { channel: id.clone(), epoch, connection, change }));
        Ok(())
    }

    /// Ends an epoch: nobody may speak on the channel until a newer one comes.
    ///
    /// An epoch newer than any that was seen closes in any case, and is remembered. The epoch that is known is ended, unless
    /// `gateway` is given and the holder's is another one: then nothing changes, and the answer is `false`, for the gate is
    /// that gateway's now and may be open. An older epoch is [`Error::Conflict`], and nothing changes: its gate is closed already.
    pub fn close_floor(
        &mut self,
        now: Instant,
        id: &ChannelId,
        epoch: u64,
        gateway: Option<&GatewayId>,
    ) -> Result<bool, Error> {
        let closed = self.release_floor(now, id, epoch, gateway)?;
        if closed && let Some(&key) = self.channel_by_id.get(id) {
            self.stop_replay(key);
        }
        Ok(closed)
    }

    /// The same when the holder has let go: who came late hears the talk to its end.
    pub fn release_floor(
        &mut self,
        now: Instant,
        id: &ChannelId,
        epoch: u64,
        gateway: Option<&GatewayId>,
    ) -> Result<bool, Error> {
        let key = self.channel(id);
        self.expire(now, key);
        self.check_epoch(key, epoch)?;
        if !self.adopt_newer(now, key, epoch)
            && let Floor::Held(holder) | Floor::Expired(holder) = &self.channels[key].floor
            && gateway.is_some_and(|gateway| holder.gateway != *gateway)
        {
            return Ok(false);
        }
        self.shut(now, key, GateClosed::Closed);
        self.channels[key].floor = Floor::Ended;
        self.retire_if_empty(now, key);
        Ok(true)
    }

    /// A talk with this epoch goes on at another node, as another engine of this node has heard: see
    /// [`Event::NewerEpoch`]. A gate under an older one is closed.
    pub fn adopt_epoch(&mut self, now: Instant, id: &ChannelId, epoch: u64) {
        let key = self.channel(id);
        self.adopt_newer(now, key, epoch);
        self.retire_if_empty(now, key);
    }

    /// How long the holder of a channel's floor has been silent here.
    pub fn floor_activity(&self, now: Instant, id: &ChannelId) -> FloorActivity {
        let Some(channel) = self.channel_by_id.get(id).map(|key| &self.channels[*key]) else {
            return FloorActivity { epoch: 0, silent_for: None };
        };
        let holder = channel.holder().filter(|holder| now < holder.valid_until);
        let last_packet = holder.and_then(|holder| holder.last_packet);
        FloorActivity { epoch: channel.epoch, silent_for: last_packet.map(|at| now.saturating_duration_since(at)) }
    }

    /// Whether a gate of this channel is open, for a connection of this engine: whether its packets come here.
    pub fn has_holder(&self, id: &ChannelId) -> bool {
        let channel = self.channel_by_id.get(id).map(|key| &self.channels[*key]);
        let holder = channel.and_then(|channel| channel.holder());
        holder.is_some_and(|holder| self.has_connection(&holder.connection))
    }

    /// Whether a channel's epoch is at least this one.
    pub fn knows_epoch(&self, id: &ChannelId, epoch: u64) -> bool {
        self.channel_by_id.get(id).is_some_and(|key| epoch <= self.channels[*key].epoch)
    }

    /// Says whether another engine of this node has listeners on a channel.
    pub fn set_peer_listening(&mut self, now: Instant, id: &ChannelId, peer: u32, listening: bool) {
        let key = self.channel(id);
        let bit = 1 << peer;
        let channel = &mut self.channels[key];
        channel.peers = if listening { channel.peers | bit } else { channel.peers & !bit };
        self.retire_if_empty(now, key);
    }

    /// A relayed packet or a gateway names an epoch: if it is newer, the talk that was known here is over. Answers whether
    /// it was.
    pub(super) fn adopt_newer(&mut self, now: Instant, key: ChannelKey, epoch: u64) -> bool {
        if epoch <= self.channels[key].epoch {
            return false;
        }
        self.supersede(now, key, epoch);
        self.channels[key].floor = Floor::Unknown;
        true
    }

    /// Another talk begins. One that was released is still heard to its end by who is late: the next one comes behind it.
    fn supersede(&mut self, now: Instant, key: ChannelKey, epoch: u64) {
        if !matches!(self.channels[key].floor, Floor::Ended) {
            self.stop_replay(key);
        }
        self.shut(now, key, GateClosed::Superseded);
        let channel = &mut self.channels[key];
        channel.epoch = epoch;
        channel.heard = HashMap::new();
    }

    /// A gate's end may have come; it may also have been put off since, which has a timer of its own.
    pub(super) fn check_gate(&mut self, now: Instant, key: ChannelKey, epoch: u64) {
        if self.channels.get(key).is_some_and(|channel| channel.epoch == epoch) {
            self.expire(now, key);
            self.retire_if_empty(now, key);
        }
    }

    /// Closes the gates that are a gateway's.
    pub(super) fn close_gates_of(&mut self, now: Instant, gateway: &GatewayId) {
        let of_gateway = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.holder().is_some_and(|holder| holder.gateway == *gateway));
        let keys: Vec<ChannelKey> = of_gateway.map(|(key, _)| key).collect();
        for key in keys {
            self.shut(now, key, GateClosed::Closed);
            self.stop_replay(key);
            self.channels[key].floor = Floor::Ended;
            self.retire_if_empty(now, key);
        }
    }

    fn check_epoch(&self, key: ChannelKey, epoch: u64) -> Result<(), Error> {
        if epoch < self.channels[key].epoch {
            return Err(Error::Conflict("a newer epoch has been seen"));
        }
        Ok(())
    }

    /// Closes a gate whose end has come, if the timer has not done it yet.
    fn expire(&mut self, now: Instant, key: ChannelKey) {
        if self.channels[key].holder().is_some_and(|holder| holder.valid_until <= now) {
            self.shut(now, key, GateClosed::Expired);
            self.stop_replay(key);
        }
    }

    /// Closes the gate that is open, if one is, and says so. If its end came before, that is what has closed it.
    fn shut(&mut self, now: Instant, key: ChannelKey, why: GateClosed) {
        let channel = &mut self.channels[key];
        let Some(holder) = channel.holder() else { return };
        let change = if holder.valid_until <= now {
            GateChange::Closed { at: holder.valid_until, why: GateClosed::Expired }
        } else {
            GateChange::Closed { at: now, why }
        };
        let Floor::Held(holder) = std::mem::replace(&mut channel.floor, Floor::Unknown) else { return };
        let connection = holder.connection.clone();
        channel.floor = Floor::Expired(holder);
        let producer = channel.producer_by_connection.get(&connection);
        if let Some(producer) = producer.and_then(|key| self.producers.get_mut(*key)) {
            producer.open_until = None;
            producer.reception.skip();
        }
        let (channel, epoch) = (channel.id.clone(), channel.epoch);
        self.events.push_back(Event::Gate(GateEvent { channel, epoch, connection, change }));
    }
}
