//! Reception statistics of one producer (RFC 3550 appendix A.3 and A.8), counted only while its gate is open.

use std::time::{Duration, Instant};

use rtc_rtcp::reception_report::ReceptionReport;

/// Opus' RTP clock, Hz.
const CLOCK_RATE: f64 = 48_000.0;

/// See the module.
#[derive(Debug, Default)]
pub struct Reception {
    /// Has received packets since the last round of reports.
    pub active: bool,
    /// The gate was closed since the last packet: what was missed meanwhile is not loss.
    skipped: bool,
    /// Highest sequence number with its cycles.
    highest: Option<u32>,
    expected: u64,
    received: u64,
    reported_expected: u64,
    reported_received: u64,
    /// Timestamp units.
    jitter: f64,
    /// Arrival and timestamp of the newest packet.
    newest: Option<(Instant, u32)>,
    /// Middle bits of the last sender report's NTP time, and when it came.
    sender_report: Option<(u32, Instant)>,
}

impl Reception {
    /// The gate closes: packets until the next counted one are not missed.
    pub fn skip(&mut self) {
        self.skipped = true;
    }

    /// A packet came. Answers the sequence numbers that are missing between it and the highest before, if they are few
    /// enough to be loss.
    pub fn packet(&mut self, now: Instant, sequence_number: u16, timestamp: u32) -> std::ops::Range<u32> {
        let first = std::mem::take(&mut self.skipped);
        self.received += 1;
        let Some(highest) = self.highest else {
            self.expected += 1;
            self.highest = Some(u32::from(sequence_number));
            self.newest = Some((now, timestamp));
            return 0..0;
        };
        let ahead = sequence_number.wrapping_sub(highest as u16) as i16;
        if ahead <= 0 && !first {
            return 0..0;
        }
        let extended = highest.wrapping_add_signed(i32::from(ahead));
        self.highest = Some(extended);
        let lost = if first || ahead > 500 { 0 } else { (ahead - 1) as u32 };
        self.expected += 1 + u64::from(lost);
        if let Some((at, newest)) = self.newest.filter(|_| !first) {
            let transit = now.saturating_duration_since(at).as_secs_f64() * CLOCK_RATE
                - f64::from(timestamp.wrapping_sub(newest) as i32);
            self.jitter += (transit.abs().min(CLOCK_RATE) - self.jitter) / 16.0;
        }
        self.newest = Some((now, timestamp));
        if lost > 16 { 0..0 } else { extended.wrapping_sub(lost)..extended }
    }

    /// A sender report came.
    pub fn sender_report(&mut self, now: Instant, ntp_time: u64) {
        self.sender_report = Some(((ntp_time >> 16) as u32, now));
    }

    /// The report block, if there is something new to report.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReceptionReport> {
        let expected = self.expected - self.reported_expected;
        let received = self.received - self.reported_received;
        if received == 0 {
            return None;
        }
        self.reported_expected = self.expected;
        self.reported_received = self.received;
        let fraction = expected.saturating_sub(received) * 256 / expected.max(1);
        let (last_sender_report, delay) = match self.sender_report {
            Some((middle, at)) => (middle, ntp_short(now.saturating_duration_since(at))),
            None => (0, 0),
        };
        Some(ReceptionReport {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            total_lost: self.expected.saturating_sub(self.received).min(0x7f_ffff) as u32,
            last_sequence_number: self.highest?,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }
}

/// Units of 1/65536 s (RFC 3550 section 6.4.1).
fn ntp_short(duration: Duration) -> u32 {
    (duration.as_secs_f64() * 65_536.0).min(f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_within_a_talk_counts_and_the_closed_gate_does_not() {
        let now = Instant::now();
        let mut reception = Reception::default();
        assert!(reception.packet(now, 65_534, 0).is_empty());
        assert_eq!(reception.packet(now, 1, 2880), 65_535..65_537, "two are missing, across a wrap");
        let report = reception.report(now, 5).expect("news");
        assert_eq!((report.total_lost, report.fraction_lost, report.last_sequence_number), (2, 128, 65_537));
        reception.skip();
        assert!(reception.packet(now, 300, 9000).is_empty(), "a new talk");
        let report = reception.report(now, 5).expect("news");
        assert_eq!((report.total_lost, report.fraction_lost, report.last_sequence_number), (2, 0, 65_836));
        assert!(reception.report(now, 5).is_none(), "nothing new");
    }

    #[test]
    fn a_large_jump_is_not_loss_that_could_be_asked_for() {
        let now = Instant::now();
        let mut reception = Reception::default();
        reception.packet(now, 1, 0);
        assert!(reception.packet(now, 100, 0).is_empty());
    }
}
