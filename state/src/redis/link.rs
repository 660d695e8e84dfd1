//! The connection for commands: one, shared by all callers, made again when it breaks.
//!
//! A call never waits longer than its time. While the servers are away, calls fail at once, except the one that tries
//! again when a pause, longer each time, is over. Nothing runs here while nobody calls.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::FutureExt;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, from_redis_value};
use tokio::time::{Instant, timeout};
use voiceping_signals::{span, trace};

use super::Shared;
use super::dialer::{Connection, Dialer, too_late};
use super::scripts::Script;
use crate::contract::StateError;
use crate::metrics;

pub(super) struct Link {
    dialer: Arc<Dialer>,
    patience: Duration,
    state: Mutex<LinkState>,
    /// The last command was answered.
    up: AtomicBool,
    /// Held by the one who dials.
    dialing: tokio::sync::Mutex<()>,
}

struct LinkState {
    /// With the number of the connection.
    connection: Option<(Connection, u64)>,
    /// How many there have been.
    made: u64,
    pauses: ExponentialBackoff,
    /// No attempt before then, and why.
    away: Option<(Instant, String)>,
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>, patience: Duration) -> Self {
        let state = LinkState { connection: None, made: 0, pauses: pauses(), away: None };
        Self {
            dialer,
            patience,
            state: Mutex::new(state),
            up: AtomicBool::new(false),
            dialing: tokio::sync::Mutex::default(),
        }
    }

    /// Runs a script on the shard of its keys.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&str],
    ) -> Result<T, StateError> {
        let span =
            || span!(script.name, kind = "client", "db.system.name" = "redis", "db.operation.name" = script.name);
        let asked = async {
            match self.query(&script.by_hash(keys, args)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.query(&script.by_text(keys, args)).await
                }
                asked => asked,
            }
        };
        trace::within(span, self.watched(script.name, asked)).await.map_err(unavailable)
    }

    /// Runs a plain command.
    pub(super) async fn command<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StateError> {
        let name = match cmd.args_iter().next() {
            Some(redis::Arg::Simple(b"SET")) => "SET",
            _ => "other",
        };
        self.watched(name, self.query(cmd)).await.map_err(unavailable)
    }

    /// Notes how long it takes, and whether the servers are there.
    async fn watched<T>(&self, name: &'static str, asked: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let began = Instant::now();
        let answer = asked.await;
        let error = answer.as_ref().err();
        metrics::operation(name, began.elapsed(), error.map(kind));
        self.up.store(!error.is_some_and(is_broken), Ordering::Relaxed);
        answer
    }

    /// How many connections there have been: another number says that the last ones broke.
    pub(super) fn made(&self) -> u64 {
        self.lock().made
    }

    async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        let (mut connection, number) = self.connection().await?;
        let answer = timeout(self.patience, connection.query(cmd)).await.unwrap_or_else(|_| Err(too_late()));
        match answer {
            Ok(value) => Ok(from_redis_value(value)?),
            Err(error) => {
                if is_broken(&error) && !connection.is_cluster() {
                    self.broke(number);
                }
                Err(error)
            }
        }
    }

    async fn connection(&self) -> RedisResult<(Connection, u64)> {
        if let Some(known) = self.lock().known()? {
            return Ok(known);
        }
        // The others wait for the one who dials; none of them dials again if that has failed.
        let _dialing = self.dialing.lock().await;
        if let Some(known) = self.lock().known()? {
            return Ok(known);
        }
        // In a box: what it takes to connect would be in the type of everything that asks the state.
        let dialed = self.dialer.dial(None).boxed().await;
        let mut state = self.lock();
        match dialed {
            Ok(connection) => {
                state.made += 1;
                state.away = None;
                state.pauses = pauses();
                let made = state.made;
                state.connection = Some((connection.clone(), made));
                Ok((connection, made))
            }
            Err(error) => {
                let pause = state.pauses.next().unwrap_or(LONGEST_PAUSE);
                state.away = Some((Instant::now() + pause, error.to_string()));
                Err(error)
            }
        }
    }

    fn broke(&self, number: u64) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|(_, current)| *current == number) {
            state.connection = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().expect("nothing panics while it holds the link")
    }
}

impl LinkState {
    /// The connection that is there; an error if it is too early for another attempt.
    fn known(&self) -> RedisResult<Option<(Connection, u64)>> {
        match (&self.connection, &self.away) {
            (Some(known), _) => Ok(Some(known.clone())),
            (None, Some((until, why))) if Instant::now() < *until => {
                Err(RedisError::from((ErrorKind::Io, "not connected", why.clone())))
            }
            (None, _) => Ok(None),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("made", &self.made()).finish_non_exhaustive()
    }
}

/// Short: what waits for the servers to be back has leases that end.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The pauses between attempts, by everybody at a different time.
pub(super) fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(Duration::from_millis(50)).with_max_delay(LONGEST_PAUSE);
    builder.with_jitter().without_max_times().build()
}

/// Whether another connection may have more luck. A master that was demoted answers, and refuses every change.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// What went wrong, as a label.
fn kind(error: &RedisError) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_io_error() || error.is_unrecoverable_error() {
        "io"
    } else if matches!(error.kind(), ErrorKind::Server(_)) {
        "server"
    } else {
        "other"
    }
}

/// Says from now on whether the servers are there, and how often they had to be called anew.
pub(super) fn observe(shared: &Arc<Shared>) {
    let known = Arc::downgrade(shared);
    metrics::UP.observe(move |observe| {
        if let Some(shared) = known.upgrade() {
            observe(f64::from(u8::from(shared.link.up.load(Ordering::Relaxed))), &[]);
        }
    });
    let known = Arc::downgrade(shared);
    metrics::CONNECTIONS.observe(move |observe| {
        if let Some(shared) = known.upgrade() {
            observe(shared.link.made() as f64, &[]);
        }
    });
}

fn unavailable(error: RedisError) -> StateError {
    StateError::Unavailable(error.to_string())
}
