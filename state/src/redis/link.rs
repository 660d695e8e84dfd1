//! The connection for commands: one, shared by all callers, made again when it breaks.
//!
//! A call never waits longer than its time. While the servers are away, calls fail at once, except the one that tries
//! again when a pause, longer each time, is over. Nothing runs here while nobody calls.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, from_redis_value};
use tokio::time::{Instant, timeout};

use super::dialer::{Connection, Dialer, too_late};
use super::scripts::Script;
use crate::contract::StateError;

pub(super) struct Link {
    dialer: Arc<Dialer>,
    patience: Duration,
    state: Mutex<LinkState>,
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
        Self { dialer, patience, state: Mutex::new(state), dialing: tokio::sync::Mutex::default() }
    }

    /// Runs a script on the shard of its keys.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&str],
    ) -> Result<T, StateError> {
        let asked = match self.query(&script.by_hash(keys, args)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&script.by_text(keys, args)).await
            }
            asked => asked,
        };
        asked.map_err(unavailable)
    }

    /// Runs a plain command.
    pub(super) async fn command<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StateError> {
        self.query(cmd).await.map_err(unavailable)
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
        let dialed = self.dialer.dial(None).await;
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

fn unavailable(error: RedisError) -> StateError {
    StateError::Unavailable(error.to_string())
}
