//! Calls to the shared state, each with a time that it may take.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use voiceping_state::StateError;

const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for the state's answer, but not for ever. A call that was given up may have been carried out.
pub(crate) async fn within<T, E: From<StateError>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StateError::Unavailable("no answer in time".into()).into()),
    }
}
