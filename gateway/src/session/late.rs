//! Reminders for a client that came while somebody speaks (PROTOCOL section 6, rule 3): a table, one timer for all.

use std::time::Duration;

use tokio::time::Instant;
use voiceping_state::ChannelId;

/// When it is told again, after it was told at once.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(400), Duration::from_secs(1)];

/// The reminders of one connection.
#[derive(Debug, Default)]
pub(crate) struct LateEntries {
    due: Vec<(Instant, ChannelId)>,
}

impl LateEntries {
    pub(super) fn start(&mut self, channel: &ChannelId, now: Instant) {
        self.stop(channel);
        self.due.extend(AGAIN_AFTER.map(|after| (now + after, channel.clone())));
    }

    pub(super) fn stop(&mut self, channel: &ChannelId) {
        self.due.retain(|(_, of)| of != channel);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ChannelId> {
        self.due.extract_if(.., |(at, _)| *at <= now).map(|(_, channel)| channel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_reminded_twice_unless_it_consumes() {
        let (a, b, now) = (ChannelId::from("a"), ChannelId::from("b"), Instant::now());
        let mut late = LateEntries::default();
        assert_eq!(late.next(), None);
        late.start(&a, now);
        late.start(&b, now);
        assert_eq!(late.next(), Some(now + AGAIN_AFTER[0]));
        assert_eq!(late.take_due(now + AGAIN_AFTER[0]), vec![a.clone(), b.clone()]);
        late.stop(&a);
        assert_eq!(late.take_due(now + AGAIN_AFTER[1]), vec![b]);
        assert_eq!(late.next(), None);
        late.start(&a, now);
        late.start(&a, now);
        assert_eq!(late.due.len(), AGAIN_AFTER.len());
    }
}
