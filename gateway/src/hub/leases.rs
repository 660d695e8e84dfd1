//! When the leases of held floors should end: one table for all channels, instead of a timer for each.
//!
//! Held by the hub, under its lock. Knows nothing of who asks the state for the expiry.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use voiceping_state::{ChannelId, Floor};

/// Asked a little late, the first question finds the lease over.
const MARGIN: Duration = Duration::from_millis(20);

/// Leases are in the state's clock, which may differ from ours. The state decides; what is asked too early is asked
/// again at this distance, and no question comes later than the longest.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Leases {
    by_time: BTreeSet<(Instant, ChannelId)>,
    time_by_channel: HashMap<ChannelId, Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    /// When to ask next.
    ask: Instant,
    /// When the lease should have ended.
    end: Instant,
}

impl Leases {
    /// Notes a floor as it is now. `true`: the next time may be another one.
    pub(super) fn follow(&mut self, channel: &ChannelId, floor: &Floor) -> bool {
        let Some(holder) = &floor.holder else {
            return self.remove(channel);
        };
        let left = Duration::from_millis(holder.lease_until_ms).saturating_sub(now_since_epoch());
        let now = Instant::now();
        self.set(channel, Times { ask: now + (left + MARGIN).clamp(SHORTEST, LONGEST), end: now + left });
        true
    }

    pub(super) fn remove(&mut self, channel: &ChannelId) -> bool {
        match self.time_by_channel.remove(channel) {
            Some(times) => self.by_time.remove(&(times.ask, channel.clone())),
            None => false,
        }
    }

    /// Should the lease of a floor that is held have ended?
    pub(super) fn is_over(&self, channel: &ChannelId) -> bool {
        self.time_by_channel.get(channel).is_some_and(|times| times.end <= Instant::now())
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(time, _)| *time)
    }

    /// The channels that are due, each moved to `again`.
    pub(super) fn take_due(&mut self, now: Instant, again: Instant) -> Vec<ChannelId> {
        let due: Vec<_> =
            self.by_time.iter().take_while(|(time, _)| *time <= now).map(|(_, channel)| channel.clone()).collect();
        for channel in &due {
            let end = self.time_by_channel.get(channel).map_or(now, |times| times.end);
            self.set(channel, Times { ask: again, end });
        }
        due
    }

    fn set(&mut self, channel: &ChannelId, times: Times) {
        if let Some(before) = self.time_by_channel.insert(channel.clone(), times) {
            self.by_time.remove(&(before.ask, channel.clone()));
        }
        self.by_time.insert((times.ask, channel.clone()));
    }
}

fn now_since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use voiceping_state::{Holder, Owner};

    use super::*;

    fn held(for_time: Duration) -> Floor {
        let owner = Owner { user: "a".into(), user_name: "A".into(), connection: "x".into(), gateway: "g".into() };
        let until = now_since_epoch() + for_time;
        let lease_until_ms = u64::try_from(until.as_millis()).expect("a time");
        Floor { epoch: 1, holder: Some(Holder { owner, node: "n".into(), taken_at_ms: 0, lease_until_ms }) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_comes_first_and_a_free_floor_not_at_all() {
        let (a, b) = (ChannelId::from("a"), ChannelId::from("b"));
        let mut leases = Leases::default();
        leases.follow(&a, &held(Duration::from_secs(20)));
        leases.follow(&b, &held(Duration::from_secs(10)));
        let first = leases.next().expect("two are held");
        assert!(first <= Instant::now() + Duration::from_secs(10) + MARGIN);
        let again = first + Duration::from_secs(1);
        assert_eq!(leases.take_due(first, again), vec![b.clone()]);
        assert_eq!(leases.next(), Some(again), "it comes again until its floor changes");
        leases.follow(&b, &Floor { epoch: 2, holder: None });
        assert!(leases.next().expect("one is held") > first + Duration::from_secs(5));
        leases.remove(&a);
        assert_eq!(leases.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_differs_makes_the_question_neither_busy_nor_late() {
        let channel = ChannelId::from("a");
        let mut leases = Leases::default();
        leases.follow(&channel, &held(Duration::ZERO));
        assert_eq!(leases.next(), Some(Instant::now() + SHORTEST));
        leases.follow(&channel, &held(Duration::from_secs(3600)));
        assert_eq!(leases.next(), Some(Instant::now() + LONGEST));
    }
}
