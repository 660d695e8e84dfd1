//! The hot path: a speaker's packet through the gate, into the floor output, and out to every listener.
//!
//! Cost model: at a closed gate two look-ups and a comparison. Through an open one, once: open, normalise, place; then for each
//! listener: look up, copy, patch eight bytes, seal, queue; and for each other node that has listeners, see `relay.rs`.

use std::time::Instant;

use super::{Engine, GatewayEvent, Outbound};
use crate::budget::Rate;
use crate::channel::{Channel, ChannelKey, Consumer, Floor, ProducerKey, TransportKey};
use crate::id::ChannelId;
use crate::rtp;
use crate::srtp::Sealer;
use crate::timers::Timer;
use crate::transport::{Path, Transport};

/// At a closed gate, one packet in this many is authenticated all the same, so that the receiver's rollover counter never
/// falls behind by more than it can tell (2^15), however long somebody stays silent.
const ROLLOVER_CHECK: u16 = 1 << 12;

/// Packets of one transport through open gates: Opus makes 50 in a second, with the shortest frames 400 (RFC 6716 section 2.1.4).
/// The burst is what a network may hold back and let go at once, four seconds of an ordinary talk.
const TALK_RATE: Rate = Rate::new(400, 200);

/// Listeners whose ways are looked up together. With thousands of members each look-up misses the caches twice, which takes
/// longer than sealing; side by side the processor waits for all of them at once.
const GROUP: usize = 16;

impl Engine {
    pub(super) fn handle_rtp(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut impl Outbound) {
        let Some(header) = rtp::Packet::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let known = self.transport_by_path.get(&path).copied();
        let Some(transport_key) = known.or_else(|| self.transport_of_speaker(now, header.ssrc())) else {
            self.counters.unknown_source += 1;
            return;
        };
        let transport = &mut self.transports[transport_key];
        let Some(srtp) = &mut transport.srtp else {
            self.counters.unknown_stream += 1;
            return;
        };
        let known = transport.producer_by_ssrc.iter().find(|(ssrc, _)| *ssrc == header.ssrc());
        let key = match known {
            Some((_, key)) => *key,
            None => match find_by_mid(&self.producers, &transport.producers, &header) {
                Some(key) => key,
                None => {
                    self.counters.unknown_stream += 1;
                    return;
                }
            },
        };
        let producer = &mut self.producers[key];
        let sequence_number = header.sequence_number();
        let open = producer.open_until.is_some_and(|end| now < end);
        if !open
            && let Some(last) = producer.last_authentic
            && sequence_number.wrapping_sub(last).min(last.wrapping_sub(sequence_number)) < ROLLOVER_CHECK
        {
            self.counters.gate_closed += 1;
            return;
        }
        if srtp.open_into(datagram, header.header_len(), &mut self.opened).is_none() {
            self.counters.not_authentic += 1;
            return;
        }
        if producer.ssrc != Some(header.ssrc()) {
            producer.ssrc = Some(header.ssrc());
            transport.producer_by_ssrc.push((header.ssrc(), key));
            self.producer_by_ssrc.insert(header.ssrc(), key);
        }
        producer.last_authentic = Some(sequence_number);
        if !open {
            self.counters.gate_closed += 1;
            return;
        }
        // Only now, for what is not authentic must not spend it.
        if !transport.talk_budget.spend(now, TALK_RATE) {
            self.counters.over_budget += 1;
            return;
        }
        let Some(packet) = rtp::Packet::parse(&self.opened) else {
            self.counters.malformed += 1;
            return;
        };
        if rtp::normalise(&packet, &producer.extension_ids, &mut self.normal_form).is_none() {
            self.counters.malformed += 1;
            return;
        }
        self.counters.admitted += 1;
        let missing = producer.reception.packet(now, sequence_number, packet.timestamp());
        if !missing.is_empty() && producer.nack {
            self.counters.nacks_sent += missing.len() as u64;
            super::report::request(transport, header.ssrc(), missing, out);
        }
        let channel_key = producer.channel;
        self.note_activity(now, key, channel_key);

        let normal_form = std::mem::take(&mut self.normal_form);
        let channel = &self.channels[channel_key];
        if channel.peers != 0 {
            out.relay(channel.peers, &channel.id, channel.epoch, &normal_form);
        }
        self.relay_to_nodes(channel_key, &normal_form, out);
        self.fan_out(now, channel_key, &normal_form, out);
        self.normal_form = normal_form;
    }

    /// The transport of whoever speaks with this SSRC, for a packet from an address that has passed no check: a NAT has
    /// forgotten the client, and it does not know yet. Its packets are taken if they are authentic, so it loses none of them;
    /// it is sent nothing there before it has passed a check.
    fn transport_of_speaker(&self, now: Instant, ssrc: u32) -> Option<TransportKey> {
        let producer = &self.producers[*self.producer_by_ssrc.get(&ssrc)?];
        producer.open_until.filter(|end| now < *end).map(|_| producer.transport)
    }

    /// A packet of a talk, in normal form, from another engine of this node. It goes to this engine's listeners and no
    /// further. It has passed a gate; whatever its epoch is tells whether it is still of today: a newer one is adopted, an
    /// older one is dropped, and one that is the same is heard, even if its gate has been closed since.
    pub fn handle_relayed(
        &mut self,
        now: Instant,
        channel: &ChannelId,
        epoch: u64,
        packet: &[u8],
        out: &mut impl Outbound,
    ) {
        let Some(&key) = self.channel_by_id.get(channel) else { return };
        self.adopt_newer(now, key, epoch);
        if self.channels[key].epoch == epoch {
            self.fan_out(now, key, packet, out);
        } else {
            self.counters.stale_epoch += 1;
        }
    }

    /// Sends a packet in normal form to every listener of a channel.
    pub(super) fn fan_out(&mut self, now: Instant, key: ChannelKey, packet: &[u8], out: &mut impl Outbound) {
        if !self.channels[key].late.is_empty() {
            self.make_room(key, out);
        }
        let channel = &mut self.channels[key];
        let Channel { output, consumers, consumer_by_connection, floor, epoch, active, late, .. } = channel;
        let replay = self.config.replay;
        // What nobody hears is kept for a moment, for who comes late.
        if consumers.is_empty() && !output.is_beginning(now, *epoch, replay) {
            output.forget();
            return;
        }
        let Some(header_len) = rtp::Packet::parse(packet).map(|packet| packet.header_len()) else { return };
        let Some((output_index, _)) = output.push(now, *epoch, packet) else {
            self.counters.late += 1;
            return;
        };
        let first = output.begun(now, *epoch, replay);
        let Some(packet) = output.cached(output_index) else { return };
        let holder = match floor {
            Floor::Held(holder) => Some(&holder.connection),
            _ => None,
        };
        // Nobody hears themselves: a client that keeps its consumer would have its own voice in its ears.
        let own = holder.and_then(|holder| consumer_by_connection.get(holder)).copied();
        let transports = &self.transports;
        let mut listeners = consumers.iter_mut();
        while listeners.len() > 0 {
            let mut group = [const { None }; GROUP];
            for (place, (consumer_key, consumer)) in group.iter_mut().zip(&mut listeners) {
                let way = match transports.get(consumer.transport) {
                    Some(Transport { srtp: Some(srtp), selected: Some(path), .. }) => Some((srtp.sealer(), *path)),
                    _ => None,
                };
                *place = Some((consumer_key, consumer, way));
            }
            for (consumer_key, consumer, way) in group.into_iter().flatten() {
                let Some((sealer, path)) = way else {
                    consumer.offset = None;
                    // Its handshake is not done: it is late, if it can hear this talk at all.
                    if let Some(first) = first.filter(|_| Some(consumer_key) != own)
                        && let Some(entry) =
                            Self::late(now, replay, consumer_key, consumer, false, output_index == first)
                    {
                        consumer.late = Some(output_index);
                        late.push(entry);
                    }
                    continue;
                };
                let other_member = consumer.member.is_some() && consumer.member.as_ref() != holder;
                if consumer.paused || other_member || Some(consumer_key) == own {
                    consumer.hear_from_now();
                    continue;
                }
                if let Some(first) = first
                    && let Some(entry) = Self::late(now, replay, consumer_key, consumer, true, output_index == first)
                {
                    consumer.late = Some(output_index);
                    late.push(entry);
                }
                if consumer.late.is_some_and(|next| output_index >= next) {
                    continue; // its turn comes
                }
                let Some(index) = consumer.index(output_index) else { continue };
                let sent = consumer.send(packet, header_len, index, sealer, path, out);
                self.counters.forwarded += u64::from(sent);
            }
        }
        let late = !late.is_empty();
        if !*active {
            *active = true;
            self.active_channels.push(key);
            self.schedule_reports(now);
        }
        if late {
            self.schedule_replay(now, key);
        }
    }

    /// Sends a kept packet again to one listener, sealed to the very same bytes.
    pub(super) fn retransmit(
        &mut self,
        transport: TransportKey,
        ssrc: u32,
        sequence_number: u16,
        out: &mut impl Outbound,
    ) {
        let transport = &self.transports[transport];
        let (Some(srtp), Some(path)) = (&transport.srtp, transport.selected) else { return };
        for (channel, consumer) in &transport.consumers {
            let Channel { consumers, output, .. } = &self.channels[*channel];
            let consumer = &consumers[*consumer];
            let (true, Some(offset)) = (consumer.ssrc == ssrc, consumer.offset) else { continue };
            // The newest index with this sequence number that has been sent.
            let behind = (consumer.next_index.wrapping_sub(1) as u16).wrapping_sub(sequence_number);
            let Some(index) = consumer.next_index.checked_sub(1 + u64::from(behind)) else { continue };
            if index < consumer.first_index {
                continue;
            }
            let Some(packet) = output.cached(index.wrapping_add(offset)) else { continue };
            let Some(header_len) = rtp::Packet::parse(packet).map(|packet| packet.header_len()) else { continue };
            if seal_for(consumer, packet, header_len, index, srtp.sealer(), path, out) {
                self.counters.retransmitted += 1;
            }
        }
    }

    /// Notes that a packet has passed the gate.
    fn note_activity(&mut self, now: Instant, producer: ProducerKey, channel: ChannelKey) {
        let reception = &mut self.producers[producer].reception;
        if !reception.active {
            reception.active = true;
            self.active_producers.push(producer);
            self.schedule_reports(now);
        }
        let channel_state = &mut self.channels[channel];
        let Some(holder) = channel_state.holder_mut() else { return };
        if holder.last_packet.replace(now).is_none() {
            let (gateway, id, epoch) = (holder.gateway.clone(), channel_state.id.clone(), channel_state.epoch);
            self.timers.set(now + self.config.silence, Timer::Silence(channel, epoch));
            self.emit(&gateway, GatewayEvent::FloorMediaStarted(id, epoch));
        }
    }

    pub(super) fn check_silence(&mut self, now: Instant, key: ChannelKey, epoch: u64) {
        let Some(channel) = self.channels.get(key).filter(|channel| channel.epoch == epoch) else { return };
        let Some(last_packet) = channel.holder().and_then(|holder| holder.last_packet) else { return };
        let deadline = last_packet + self.config.silence;
        if deadline <= now {
            self.media_stopped(key);
        } else {
            self.timers.set(deadline, Timer::Silence(key, epoch));
        }
    }

    /// Tells the holder's gateway that a talk that had begun has fallen silent. Once: the next packet begins it again.
    pub(super) fn media_stopped(&mut self, key: ChannelKey) {
        let channel = &mut self.channels[key];
        let Some(holder) = channel.holder_mut() else { return };
        if holder.last_packet.take().is_some() {
            let (gateway, id, epoch) = (holder.gateway.clone(), channel.id.clone(), channel.epoch);
            self.emit(&gateway, GatewayEvent::FloorMediaStopped(id, epoch));
        }
    }
}

impl Consumer {
    /// Sends a packet of the floor output under this index, and counts it. Answers whether it fitted.
    #[inline]
    pub(super) fn send(
        &mut self,
        packet: &[u8],
        header_len: usize,
        index: u64,
        sealer: &Sealer,
        path: Path,
        out: &mut impl Outbound,
    ) -> bool {
        let sent = seal_for(self, packet, header_len, index, sealer, path, out);
        if sent {
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add((packet.len() - header_len) as u32);
        }
        sent
    }
}

/// Copies, patches, seals and queues one packet for one listener.
#[inline]
fn seal_for(
    consumer: &Consumer,
    packet: &[u8],
    header_len: usize,
    index: u64,
    sealer: &Sealer,
    path: Path,
    out: &mut impl Outbound,
) -> bool {
    let buffer = out.buffer();
    let Some(head) = buffer.get_mut(..packet.len()) else { return false };
    head.copy_from_slice(packet);
    head[1] = (head[1] & 0x80) | consumer.payload_type;
    rtp::set_sequence_number(head, index as u16);
    rtp::set_ssrc(head, consumer.ssrc);
    let Some(len) = sealer.seal(buffer, header_len, packet.len(), consumer.ssrc, index) else { return false };
    out.send(len, path);
    true
}

/// The producer whose MID the packet carries, if its SSRC is not known yet (RFC 8843 section 9.2).
fn find_by_mid(
    producers: &slotmap::SlotMap<ProducerKey, crate::channel::Producer>,
    keys: &[ProducerKey],
    packet: &rtp::Packet<'_>,
) -> Option<ProducerKey> {
    keys.iter().copied().find(|key| {
        let producer = &producers[*key];
        let (Some(mid), Some(id)) = (&producer.mid, producer.extension_ids.mid) else { return false };
        producer.ssrc.is_none() && packet.extension(id) == Some(mid.as_bytes())
    })
}
