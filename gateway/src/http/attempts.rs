//! How often one address may try to connect, and one user.
//!
//! The address is asked for before a token is looked at, the user when it has been verified: a crowd behind one address has
//! the address's rate, and one user's client that connects over and over costs only its own. Forgets who has been quiet.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use voiceping_state::UserId;

use super::guesses::Guesses;

/// Time between two times of forgetting. In between, each new address costs some tens of bytes.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// Sockets of one user: some clients open one for each channel, all at once.
const USER_RATE: u32 = 10;
const USER_BURST: u32 = 200;

/// The attempts of all addresses and users.
pub(crate) struct Attempts {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    by_user: DefaultKeyedRateLimiter<UserId>,
    guesses: Guesses,
    clock: DefaultClock,
}

/// A rate with room for a burst.
pub(crate) fn per_second(rate: u32, burst: u32) -> Quota {
    let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(burst))
}

impl Attempts {
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self {
            by_address: RateLimiter::keyed(per_second(rate, burst)),
            by_user: RateLimiter::keyed(per_second(USER_RATE, USER_BURST)),
            guesses: Guesses::default(),
            clock: DefaultClock::default(),
        }
    }

    /// The tokens that were wrong.
    pub(super) fn guesses(&self) -> &Guesses {
        &self.guesses
    }

    /// Counts a socket of a user; one too many is told how long to wait.
    pub(super) fn check_user(&self, user: &UserId) -> Result<(), Duration> {
        self.by_user.check_key(user).map_err(|too_early| too_early.wait_time_from(self.clock.now()))
    }

    /// Counts an attempt; one too many is told how long to wait.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        self.by_address.check_key(&network(address)).map_err(|too_early| too_early.wait_time_from(self.clock.now()))
    }

    /// Forgets quiet addresses until the gateway ends.
    pub(crate) async fn forget(&self, end: CancellationToken) {
        let mut turn = interval(FORGET_EVERY);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = turn.tick() => {
                    self.by_address.retain_recent();
                    self.by_address.shrink_to_fit();
                    self.by_user.retain_recent();
                    self.by_user.shrink_to_fit();
                    self.guesses.forget();
                }
            }
        }
    }
}

impl std::fmt::Debug for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempts").field("addresses", &self.by_address.len()).finish()
    }
}

/// In IPv6 one customer has a whole /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_uses_up_its_own_attempts_only() {
        let attempts = Attempts::new(1, 3);
        let (a, b) = ("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"));
        for _ in 0..3 {
            assert_eq!(attempts.check(a), Ok(()));
        }
        assert!(attempts.check(a).expect_err("too many") <= Duration::from_secs(1));
        assert_eq!(attempts.check(b), Ok(()));
    }

    #[test]
    fn addresses_of_one_customer_count_together() {
        let same =
            |a: &str, b: &str| network(a.parse().expect("an address")) == network(b.parse().expect("an address"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
