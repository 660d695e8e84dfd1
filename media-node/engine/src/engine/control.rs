//! What gateways ask for: transports, producers, consumers. Each checks that what it names belongs to the connection
//! that it names, and repeating each is harmless. Floors are in `floor.rs`, whole connections in `connection.rs`.

use std::time::Instant;

use rand::RngExt;

use super::{Engine, Error, Event, Outbound, replay};
use crate::channel::{ChannelKey, Consumer, ConsumerKey, Producer, ProducerKey, TransportKey};
use crate::dtls::{Fingerprint, Role};
use crate::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId, TransportId};
use crate::reception::Reception;
use crate::rtp::ExtensionIds;
use crate::stun::new_credentials;
use crate::transport::{Direction, Transport};

/// What a client must know to reach a new transport. The addresses are the node's business.
#[derive(Debug, Clone)]
pub struct TransportParameters {
    /// Its id.
    pub id: TransportId,
    /// ICE username fragment.
    pub ufrag: String,
    /// ICE password.
    pub password: String,
}

/// For whom to open a transport.
#[derive(Debug, Clone)]
pub struct NewTransport {
    /// Who is told what happens to it.
    pub gateway: GatewayId,
    /// Whose it is.
    pub connection: ConnectionId,
    /// Which way its streams go. Only remembered, for whoever adopts the connection.
    pub direction: Direction,
}

/// A stream that a client is going to send.
#[derive(Debug, Clone)]
pub struct NewProducer {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Over which it comes.
    pub transport: TransportId,
    /// Where it speaks.
    pub channel: ChannelId,
    /// Its MID, if any.
    pub mid: Option<String>,
    /// Its SSRC, if known.
    pub ssrc: Option<u32>,
    /// The ids of its header extensions.
    pub extension_ids: ExtensionIds,
    /// Its format parameters.
    pub parameters: Vec<(String, String)>,
    /// Whether it answers negative acknowledgements.
    pub nack: bool,
}

/// A stream that a client wants to receive.
#[derive(Debug, Clone)]
pub struct NewConsumer {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Over which to send it.
    pub transport: TransportId,
    /// What to hear.
    pub channel: ChannelId,
    /// One member's own stream; `None`: the floor output.
    pub member: Option<ConnectionId>,
    /// The payload type under which the client expects Opus.
    pub payload_type: u8,
    /// The client keeps it for the talks to come. One that does not is expected to consume anew when it hears of a talk.
    pub kept: bool,
}

/// A producer as others see it.
#[derive(Debug, Clone)]
pub struct ProducerParameters {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Where it speaks.
    pub channel: ChannelId,
    /// Its format parameters.
    pub parameters: Vec<(String, String)>,
}

/// What will arrive at the client.
#[derive(Debug, Clone)]
pub struct ConsumerParameters {
    /// The consumer's id.
    pub id: ConsumerId,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its MID: counts per transport.
    pub mid: u32,
}

impl Engine {
    /// Opens a transport.
    pub fn create_transport(&mut self, now: Instant, new: NewTransport) -> Result<TransportParameters, Error> {
        if self.transports.len() >= self.config.transports {
            return Err(Error::Exhausted("transports on this node"));
        }
        let of_connection = self.transports_by_connection.entry(new.connection.clone()).or_default();
        if of_connection.len() >= self.config.transports_per_connection {
            return Err(Error::Exhausted("transports of this connection"));
        }
        let id = TransportId::from(format!("{:032x}", self.rng.random::<u128>()));
        let ice = new_credentials(&mut self.rng, self.config.index);
        let transport = Transport::new(
            id.clone(),
            (new.connection, new.gateway, new.direction),
            ice.clone(),
            self.rng.random(),
            now,
        );
        let key = self.transports.insert(transport);
        of_connection.push(key);
        self.transport_by_ufrag.insert(ice.ufrag.clone(), key);
        self.transport_by_id.insert(id.clone(), key);
        Ok(TransportParameters { id, ufrag: ice.ufrag, password: ice.password })
    }

    /// Gives a transport new ICE credentials (RFC 8445 section 2.4): its client has moved, and looks for a way again. What
    /// flows goes on flowing: the ones before are good until a check comes with the new ones. Repeated because the answer was
    /// lost, it keeps those that the client has.
    pub fn restart_ice(&mut self, connection: &ConnectionId, id: &TransportId) -> Result<TransportParameters, Error> {
        let key = self.transport(connection, id)?;
        let ice = new_credentials(&mut self.rng, self.config.index);
        let transport = &mut self.transports[key];
        let replaced = std::mem::replace(&mut transport.ice, ice.clone());
        if transport.ice_before.is_none() {
            transport.ice_before = Some(replaced);
        } else {
            self.transport_by_ufrag.remove(&replaced.ufrag);
        }
        self.transport_by_ufrag.insert(ice.ufrag.clone(), key);
        Ok(TransportParameters { id: id.clone(), ufrag: ice.ufrag, password: ice.password })
    }

    /// Delivers the client's DTLS role and fingerprints.
    pub fn connect_transport(
        &mut self,
        now: Instant,
        connection: &ConnectionId,
        id: &TransportId,
        client_role: Role,
        fingerprints: Vec<Fingerprint>,
        out: &mut impl Outbound,
    ) -> Result<(), Error> {
        let key = self.transport(connection, id)?;
        if fingerprints.is_empty() || !fingerprints.iter().any(Fingerprint::is_well_formed) {
            return Err(Error::Invalid("no fingerprint of a supported algorithm"));
        }
        let transport = &mut self.transports[key];
        if let Some(known) = &transport.remote {
            let same = *known == (client_role, fingerprints);
            return if same {
                Ok(())
            } else {
                Err(Error::Conflict("the transport is connected with other parameters"))
            };
        }
        if client_role == Role::Server && transport.association.is_some() {
            return Err(Error::Conflict("the client has begun the handshake itself"));
        }
        let event =
            transport.association.as_mut().and_then(|association| association.expect_fingerprints(&fingerprints));
        transport.remote = Some((client_role, fingerprints));
        self.after_dtls(now, key, event);
        if self.transports.contains_key(key) {
            self.start_handshake(now, key, out);
        }
        Ok(())
    }

    /// Declares a producer.
    pub fn produce(&mut self, now: Instant, new: NewProducer) -> Result<ProducerId, Error> {
        let transport_key = self.transport(&new.connection, &new.transport)?;
        if new.ssrc.is_none() && (new.mid.is_none() || new.extension_ids.mid.is_none()) {
            return Err(Error::Invalid("a producer needs an SSRC, or a MID and its header extension"));
        }
        let channel_key = self.channel(&new.channel);
        let mut replaced: Vec<ProducerKey> =
            self.channels[channel_key].producer_by_connection.get(&new.connection).copied().into_iter().collect();
        replaced.extend(self.transports[transport_key].producers.iter().copied().filter(|key| {
            let producer = &self.producers[*key];
            (new.ssrc.is_some() && producer.ssrc == new.ssrc) || (new.mid.is_some() && producer.mid == new.mid)
        }));
        for key in replaced {
            // The channel's talk goes on if it is the same speaker's: a replacement is not silence.
            self.remove_producer(now, key, self.producers.get(key).is_none_or(|old| old.channel != channel_key));
        }
        let id = ProducerId::from(self.random_id());
        let open_until = self.channels[channel_key].open_until(&new.connection);
        let key = self.producers.insert(Producer {
            id: id.clone(),
            connection: new.connection.clone(),
            channel: channel_key,
            transport: transport_key,
            ssrc: new.ssrc,
            mid: new.mid,
            extension_ids: new.extension_ids,
            parameters: new.parameters,
            nack: new.nack,
            open_until,
            last_authentic: None,
            reception: Reception::default(),
        });
        self.producer_by_id.insert(id.clone(), key);
        self.channels[channel_key].producer_by_connection.insert(new.connection, key);
        let transport = &mut self.transports[transport_key];
        transport.producers.push(key);
        transport.producer_by_ssrc.extend(new.ssrc.map(|ssrc| (ssrc, key)));
        self.producer_by_ssrc.extend(new.ssrc.map(|ssrc| (ssrc, key)));
        Ok(id)
    }

    /// What a consumer of one of this engine's producers must know.
    pub fn producer(&self, id: &ProducerId) -> Option<ProducerParameters> {
        let producer = &self.producers[*self.producer_by_id.get(id)?];
        Some(ProducerParameters {
            connection: producer.connection.clone(),
            channel: self.channels[producer.channel].id.clone(),
            parameters: producer.parameters.clone(),
        })
    }

    /// Starts to send a channel's floor output, or one member's stream.
    pub fn consume(&mut self, now: Instant, new: NewConsumer) -> Result<ConsumerParameters, Error> {
        let transport_key = self.transport(&new.connection, &new.transport)?;
        let channel_key = self.channel(&new.channel);
        let (mut owed, mut renewed) = (None, false);
        if let Some(&key) = self.channels[channel_key].consumer_by_connection.get(&new.connection) {
            let old = &self.channels[channel_key].consumers[key];
            (owed, renewed) = (old.late, old.renewed && !new.kept);
            self.remove_consumer(now, channel_key, key);
        }
        let id = ConsumerId::from(self.random_id());
        let transport = &mut self.transports[transport_key];
        let mid = transport.next_mid;
        transport.next_mid += 1;
        let ssrc = loop {
            let ssrc: u32 = self.rng.random();
            let channels = &self.channels;
            let taken =
                |(channel, consumer): &(ChannelKey, ConsumerKey)| channels[*channel].consumers[*consumer].ssrc == ssrc;
            if ssrc != 0 && ssrc != transport.rtcp_ssrc && !transport.consumers.iter().any(taken) {
                break ssrc;
            }
        };
        let channel = &mut self.channels[channel_key];
        let key = channel.consumers.insert(Consumer {
            id: id.clone(),
            connection: new.connection.clone(),
            transport: transport_key,
            member: new.member,
            ssrc,
            payload_type: new.payload_type & 0x7f,
            paused: false,
            renewed,
            next_index: self.rng.random_range(1..1 << 15),
            offset: None,
            first_index: 0,
            ready_at: now + replay::NEGOTIATION,
            late: None,
            packets: 0,
            octets: 0,
            reported_packets: 0,
        });
        channel.consumer_by_connection.insert(new.connection, key);
        if channel.consumers.len() == 1 {
            self.events.push_back(Event::Listening(new.channel, true));
        }
        transport.consumers.push((channel_key, key));
        self.consumer_by_id.insert(id.clone(), (channel_key, key));
        self.catch_up(now, channel_key, key, new.kept, owed);
        Ok(ConsumerParameters { id, ssrc, mid })
    }

    /// Stops or starts a consumer's packets.
    pub fn pause_consumer(
        &mut self,
        now: Instant,
        connection: &ConnectionId,
        id: &ConsumerId,
        paused: bool,
    ) -> Result<(), Error> {
        let &(channel_key, key) = self.consumer_by_id.get(id).ok_or(Error::NotFound("consumer"))?;
        let consumer = &mut self.channels[channel_key].consumers[key];
        if consumer.connection != *connection {
            return Err(Error::NotFound("consumer"));
        }
        if consumer.paused || paused {
            consumer.paused = true; // what it does not want to hear, until now, is not kept for it
            self.remember_heard(now, channel_key, key);
            let consumer = &mut self.channels[channel_key].consumers[key];
            consumer.hear_from_now();
            consumer.paused = paused;
        }
        Ok(())
    }

    /// Closes a transport and all that it carries.
    pub fn close_transport(
        &mut self,
        now: Instant,
        connection: &ConnectionId,
        id: &TransportId,
        out: &mut impl Outbound,
    ) {
        if let Ok(key) = self.transport(connection, id) {
            self.close(now, key, out);
        }
    }

    /// Closes a producer.
    pub fn close_producer(&mut self, now: Instant, connection: &ConnectionId, id: &ProducerId) {
        if let Some(&key) = self.producer_by_id.get(id)
            && self.producers[key].connection == *connection
        {
            self.remove_producer(now, key, true);
        }
    }

    /// Closes a consumer.
    pub fn close_consumer(&mut self, now: Instant, connection: &ConnectionId, id: &ConsumerId) {
        if let Some(&(channel, key)) = self.consumer_by_id.get(id)
            && self.channels[channel].consumers[key].connection == *connection
        {
            self.remove_consumer(now, channel, key);
        }
    }

    fn transport(&self, connection: &ConnectionId, id: &TransportId) -> Result<TransportKey, Error> {
        let key = self.transport_by_id.get(id).copied();
        key.filter(|key| self.transports[*key].connection == *connection).ok_or(Error::NotFound("transport"))
    }

    pub(super) fn close(&mut self, now: Instant, key: TransportKey, out: &mut impl Outbound) {
        self.counters.closed_requested += u64::from(self.transports.contains_key(key));
        if let Some(mut transport) = self.remove_transport(now, key)
            && let Some(path) = transport.selected
        {
            match &mut transport.association {
                Some(association) => association.close(now, &mut |bytes| super::ice::send(out, bytes, path)),
                None if transport.goodbye.is_empty() => {}
                None => super::ice::send(out, &transport.goodbye, path),
            }
        }
    }

    /// Takes a transport out of every table.
    pub(super) fn remove_transport(&mut self, now: Instant, key: TransportKey) -> Option<Transport> {
        let transport = self.transports.get(key)?;
        for producer in transport.producers.clone() {
            self.remove_producer(now, producer, true);
        }
        for (channel, consumer) in self.transports[key].consumers.clone() {
            self.remove_consumer(now, channel, consumer);
        }
        let transport = self.transports.remove(key)?;
        self.counters.connected_now -= u64::from(transport.srtp.is_some());
        self.transport_by_id.remove(&transport.id);
        for ice in std::iter::once(&transport.ice).chain(&transport.ice_before) {
            self.transport_by_ufrag.remove(&ice.ufrag);
        }
        for path in &transport.paths {
            self.forget_path(*path, key);
        }
        if let Some(of_connection) = self.transports_by_connection.get_mut(&transport.connection) {
            of_connection.retain(|other| *other != key);
            if of_connection.is_empty() {
                self.transports_by_connection.remove(&transport.connection);
            }
        }
        Some(transport)
    }

    /// `silences`: whether the talk that comes from it, if one does, has thereby fallen silent.
    pub(super) fn remove_producer(&mut self, now: Instant, key: ProducerKey, silences: bool) {
        let Some(producer) = self.producers.remove(key) else { return };
        self.producer_by_id.remove(&producer.id);
        let transport = &mut self.transports[producer.transport];
        transport.producers.retain(|other| *other != key);
        for (ssrc, _) in transport.producer_by_ssrc.extract_if(.., |(_, other)| *other == key) {
            if let Some(srtp) = &mut transport.srtp {
                srtp.retire(ssrc);
            }
            if self.producer_by_ssrc.get(&ssrc) == Some(&key) {
                self.producer_by_ssrc.remove(&ssrc);
            }
        }
        if producer.open_until.is_some() && silences {
            self.media_stopped(producer.channel);
        }
        let channel = &mut self.channels[producer.channel];
        if channel.producer_by_connection.get(&producer.connection) == Some(&key) {
            channel.producer_by_connection.remove(&producer.connection);
        }
        self.retire_if_empty(now, producer.channel);
    }

    pub(super) fn remove_consumer(&mut self, now: Instant, channel_key: ChannelKey, key: ConsumerKey) {
        self.remember_heard(now, channel_key, key);
        let channel = &mut self.channels[channel_key];
        let Some(consumer) = channel.consumers.remove(key) else { return };
        self.consumer_by_id.remove(&consumer.id);
        if channel.consumer_by_connection.get(&consumer.connection) == Some(&key) {
            channel.consumer_by_connection.remove(&consumer.connection);
        }
        if channel.consumers.is_empty() {
            self.events.push_back(Event::Listening(channel.id.clone(), false));
        }
        self.transports[consumer.transport].consumers.retain(|other| *other != (channel_key, key));
        self.retire_if_empty(now, channel_key);
    }
}
