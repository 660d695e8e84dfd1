//! The clock of a node, read from afar.
//!
//! A gate closes by itself at a time of the node's own clock. A gateway knows that clock only from what the node has said
//! a moment ago, so what it computes is never later than what it means: a message that was long on its way makes a gate
//! close earlier, never later.

use std::time::Duration;

use tokio::time::Instant;

/// What a node's clock said, and when that was heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    clock_ms: u64,
    heard: Instant,
}

impl Reading {
    pub(super) fn now(clock_ms: u64) -> Self {
        Self { clock_ms, heard: Instant::now() }
    }

    /// What the node's clock says at `time`, or a little less.
    pub(super) fn at(&self, time: Instant) -> u64 {
        match time.checked_duration_since(self.heard) {
            Some(later) => self.clock_ms.saturating_add(millis(later)),
            // Rounded up: it must not say more.
            None => self.clock_ms.saturating_sub(millis(self.heard - time).saturating_add(1)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_is_told_in_the_nodes_clock_and_never_too_late() {
        let reading = Reading::now(5_000);
        let now = Instant::now();
        assert_eq!(reading.at(now), 5_000);
        assert_eq!(reading.at(now + Duration::from_micros(1_900)), 5_001);
        assert_eq!(reading.at(now - Duration::from_micros(1_900)), 4_998);
        assert_eq!(reading.at(now - Duration::from_secs(9)), 0);
        assert_eq!(reading.at(now + Duration::from_secs(15)), 20_000);
    }
}
