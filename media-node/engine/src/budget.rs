//! Limits what one client may cause: a token bucket, kept as in the generic cell rate algorithm (ITU-T I.371), that is told the time.
//!
//! Cost model: an addition and a comparison for each use; sixteen bytes for each bucket.

use std::time::{Duration, Instant};

/// A token bucket. It starts full.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// When the bucket will be full again.
    full_at: Instant,
}

/// How fast a bucket fills, and how many tokens it holds.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Time until the next token.
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// `per_second` tokens a second, at most `burst` of them at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_nanos(1_000_000_000 / per_second as u64), burst }
    }
}

impl Budget {
    /// Returns a full bucket.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Returns whether a token is left.
    pub fn has_one(&self, now: Instant, rate: Rate) -> bool {
        self.after_one(now, rate).saturating_duration_since(now) <= rate.interval * rate.burst
    }

    /// Takes a token. Returns whether one was left.
    pub fn spend(&mut self, now: Instant, rate: Rate) -> bool {
        let has_one = self.has_one(now, rate);
        if has_one {
            self.full_at = self.after_one(now, rate);
        }
        has_one
    }

    /// When the bucket will be full if one more token is taken.
    fn after_one(&self, now: Instant, rate: Rate) -> Instant {
        self.full_at.max(now) + rate.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_then_the_rate_and_after_a_day_no_more_than_a_burst() {
        let start = Instant::now();
        let rate = Rate::new(400, 200);
        let mut budget = Budget::new(start);
        let mut spend = |now| (0..10_000).filter(|_| budget.spend(now, rate)).count();
        assert_eq!(spend(start), 200);
        assert_eq!(spend(start), 0);
        assert_eq!(spend(start + Duration::from_millis(250)), 100);
        assert_eq!(spend(start + Duration::from_secs(86_400)), 200);
    }
}
