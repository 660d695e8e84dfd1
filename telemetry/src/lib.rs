//! What every role of the binary shares: the log, OpenTelemetry, the admin port, and the signal to stop.
//!
//! Started once by each command of the root binary, before anything counts or traces. It knows nothing of what a role does:
//! that is told by [`Role`]. Nothing here can hold up or fail the service: what is exported goes through bounded queues and
//! threads of its own, and what they cannot take is counted and forgotten.

mod admin;
mod deliver;
mod export;
mod log;
mod process;
mod role;
mod shutdown;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use voiceping_signals::{Metric, certificate, trace};

use export::Providers;
pub use log::{LogArgs, LogFormat};
pub use role::{Ready, Role};
pub use shutdown::shutdown_signal;

/// How a role is watched.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Telemetry")]
#[group(skip)]
pub struct Args {
    /// Address and port of /metrics (for Prometheus), /livez and /readyz. For operators alone: not to be reached from
    /// outside [default: none]
    ///
    /// Besides, traces, metrics and logs go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names (OTLP over gRPC); the
    /// other standard OTEL_ variables count as well.
    #[arg(long, env = "VOICEPING_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// The log's.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The metrics of every process.
pub fn metrics() -> Vec<Metric> {
    [process::declared(), role::declared(), deliver::declared(), certificate::declared()].concat()
}

/// How long the last spans, logs and metrics may take to be delivered.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Telemetry of this process, running.
#[derive(Debug)]
pub struct Telemetry {
    providers: Providers,
    admin: Option<admin::Admin>,
    // The last to go: it writes what is left of the log.
    log: log::Writer,
}

impl Telemetry {
    /// Starts the log and what else was asked for; to be called once, inside of the runtime, before anything is counted.
    /// Fails for settings that cannot be understood and ports that are taken, and never because a collector is away.
    pub fn start(args: &Args, service: &'static str) -> anyhow::Result<Self> {
        let (writer, log) = log::writer();
        let providers = Providers::build(service, args.admin_listen.is_some())?;
        let spans = providers.tracer.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("voiceping"));
            let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false);
            layer.with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == trace::TARGET))
        });
        let records = match &providers.logger {
            None => None,
            Some(provider) => {
                // Ours alone: those of the exporter itself would go round for ever.
                let ours = filter_fn(|metadata| metadata.is_event() && metadata.target().starts_with("voiceping"));
                let layer = OpenTelemetryTracingBridge::new(provider);
                Some(layer.with_filter(args.log.filter(false)?).with_filter(ours))
            }
        };
        tracing_subscriber::registry()
            .with(args.log.layer(writer, spans.is_some())?)
            .with(spans)
            .with(records)
            .try_init()
            .context("the log cannot be started")?;
        let admin = match args.admin_listen {
            None => None,
            Some(address) => Some(admin::Admin::start(address, providers.registry.clone())?),
        };
        if providers.meter.is_some() {
            process::observe();
            certificate::observe();
            deliver::observe(providers.ways.clone(), log.dropped());
        }
        Ok(Self { providers, admin, log })
    }

    /// Where the admin port is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Admin::local_addr)
    }

    /// Says from now on how the role is.
    pub fn watch(&self, role: Role) {
        if self.providers.meter.is_some() {
            role.observe();
        }
        if let Some(admin) = &self.admin {
            admin.watch(role);
        }
    }

    /// Delivers what is left, as far as that can be done soon, and ends. The log goes on until this has returned.
    pub async fn end(self) {
        let Self { providers, admin, log } = self;
        providers.end(LAST_WORDS).await;
        drop(admin);
        log.end();
    }
}
