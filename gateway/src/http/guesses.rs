//! Tokens that were refused, counted for each address and the user that they claim: who guesses is not listened to for a
//! while. Others behind the same address, who bring good tokens for other users, notice nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::time::Instant;

use super::attempts::network;

/// So many may be wrong within [`WINDOW`].
const GUESSES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Entries that are kept; far more than addresses can fill at the rate of their attempts.
const ROOM: usize = 100_000;

/// Who tried: an address, and the user that a token claims to be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Guesser(IpAddr, u64);

/// The guesses of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<Guesser, Wrong>>);

#[derive(Debug)]
struct Wrong {
    count: u32,
    since: Instant,
}

impl Guesser {
    /// Reads the user from a token that has not been verified: it is used for nothing else.
    pub(super) fn of(address: IpAddr, token: &str) -> Self {
        #[derive(Deserialize, Hash)]
        struct Claimed {
            #[serde(rename = "userId")]
            user: String,
        }
        let claimed = token.split('.').nth(1).and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
        let claimed = claimed.and_then(|body| serde_json::from_slice::<Claimed>(&body).ok());
        let mut hasher = DefaultHasher::new();
        // What names nobody counts together.
        claimed.hash(&mut hasher);
        Self(network(address), hasher.finish())
    }
}

impl Guesses {
    /// Is this one listened to? If not, for how long it has to wait.
    pub(super) fn check(&self, guesser: Guesser) -> Result<(), Duration> {
        let wrong = self.lock();
        let wrong = wrong.get(&guesser).filter(|wrong| wrong.count >= GUESSES);
        let left = wrong.map(|wrong| WINDOW.saturating_sub(wrong.since.elapsed())).unwrap_or_default();
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// It was wrong.
    pub(super) fn wrong(&self, guesser: Guesser) {
        let now = Instant::now();
        let mut all = self.lock();
        // Room is made by `forget`, which comes by itself: a crowd of guessers must not have everything searched each time.
        if all.len() >= ROOM && !all.contains_key(&guesser) {
            return;
        }
        let wrong = all.entry(guesser).or_insert(Wrong { count: 0, since: now });
        if now - wrong.since >= WINDOW {
            *wrong = Wrong { count: 0, since: now };
        }
        wrong.count += 1;
    }

    /// Forgets what is long ago.
    pub(super) fn forget(&self) {
        let now = Instant::now();
        self.lock().retain(|_, wrong| now - wrong.since < WINDOW);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Guesser, Wrong>> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesser(address: &str, user: &str) -> Guesser {
        let body = URL_SAFE_NO_PAD.encode(format!("{{\"userId\":\"{user}\"}}"));
        Guesser::of(address.parse().expect("an address"), &format!("x.{body}.y"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_waits_and_nobody_else_does() {
        let guesses = Guesses::default();
        let script = guesser("192.0.2.1", "alice");
        for _ in 0..GUESSES {
            assert_eq!(guesses.check(script), Ok(()));
            guesses.wrong(script);
        }
        assert_eq!(guesses.check(script), Err(WINDOW));
        for other in [guesser("192.0.2.1", "bob"), guesser("192.0.2.2", "alice")] {
            assert_eq!(guesses.check(other), Ok(()));
        }
        tokio::time::advance(WINDOW).await;
        assert_eq!(guesses.check(script), Ok(()));
        guesses.wrong(script);
        assert_eq!(guesses.check(script), Ok(()));
        tokio::time::advance(WINDOW).await;
        guesses.forget();
        assert!(guesses.lock().is_empty());
    }

    #[test]
    fn what_names_nobody_counts_together() {
        let of = |token: &str| Guesser::of("192.0.2.1".parse().expect("an address"), token);
        assert_eq!(of("x"), of("a.%%%.b"));
        assert_eq!(of("x"), of("a.e30.b"));
        assert_ne!(of("x"), guesser("192.0.2.1", "alice"));
    }
}
