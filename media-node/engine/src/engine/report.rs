//! RTCP (RFC 3550 section 6, RFC 4585): sender reports to listeners, receiver reports and negative acknowledgements to
//! speakers, and what either of them says to us. Rounds happen once a second and only while somebody talks.

use std::ops::Range;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rtc_rtcp::header::PacketType;
use rtc_rtcp::packet::{Packet, marshal, unmarshal};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::ice::send;
use super::{Engine, Outbound};
use crate::budget::Rate;
use crate::timers::Timer;
use crate::transport::{Path, Transport};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);

/// A listener is sent a report in one round of this many, so that a large channel's reports are spread out.
const ROUNDS_PER_SENDER_REPORT: u32 = 5;

/// RTCP datagrams of one transport that are looked at. A browser sends a few in a second for each stream.
const RTCP_RATE: Rate = Rate::new(200, 400);

/// Packets that one transport is sent again: a tenth lost of 20 talks at once, each asked for twice.
const RETRANSMISSION_RATE: Rate = Rate::new(200, 200);

/// The format of a generic NACK (RFC 4585 section 6.2.1).
const NACK: u8 = 1;

/// Seconds between the epochs of NTP and Unix (RFC 5905 section 6).
const NTP_OFFSET: u64 = 2_208_988_800;

impl Engine {
    pub(super) fn handle_rtcp(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut impl Outbound) {
        let Some(&key) = self.transport_by_path.get(&path) else { return };
        let transport = &mut self.transports[key];
        if !transport.rtcp_budget.has_one(now, RTCP_RATE) {
            self.counters.over_budget += 1;
            return;
        }
        let Some(plain) = transport.srtp.as_mut().and_then(|srtp| srtp.open_rtcp(datagram)) else { return };
        // Only authentic reports spend it: nobody else can use it up by forging the client's address.
        transport.rtcp_budget.spend(now, RTCP_RATE);
        for packet in used(&plain).filter_map(|mut packet| unmarshal(&mut packet).ok()).flatten() {
            if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                if let Some(producer) = self.transports[key].producer(report.ssrc) {
                    self.producers[producer].reception.sender_report(now, report.ntp_time);
                }
            } else if let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() {
                for pair in &nack.nacks {
                    for sequence_number in pair.packet_list() {
                        self.counters.nacks_received += 1;
                        if !self.transports[key].retransmission_budget.spend(now, RETRANSMISSION_RATE) {
                            self.counters.over_budget += 1;
                            return;
                        }
                        self.retransmit(key, nack.media_ssrc, sequence_number, out);
                    }
                }
            }
        }
    }

    pub(super) fn schedule_reports(&mut self, now: Instant) {
        if !self.reports_scheduled {
            self.reports_scheduled = true;
            self.timers.set(now + ROUND, Timer::Reports);
        }
    }

    pub(super) fn send_reports(&mut self, now: Instant, out: &mut impl Outbound) {
        self.reports_scheduled = false;
        self.report_round = self.report_round.wrapping_add(1);
        self.send_sender_reports(now, out);
        self.send_receiver_reports(now, out);
        if !self.active_channels.is_empty() || !self.active_producers.is_empty() {
            self.schedule_reports(now);
        }
    }

    fn send_sender_reports(&mut self, now: Instant, out: &mut impl Outbound) {
        let ntp_time = self.ntp_time(now);
        let (round, transports) = (self.report_round, &mut self.transports);
        let channels = &mut self.channels;
        self.active_channels.retain(|key| {
            let Some(channel) = channels.get_mut(*key) else { return false };
            let Some(rtp_time) = channel.output.timestamp_at(now) else { return false };
            let mut unreported = false;
            for consumer in channel.consumers.values_mut() {
                if consumer.packets == consumer.reported_packets {
                    continue;
                }
                if !consumer.ssrc.wrapping_add(round).is_multiple_of(ROUNDS_PER_SENDER_REPORT) {
                    unreported = true;
                    continue;
                }
                consumer.reported_packets = consumer.packets;
                let report = SenderReport {
                    ssrc: consumer.ssrc,
                    ntp_time,
                    rtp_time,
                    packet_count: consumer.packets,
                    octet_count: consumer.octets,
                    ..Default::default()
                };
                if let Some(transport) = transports.get_mut(consumer.transport) {
                    send_rtcp(transport, Box::new(report), out);
                }
            }
            channel.active = unreported;
            unreported
        });
    }

    fn send_receiver_reports(&mut self, now: Instant, out: &mut impl Outbound) {
        let (producers, transports) = (&mut self.producers, &mut self.transports);
        for key in self.active_producers.drain(..) {
            let Some(producer) = producers.get_mut(key) else { continue };
            producer.reception.active = false;
            let Some(transport) = transports.get_mut(producer.transport) else { continue };
            let Some(report) = producer.ssrc.and_then(|ssrc| producer.reception.report(now, ssrc)) else { continue };
            let report = ReceiverReport { ssrc: transport.rtcp_ssrc, reports: vec![report], ..Default::default() };
            send_rtcp(transport, Box::new(report), out);
        }
    }

    /// 32.32 fixed-point seconds since 1900 (RFC 3550 section 4).
    fn ntp_time(&self, now: Instant) -> u64 {
        let (instant, wall) = self.config.epoch;
        let unix = wall.duration_since(UNIX_EPOCH).unwrap_or_default() + now.saturating_duration_since(instant);
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        (unix.as_secs() + NTP_OFFSET) << 32 | fraction
    }
}

/// The packets of a compound that we have a use for, each by itself. The others are not even parsed: a few bytes of transport-wide
/// feedback, which we do not ask for, can stand for 65,535 packets, and the library makes a list of them.
fn used(mut compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (first, kind) = (*compound.first()?, *compound.get(1)?);
        let words = u16::from_be_bytes(*compound.get(2..)?.first_chunk()?);
        let (packet, rest) = compound.split_at_checked(4 * (usize::from(words) + 1))?;
        compound = rest;
        Some((first & 0x1f, kind, packet))
    })
    .filter(|(format, kind, _)| match PacketType::from(*kind) {
        PacketType::SenderReport => true,
        PacketType::TransportSpecificFeedback => *format == NACK,
        _ => false,
    })
    .map(|(_, _, packet)| packet)
}

/// Asks a speaker for packets that are missing (RFC 4585 section 6.2.1).
pub(super) fn request(transport: &mut Transport, media_ssrc: u32, missing: Range<u32>, out: &mut impl Outbound) {
    let missing: Vec<u16> = missing.map(|sequence_number| sequence_number as u16).collect();
    let nacks = nack_pairs_from_sequence_numbers(&missing);
    let nack = TransportLayerNack { sender_ssrc: transport.rtcp_ssrc, media_ssrc, nacks };
    send_rtcp(transport, Box::new(nack), out);
}

fn send_rtcp(transport: &mut Transport, packet: Box<dyn Packet>, out: &mut impl Outbound) {
    debug_assert_ne!(packet.header().packet_type, PacketType::Unsupported);
    let (Some(srtp), Some(path)) = (&mut transport.srtp, transport.selected) else { return };
    let Ok(plain) = marshal(&[packet]) else { return };
    if let Some(sealed) = srtp.seal_rtcp(&plain) {
        send(out, &sealed, path);
    }
}

#[cfg(test)]
mod tests {
    use super::used;

    /// 40 bytes that stand for 65,535 packets (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    fn transport_wide_feedback() -> Vec<u8> {
        let mut packet = vec![0x80 | 15, 205, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        packet.extend([0x3f, 0xff].repeat(8)); // runs of 8191 small deltas, which are missing
        packet.resize(40, 0);
        packet
    }

    #[test]
    fn only_sender_reports_and_nacks_are_parsed_wherever_they_stand() {
        let nack = vec![0x80 | 1, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0];
        let report = [vec![0x80, 200, 0, 6], vec![0; 24]].concat();
        let receiver_report = [0x80_u8, 201, 0, 1, 0, 0, 0, 1];
        let compound =
            [&receiver_report[..], &transport_wide_feedback(), &nack, &report, &transport_wide_feedback()].concat();
        assert_eq!(used(&compound).collect::<Vec<_>>(), [&nack[..], &report[..]]);
        for len in 0..compound.len() {
            assert!(used(&compound[..len]).count() <= 2, "cut at {len}");
        }
    }
}
