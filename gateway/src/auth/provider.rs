//! Where public keys come from, and when they are looked at again: in the background, and when a token names a key that is
//! not known, because its provider has begun to use a new one.
//!
//! The last good set is kept while the provider is away. However many tokens name keys that nobody has, the provider is
//! asked no more than once in [`AT_MOST_EVERY`]; who brings a token with a new key waits for the next answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fetch::Source;
use super::jwks::{self, PublicKey};

/// Between two questions to a provider.
const AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// After a question that was not answered.
const AGAIN: Duration = Duration::from_secs(15);

/// How long a client waits for a key: a question that is under way, the pause after it, and another question.
const WAIT: Duration = Duration::from_secs(10);

/// A provider at an address.
#[derive(Debug)]
pub(super) struct Provider {
    source: Source,
    refresh: Duration,
    wanted: Notify,
    begun: AtomicU64,
    ended: watch::Sender<u64>,
}

impl Provider {
    pub(super) fn new(source: Source, refresh: Duration) -> Self {
        let (wanted, begun, ended) = (Notify::new(), AtomicU64::new(0), watch::Sender::new(0));
        Self { source, refresh: refresh.max(AT_MOST_EVERY), wanted, begun, ended }
    }

    /// Asks the provider until the gateway ends. Each set goes to `take`.
    pub(super) async fn ask(&self, take: impl Fn(Vec<PublicKey>), end: CancellationToken) {
        let asking = async {
            loop {
                let began = Instant::now();
                let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
                let keys = self.source.get().await.and_then(|text| jwks::parse(&text));
                let next = match keys {
                    Ok(keys) => {
                        take(keys);
                        began + self.refresh
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "no keys from the identity provider; the last stay"
                        );
                        began + AGAIN.min(self.refresh)
                    }
                };
                self.ended.send_replace(number);
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.wanted.notified() => sleep_until(began + AT_MOST_EVERY).await,
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = end.cancelled() => {}
        }
    }

    /// Waits until the provider has been asked once more, from now on. `false`: it takes too long.
    pub(super) async fn asked_again(&self) -> bool {
        // A question that is under way may have been answered before the key was there.
        let next = self.begun.load(Ordering::Relaxed) + 1;
        let mut ended = self.ended.subscribe();
        self.wanted.notify_one();
        matches!(timeout(WAIT, ended.wait_for(|ended| *ended >= next)).await, Ok(Ok(_)))
    }

    /// Waits until the provider has been asked for the first time.
    pub(super) async fn asked(&self) {
        // It fails only when the sender has gone, which is this provider's own.
        let _ = self.ended.subscribe().wait_for(|ended| *ended > 0).await;
    }
}
