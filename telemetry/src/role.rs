//! How a role is, told by the role itself: ready or not, draining or not.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use voiceping_signals::Gauge;

static READY: Gauge = Gauge::new("voiceping.ready", "", &[], "1: takes new clients");
static DRAINING: Gauge = Gauge::new("voiceping.drain.active", "", &[], "1 from the signal to stop on");
static REMAINING: Gauge =
    Gauge::new("voiceping.drain.remaining", "{connection}", &[], "Connections that are still here while it drains");

voiceping_signals::declared!(READY, DRAINING, REMAINING);

/// How often it is asked whether a role is ready. The question goes to the shared state.
const LOOK: Duration = Duration::from_secs(5);

/// Whether a role takes new clients, and why not.
pub type Ready = Pin<Box<dyn Future<Output = Result<(), &'static str>> + Send>>;

type Asked<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What a role says of itself. Cheap to clone.
#[derive(Clone)]
pub struct Role {
    ready: Asked<Ready>,
    /// The connections that it still has, while it drains.
    draining: Asked<Option<usize>>,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").finish_non_exhaustive()
    }
}

impl Role {
    /// `ready`: whether it takes new clients, and why not. `draining`: while it drains, the connections that it still has.
    pub fn new<F>(
        ready: impl Fn() -> F + Send + Sync + 'static,
        draining: impl Fn() -> Option<usize> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), &'static str>> + Send + 'static,
    {
        Self { ready: Arc::new(move || -> Ready { Box::pin(ready()) }), draining: Arc::new(draining) }
    }

    /// Whether it takes new clients now, and why not.
    pub(crate) fn ready(&self) -> Ready {
        (self.ready)()
    }

    /// Answers from now on. Asks whether it is ready once in a while, for as long as the runtime lives.
    pub(crate) fn observe(&self) {
        let is_ready = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&is_ready);
        READY.observe(move |observe| observe(f64::from(u8::from(known.load(Ordering::Relaxed))), &[]));
        let draining = Arc::clone(&self.draining);
        DRAINING.observe(move |observe| observe(f64::from(u8::from(draining().is_some())), &[]));
        let draining = Arc::clone(&self.draining);
        REMAINING.observe(move |observe| observe(draining().unwrap_or_default() as f64, &[]));
        let role = self.clone();
        tokio::spawn(async move {
            loop {
                is_ready.store(role.ready().await.is_ok(), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
    }
}
