//! Keys that are used once within a time. Forgets those whose time is over.

use std::collections::HashMap;
use std::time::Duration;

/// Below this many, nothing is looked through.
const FEW: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Until when. After a clock that was set back that is later by as much: the safe side for what is done once.
    until_ms_by_key: HashMap<String, u64>,
    /// The number at which those whose time is over are looked for.
    crowd: usize,
}

impl Claims {
    pub(super) fn claim(&mut self, key: &str, for_time: Duration, now_ms: u64) -> bool {
        if self.until_ms_by_key.len() >= self.crowd.max(FEW) {
            self.until_ms_by_key.retain(|_, until_ms| now_ms < *until_ms);
            // As many again may come first: a claim costs the same however many there are.
            self.crowd = self.until_ms_by_key.len() * 2;
        }
        if self.until_ms_by_key.get(key).is_some_and(|until_ms| now_ms < *until_ms) {
            return false;
        }
        let for_ms = u64::try_from(for_time.as_millis()).unwrap_or(u64::MAX).max(1);
        self.until_ms_by_key.insert(key.to_owned(), now_ms.saturating_add(for_ms));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_is_over_and_nothing_else() {
        let mut claims = Claims::default();
        let minute = Duration::from_secs(60);
        for n in 0..100_000_u64 {
            assert!(claims.claim(&n.to_string(), minute, n * 60));
        }
        // A thousand claims last at any time.
        assert!(claims.until_ms_by_key.len() < 4 * FEW, "{}", claims.until_ms_by_key.len());
        assert!(!claims.claim("99999", minute, 99_999 * 60 + 59_999));
        assert!(claims.claim("99999", minute, 99_999 * 60 + 60_000));
    }
}
