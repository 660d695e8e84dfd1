//! What all roles begin and end with: telemetry, the runtime, and the signal to stop.

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use voiceping_gateway::Status;
use voiceping_telemetry::{Args, Role, Telemetry};

/// Starts the log and what else watches this process, and runs a role, which is told to stop when the process is.
pub(crate) fn run(
    args: &Args,
    service: &'static str,
    role: impl AsyncFnOnce(CancellationToken, &Telemetry) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started")?;
    runtime.block_on(async {
        let telemetry = Telemetry::start(args, service)?;
        let shutdown = CancellationToken::new();
        let signal = tokio::spawn(stop_at_signal(shutdown.clone()));
        let outcome = role(shutdown, &telemetry).await;
        signal.abort();
        tracing::info!("ended");
        telemetry.end().await;
        outcome
    })
}

/// What a process says of itself that has this gateway.
pub(crate) fn role(status: Status) -> Role {
    let asked = status.clone();
    let ready = move || {
        let status = asked.clone();
        async move { status.ready().await }
    };
    Role::new(ready, move || status.draining())
}

async fn stop_at_signal(shutdown: CancellationToken) {
    let signal = voiceping_telemetry::shutdown_signal().await;
    tracing::info!(signal, "shutting down");
    shutdown.cancel();
}
