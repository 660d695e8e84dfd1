//! Whole connections: moved to another gateway, closed, or left behind by a gateway that is gone.

use std::collections::HashSet;
use std::time::Instant;

use super::{Engine, Outbound};
use crate::channel::TransportKey;
use crate::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId, TransportId};
use crate::transport::Direction;

/// What a connection has here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Its transports.
    pub transports: Vec<(TransportId, Direction)>,
    /// Its producers, and where they speak.
    pub producers: Vec<(ProducerId, ChannelId)>,
    /// Its consumers, and what they hear.
    pub consumers: Vec<(ConsumerId, ChannelId)>,
}

impl Engine {
    /// Makes a connection this gateway's: it is told what happens to the transports, and to the floors that the connection
    /// holds. Answers what the connection has; `None`: no transport in this engine. Every engine of the node is asked, for
    /// each of them knows the floor; one at most has the connection.
    pub fn adopt_connection(&mut self, connection: &ConnectionId, gateway: GatewayId) -> Option<Adopted> {
        for channel in self.channels.values_mut() {
            if let Some(holder) = channel.holder_mut().filter(|holder| holder.connection == *connection) {
                holder.gateway = gateway.clone();
            }
        }
        let mut adopted = Adopted::default();
        for key in self.transports_by_connection.get(connection)? {
            let transport = &mut self.transports[*key];
            transport.gateway = gateway.clone();
            adopted.transports.push((transport.id.clone(), transport.direction));
            adopted.producers.extend(transport.producers.iter().map(|key| {
                let producer = &self.producers[*key];
                (producer.id.clone(), self.channels[producer.channel].id.clone())
            }));
            adopted.consumers.extend(transport.consumers.iter().map(|(channel, key)| {
                let channel = &self.channels[*channel];
                (channel.consumers[*key].id.clone(), channel.id.clone())
            }));
        }
        Some(adopted)
    }

    /// Whether a connection has a transport here.
    pub fn has_connection(&self, connection: &ConnectionId) -> bool {
        self.transports_by_connection.contains_key(connection)
    }

    /// Closes what a connection has on one channel, or everything. With a gateway: only what is that gateway's still, so
    /// that one whose client has gone on elsewhere cannot cut it. Gates are closed by [`Self::close_floor`].
    pub fn close_connection(
        &mut self,
        now: Instant,
        connection: &ConnectionId,
        channel: Option<&ChannelId>,
        gateway: Option<&GatewayId>,
        out: &mut impl Outbound,
    ) {
        let Some(channel) = channel else {
            for key in self.transports_by_connection.get(connection).cloned().unwrap_or_default() {
                if self.is_of(key, gateway) {
                    self.close(now, key, out);
                }
            }
            return;
        };
        let Some(&key) = self.channel_by_id.get(channel) else { return };
        if let Some(&producer) = self.channels[key].producer_by_connection.get(connection)
            && self.is_of(self.producers[producer].transport, gateway)
        {
            self.remove_producer(now, producer, true);
        }
        if let Some(&consumer) = self.channels[key].consumer_by_connection.get(connection)
            && self.is_of(self.channels[key].consumers[consumer].transport, gateway)
        {
            self.remove_consumer(now, key, consumer);
        }
    }

    /// Closes everything of the connections that are a gateway's, and the gates that are. Answers how many connections
    /// that were.
    pub fn close_gateway(&mut self, now: Instant, gateway: &GatewayId, out: &mut impl Outbound) -> usize {
        self.close_gates_of(now, gateway);
        let of_gateway = self.transports.iter().filter(|(_, transport)| transport.gateway == *gateway);
        let keys: Vec<TransportKey> = of_gateway.map(|(key, _)| key).collect();
        let connections: HashSet<ConnectionId> =
            keys.iter().map(|key| self.transports[*key].connection.clone()).collect();
        for key in keys {
            self.close(now, key, out);
        }
        connections.len()
    }

    fn is_of(&self, key: TransportKey, gateway: Option<&GatewayId>) -> bool {
        gateway.is_none_or(|gateway| self.transports[key].gateway == *gateway)
    }
}
