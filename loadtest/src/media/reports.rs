//! RTCP as browsers send it: a receiver report from a listener, a sender report from who talks, every few seconds.

use std::time::{Duration, Instant};

use rtc_rtcp::packet::{Packet, marshal};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;

/// Mean time between two reports of an audio stream (RFC 3550 section 6.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// Seconds between the epochs of NTP, 1900, and of Unix.
const NTP_EPOCH: u64 = 2_208_988_800;

/// When the next report is due: spread, so that members do not report in step.
pub(super) fn next(now: Instant) -> Instant {
    now + INTERVAL.mul_f64(0.5 + rand::random::<f64>())
}

/// About a stream that was heard.
pub(super) fn heard(own_ssrc: u32, ssrc: u32, last_sequence_number: u32) -> Option<Vec<u8>> {
    let report = ReceptionReport { ssrc, last_sequence_number, ..ReceptionReport::default() };
    encode(Box::new(ReceiverReport { ssrc: own_ssrc, reports: vec![report], ..ReceiverReport::default() }))
}

/// About a stream that is sent.
pub(super) fn sent(ssrc: u32, unix_ns: u64, rtp_time: u32, packet_count: u32, octet_count: u32) -> Option<Vec<u8>> {
    let (seconds, fraction) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let ntp_time = ((seconds + NTP_EPOCH) << 32) + (fraction << 32) / 1_000_000_000;
    encode(Box::new(SenderReport { ssrc, ntp_time, rtp_time, packet_count, octet_count, ..SenderReport::default() }))
}

fn encode(packet: Box<dyn Packet>) -> Option<Vec<u8>> {
    marshal(&[packet]).ok().map(|bytes| bytes.to_vec())
}
