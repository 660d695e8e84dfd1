//! A channel as one engine sees it: who may speak, whose packets may enter, and who hears them.

use std::collections::HashMap;
use std::time::Instant;

use slotmap::{SlotMap, new_key_type};

use crate::floor_output::FloorOutput;
use crate::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId};
use crate::reception::Reception;
use crate::relay;
use crate::rtp::ExtensionIds;

new_key_type! {
    /// A channel of one engine.
    pub struct ChannelKey;
    /// A producer of one engine.
    pub struct ProducerKey;
    /// A consumer of one channel.
    pub struct ConsumerKey;
    /// A transport of one engine.
    pub struct TransportKey;
    /// A node to which one engine relays.
    pub struct RelaySlot;
}

/// See the module.
#[derive(Debug)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// The highest epoch seen: a lower one is refused.
    pub epoch: u64,
    /// What is known of the floor under that epoch.
    pub floor: Floor,
    /// What listeners of this engine hear.
    pub output: FloorOutput,
    /// Listeners, dense, because every packet walks over them.
    pub consumers: SlotMap<ConsumerKey, Consumer>,
    /// One consumer for each connection.
    pub consumer_by_connection: HashMap<ConnectionId, ConsumerKey>,
    /// One producer for each connection.
    pub producer_by_connection: HashMap<ConnectionId, ProducerKey>,
    /// Other engines of this node that have listeners, a bit each.
    pub peers: u64,
    /// Other nodes that have listeners.
    pub relays: Vec<RelaySlot>,
    /// Listeners who are still hearing what was said before they came.
    pub late: Vec<Late>,
    /// A timer for them is in the table.
    pub replaying: bool,
    /// Whose consumer has gone in the first moments of this talk, and the index of what they have not been sent of it. So
    /// whoever consumes anew hears nothing twice.
    pub heard: HashMap<ConnectionId, u64>,
    /// A number drawn from its id, the same on every node.
    pub hash: u64,
    /// When its epoch may be forgotten, if it has become empty.
    pub retire_at: Option<Instant>,
    /// Packets have been sent to listeners since the last round of reports.
    pub active: bool,
}

/// What one engine knows of a channel's floor under the channel's epoch.
#[derive(Debug)]
pub enum Floor {
    /// Only the epoch: nobody has spoken yet, or somebody speaks at another node.
    Unknown,
    /// The gate is open for this holder, until its end.
    Held(Holder),
    /// The end of this holder's gate came. It can be opened anew for the same connection.
    Expired(Holder),
    /// A gateway has closed it. It is never opened again under this epoch.
    Ended,
}

/// The holder of a channel's floor.
#[derive(Debug)]
pub struct Holder {
    /// Who may speak.
    pub connection: ConnectionId,
    /// Who is told about the talk's media.
    pub gateway: GatewayId,
    /// When the gate closes by itself.
    pub valid_until: Instant,
    /// When the talk's newest packet passed the gate here; `None`: none did.
    pub last_packet: Option<Instant>,
}

impl Channel {
    /// An empty channel.
    pub fn new(id: ChannelId, first_timestamp: u32) -> Self {
        Self {
            hash: relay::hash(id.as_str()),
            id,
            epoch: 0,
            floor: Floor::Unknown,
            output: FloorOutput::new(first_timestamp),
            consumers: SlotMap::with_key(),
            consumer_by_connection: HashMap::new(),
            producer_by_connection: HashMap::new(),
            peers: 0,
            relays: Vec::new(),
            late: Vec::new(),
            replaying: false,
            heard: HashMap::new(),
            retire_at: None,
            active: false,
        }
    }

    /// Whose gate is open. The gate's end may have come, if its timer has not been handled yet.
    pub fn holder(&self) -> Option<&Holder> {
        match &self.floor {
            Floor::Held(holder) => Some(holder),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn holder_mut(&mut self) -> Option<&mut Holder> {
        match &mut self.floor {
            Floor::Held(holder) => Some(holder),
            _ => None,
        }
    }

    /// Until when this connection may speak.
    pub fn open_until(&self, connection: &ConnectionId) -> Option<Instant> {
        self.holder().filter(|holder| holder.connection == *connection).map(|holder| holder.valid_until)
    }

    /// Whether nothing but the epoch would be lost with it.
    pub fn is_empty(&self) -> bool {
        self.holder().is_none()
            && self.consumers.is_empty()
            && self.producer_by_connection.is_empty()
            && self.peers == 0
            && self.relays.is_empty()
    }
}

/// A listener who came after a talk had begun.
#[derive(Debug)]
pub struct Late {
    /// Who; it knows what it has heard.
    pub consumer: ConsumerKey,
    /// When its client is expected to be able to hear.
    pub start: Instant,
    /// Nothing is sent until then because its client is expected to consume anew, for this talk.
    pub held: bool,
    /// When it hears what the others hear in any case.
    pub give_up: Instant,
}

/// A listener's stream.
#[derive(Debug)]
pub struct Consumer {
    /// Its id.
    pub id: ConsumerId,
    /// Whose it is.
    pub connection: ConnectionId,
    /// Over which it is sent.
    pub transport: TransportKey,
    /// Heard only while this connection holds the floor; `None`: the floor output.
    pub member: Option<ConnectionId>,
    /// Its synchronization source.
    pub ssrc: u32,
    /// The payload type that its client expects.
    pub payload_type: u8,
    /// Stopped by its client.
    pub paused: bool,
    /// Its client consumes anew when a talk begins.
    pub renewed: bool,
    /// The index of its next packet; starts below 2^15, so that the receiver cannot guess its rollover counter wrong.
    pub next_index: u64,
    /// Index in the floor output minus index here; `None`: to be set by the next packet, so that a pause leaves no gap.
    pub offset: Option<u64>,
    /// The first index sent under this offset; what comes late from before it is dropped.
    pub first_index: u64,
    /// When its client is expected to be able to hear.
    pub ready_at: Instant,
    /// The index in the floor output of what it is sent next, while it is late; see [`Late`].
    pub late: Option<u64>,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    /// Packets at the last sender report.
    pub reported_packets: u32,
}

impl Consumer {
    /// Ends its being late: what comes next follows what it has heard without a gap. Answers `false`.
    pub(crate) fn hear_from_now(&mut self) -> bool {
        (self.late, self.offset) = (None, None);
        false
    }

    /// The index in the floor output of the first packet that it has not been sent, or did not want. `None`: it has been
    /// sent none. `output_next` is the first index that is not used yet.
    pub(crate) fn heard(&self, output_next: u64) -> Option<u64> {
        if self.paused {
            return Some(output_next);
        }
        self.late.or_else(|| Some(self.next_index.wrapping_add(self.offset?)))
    }

    /// The packet's index for this listener. `None`: it came too late for it.
    pub fn index(&mut self, output_index: u64) -> Option<u64> {
        let offset = match self.offset {
            Some(offset) => offset,
            None => {
                let offset = output_index.wrapping_sub(self.next_index);
                self.offset = Some(offset);
                self.first_index = self.next_index;
                offset
            }
        };
        let index = output_index.wrapping_sub(offset);
        if (index.wrapping_sub(self.first_index) as i64) < 0 {
            return None;
        }
        self.next_index = self.next_index.max(index + 1);
        Some(index)
    }
}

/// A client's stream into a channel.
#[derive(Debug)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Whose it is.
    pub connection: ConnectionId,
    /// Where it speaks.
    pub channel: ChannelKey,
    /// Over which it comes.
    pub transport: TransportKey,
    /// Its synchronization source, once known.
    pub ssrc: Option<u32>,
    /// Its media identification (RFC 8843), if it has one.
    pub mid: Option<String>,
    /// The ids of its header extensions.
    pub extension_ids: ExtensionIds,
    /// Its format parameters, which a consumer of it is told.
    pub parameters: Vec<(String, String)>,
    /// Whether lost packets may be asked for.
    pub nack: bool,
    /// The gate: until when its connection may speak. Packets at that instant and later do not pass.
    pub open_until: Option<Instant>,
    /// The newest sequence number that was authentic.
    pub last_authentic: Option<u16>,
    /// What its client is told in receiver reports.
    pub reception: Reception,
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::Key;

    fn consumer(next_index: u64) -> Consumer {
        Consumer {
            id: "c".into(),
            connection: "x".into(),
            transport: TransportKey::null(),
            member: None,
            ssrc: 1,
            payload_type: 111,
            paused: false,
            renewed: false,
            next_index,
            offset: None,
            first_index: 0,
            ready_at: Instant::now(),
            late: None,
            packets: 0,
            octets: 0,
            reported_packets: 0,
        }
    }

    #[test]
    fn a_pause_leaves_no_gap_and_late_packets_from_before_it_are_dropped() {
        let mut consumer = consumer(300);
        assert_eq!(consumer.index(5000), Some(300));
        assert_eq!(consumer.index(5002), Some(302));
        assert_eq!(consumer.index(5001), Some(301));
        assert_eq!(consumer.index(4999), None);
        consumer.offset = None;
        assert_eq!(consumer.index(9000), Some(303));
        assert_eq!(consumer.index(8999), None);
    }
}
