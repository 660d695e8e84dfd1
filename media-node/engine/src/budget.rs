//! What one client may cause in a second: a token bucket that is filled by the clock it is given.
//!
//! Cost model: an addition and a comparison for each packet; sixteen bytes for each bucket.

use std::time::{Duration, Instant};

/// See the module. It is full when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Before this time nothing is owed any more: what has been spent, as the time that it takes to earn it back.
    paid_at: Instant,
}

/// How fast a budget fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// To earn back one.
    each: Duration,
    /// Can be spent at once.
    burst: u32,
}

impl Rate {
    /// `per_second` for ever, and `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { each: Duration::from_nanos(1_000_000_000 / per_second as u64), burst }
    }
}

impl Budget {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// Spends one, if there is one left.
    pub fn spend(&mut self, now: Instant, rate: Rate) -> bool {
        let paid_at = self.paid_at.max(now) + rate.each;
        let left = paid_at.saturating_duration_since(now) <= rate.each * rate.burst;
        if left {
            self.paid_at = paid_at;
        }
        left
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
