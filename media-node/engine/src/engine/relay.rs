//! Talks between nodes: which nodes want to hear a channel, their packets out, and other nodes' packets in.
//!
//! Only packets of this node's own clients go out, straight behind the gate; what comes in goes to this engine's listeners
//! and to the node's other engines, never to a node. So a packet crosses at most once between nodes, and no loop can form,
//! whoever listens to whom.

use std::time::Instant;

use super::{Engine, Error, Event, Outbound};
use crate::channel::ChannelKey;
use crate::id::{ChannelId, RelayId};
use crate::relay::{Incoming, Outgoing, RelayKey, RelayOut, Relayed, session};
use crate::rtp;

impl Engine {
    /// A node has subscribed. It is sent nothing before [`Self::set_relay_listening`]. One with the same id is replaced, and
    /// what it listened to is forgotten.
    pub fn add_relay(&mut self, now: Instant, id: RelayId, relay: RelayOut) -> Result<(), Error> {
        if relay.paths.is_empty() || relay.paths.len() > 1 << 8 {
            return Err(Error::Invalid("a relay has between one and 256 paths"));
        }
        self.remove_relay(now, id);
        let slot = self.relays.insert(Outgoing::new(relay, self.relay_counter));
        self.relay_by_id.insert(id, slot);
        Ok(())
    }

    /// A node's subscription has ended.
    pub fn remove_relay(&mut self, now: Instant, id: RelayId) {
        let Some(slot) = self.relay_by_id.remove(&id) else { return };
        let counter = self.relays.remove(slot).map_or(0, |relay| relay.counter());
        self.relay_counter = self.relay_counter.max(counter);
        let listening = self.channels.iter_mut().filter(|(_, channel)| channel.relays.contains(&slot));
        let keys: Vec<ChannelKey> = listening
            .map(|(key, channel)| {
                channel.relays.retain(|other| *other != slot);
                key
            })
            .collect();
        for key in keys {
            self.retire_if_empty(now, key);
        }
    }

    /// Says whether a node that has subscribed has listeners on a channel. Of one that has not, nothing is kept.
    pub fn set_relay_listening(&mut self, now: Instant, id: &ChannelId, relay: RelayId, listening: bool) {
        let Some(&slot) = self.relay_by_id.get(&relay) else { return };
        let key = self.channel(id);
        let relays = &mut self.channels[key].relays;
        relays.retain(|other| *other != slot);
        if listening {
            relays.push(slot);
        }
        self.retire_if_empty(now, key);
    }

    /// This node has subscribed to another one: its datagrams with this session are opened with this key. `receiver` is
    /// the index of this engine's path among those that the other node was given.
    pub fn accept_relay(&mut self, session: u32, receiver: u8, key: RelayKey) {
        // Repeated, it must not forget which datagrams have been here.
        if self.incoming_by_session.get(&session).is_none_or(|known| !known.is(&key, receiver)) {
            self.incoming_by_session.insert(session, Incoming::new(key, receiver));
        }
    }

    /// This node's subscription has ended.
    pub fn refuse_relay(&mut self, session: u32) {
        self.incoming_by_session.remove(&session);
    }

    /// Sends a packet of a client of this engine to every node that has listeners.
    pub(super) fn relay_to_nodes(&mut self, key: ChannelKey, packet: &[u8], out: &mut impl Outbound) {
        let channel = &self.channels[key];
        for slot in &channel.relays {
            let Some(relay) = self.relays.get_mut(*slot) else { continue };
            let id = (channel.id.as_str(), channel.hash);
            if let Some((len, path)) = relay.seal(out.buffer(), id, channel.epoch, packet) {
                self.counters.relayed_out += 1;
                out.send(len, path);
            }
        }
    }

    /// A datagram of another node.
    pub(super) fn handle_relay_datagram(&mut self, now: Instant, datagram: &[u8], out: &mut impl Outbound) {
        let Some(incoming) = session(datagram).and_then(|session| self.incoming_by_session.get_mut(&session)) else {
            return;
        };
        let mut plain = std::mem::take(&mut self.relayed);
        if incoming.open(datagram, &mut plain).is_some()
            && let Some(relayed) = Relayed::parse(&plain)
        {
            self.counters.relayed_in += 1;
            self.handle_packet_of_node(now, &relayed, out);
        } else {
            self.counters.not_authentic += 1;
        }
        self.relayed = plain;
    }

    fn handle_packet_of_node(&mut self, now: Instant, relayed: &Relayed<'_>, out: &mut impl Outbound) {
        let &Relayed { channel, epoch, packet } = relayed;
        // A channel that nobody listens to any more is not kept for the sake of what was still on its way.
        let Some(&key) = self.channel_by_id.get(channel) else { return };
        if rtp::Packet::parse(packet).is_none() {
            return;
        }
        if self.adopt_newer(now, key, epoch) {
            self.events.push_back(Event::NewerEpoch(self.channels[key].id.clone(), epoch));
        }
        let channel = &self.channels[key];
        if channel.epoch != epoch {
            self.counters.stale_epoch += 1;
            return;
        }
        if channel.peers != 0 {
            out.relay(channel.peers, &channel.id, epoch, packet);
        }
        self.fan_out(now, key, packet, out);
    }
}
