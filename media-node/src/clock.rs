//! The node's clock, in which gateways say when a gate ends.
//!
//! It runs with the monotonic clock, so it is never set, but it starts at the wall clock's time: a gateway that has not
//! noticed yet that another process has taken a node's place then reckons with a clock that is right for that one too.

use std::time::{Duration, Instant, SystemTime};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    /// The wall clock's time at the start.
    reading: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let reading = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), reading }
    }

    /// When it was started, on both clocks.
    pub(crate) fn origin(&self) -> (Instant, SystemTime) {
        (self.start, SystemTime::UNIX_EPOCH + self.reading)
    }

    /// What it shows at an instant.
    pub(crate) fn reading(&self, at: Instant) -> Duration {
        self.reading + at.saturating_duration_since(self.start)
    }

    /// What it shows now, in milliseconds. Rounded down: a gate that is reckoned from it ends earlier rather than later.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.reading(Instant::now()).as_millis()).unwrap_or(u64::MAX)
    }

    /// When it shows this many milliseconds. What was before its start is its start: past, whatever it is compared with.
    pub(crate) fn at_ms(&self, reading_ms: u64) -> Instant {
        let since_start = Duration::from_millis(reading_ms).saturating_sub(self.reading);
        // A reading that no clock will ever show is as good as a century from now.
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        self.start + since_start.min(CENTURY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_an_instant_and_back() {
        let clock = Clock::start();
        let later = clock.start + Duration::from_secs(5);
        let shown = clock.reading(later);
        let back = clock.at_ms(shown.as_millis() as u64);
        assert!(back <= later && later - back < Duration::from_millis(1), "rounded towards an earlier end");
    }

    #[test]
    fn what_no_clock_shows_is_past_or_far_away() {
        let clock = Clock::start();
        assert_eq!(clock.at_ms(0), clock.start);
        assert!(clock.at_ms(u64::MAX) > clock.start + Duration::from_secs(1 << 31));
    }
}
