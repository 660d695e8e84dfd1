//! What all roles begin and end with: the log, the runtime, and the signal to stop.

use std::future::Future;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use voiceping_telemetry::LogArgs;

/// Starts the log and runs a role, which is told to stop when the process is.
pub(crate) fn run<F>(log: &LogArgs, role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    voiceping_telemetry::init(log)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started")?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let signal = tokio::spawn(stop_at_signal(shutdown.clone()));
        let outcome = role(shutdown).await;
        signal.abort();
        tracing::info!("ended");
        outcome
    })
}

async fn stop_at_signal(shutdown: CancellationToken) {
    let signal = voiceping_telemetry::shutdown_signal().await;
    tracing::info!(signal, "shutting down");
    shutdown.cancel();
}
