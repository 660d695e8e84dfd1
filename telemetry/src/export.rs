//! The providers of traces, metrics and logs, as the standard `OTEL_` variables ask for them.
//!
//! Of our own are two rules: nothing is exported unless an endpoint is named, for a default that nobody listens at would be
//! an error in every log; and metrics are also there for Prometheus where there is an admin port.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use prometheus::Registry;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::deliver::{Exporter, Processor, Way};

/// Combinations of labels that one metric may have. Ours are far from it, and the SDK takes memory for as many at once.
const SERIES: usize = 400;

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Providers {
    pub(crate) tracer: Option<SdkTracerProvider>,
    pub(crate) logger: Option<SdkLoggerProvider>,
    pub(crate) meter: Option<SdkMeterProvider>,
    pub(crate) ways: Vec<Arc<Way>>,
    /// What Prometheus reads.
    pub(crate) registry: Registry,
}

impl Providers {
    /// Sets up what is asked for, for the whole process. Inside of the runtime, which carries the exporters' connections.
    pub(crate) fn build(service: &'static str, for_prometheus: bool) -> anyhow::Result<Self> {
        let mut built = Self::default();
        let resource = resource(service);
        if is_wanted("TRACES") {
            let way = Way::new("traces", "OTEL_BSP_MAX_QUEUE_SIZE");
            let exporter = SpanExporter::builder().with_tonic().with_tls_config(tls("TRACES")?).build();
            let exporter = Exporter::new(exporter.context("traces cannot be exported")?, &way);
            let processor = Processor::new(BatchSpanProcessor::builder(exporter).build(), &way);
            let provider =
                SdkTracerProvider::builder().with_resource(resource.clone()).with_span_processor(processor).build();
            global::set_text_map_propagator(TraceContextPropagator::new());
            global::set_tracer_provider(provider.clone());
            built.tracer = Some(provider);
            built.ways.push(way);
        }
        if is_wanted("LOGS") {
            let way = Way::new("logs", "OTEL_BLRP_MAX_QUEUE_SIZE");
            let exporter = LogExporter::builder().with_tonic().with_tls_config(tls("LOGS")?).build();
            let exporter = Exporter::new(exporter.context("logs cannot be exported")?, &way);
            let processor = Processor::new(BatchLogProcessor::builder(exporter).build(), &way);
            let provider = SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(processor);
            built.logger = Some(provider.build());
            built.ways.push(way);
        }
        let push = is_wanted("METRICS");
        if push || for_prometheus {
            let mut builder = SdkMeterProvider::builder().with_resource(resource).with_view(narrow);
            if push {
                let way = Way::new("metrics", "");
                let exporter = MetricExporter::builder().with_tonic().with_tls_config(tls("METRICS")?).build();
                let exporter = Exporter::new(exporter.context("metrics cannot be exported")?, &way);
                builder = builder.with_reader(PeriodicReader::builder(exporter).build());
                built.ways.push(way);
            }
            if for_prometheus {
                let exporter = opentelemetry_prometheus::exporter().with_registry(built.registry.clone());
                // All of ours are of one scope.
                builder = builder.with_reader(exporter.scope_info_enabled(false).build().context("no metrics")?);
            }
            let provider = builder.build();
            global::set_meter_provider(provider.clone());
            built.meter = Some(provider);
        }
        Ok(built)
    }

    /// Delivers what is left, for this long. What takes longer is left behind in threads that end with the process.
    pub(crate) async fn end(self, patience: Duration) {
        let Self { tracer, logger, meter, .. } = self;
        let deadline = Instant::now() + patience;
        let (done, mut ended) = mpsc::channel::<()>(1);
        let mut ends: Vec<Box<dyn FnOnce() -> OTelSdkResult + Send>> = Vec::new();
        if let Some(tracer) = tracer {
            ends.push(Box::new(move || tracer.shutdown_with_timeout(patience)));
        }
        if let Some(logger) = logger {
            ends.push(Box::new(move || logger.shutdown_with_timeout(patience)));
        }
        if let Some(meter) = meter {
            ends.push(Box::new(move || meter.shutdown_with_timeout(patience)));
        }
        for end in ends {
            let done = done.clone();
            // Not the runtime's own: it would wait for them when it ends.
            let started = thread::Builder::new().name("telemetry-end".into()).spawn(move || {
                // What could not be delivered was counted and said by then.
                let _ = end();
                drop(done);
            });
            if started.is_err() {
                tracing::warn!("the last telemetry was not delivered");
            }
        }
        drop(done);
        // Nobody sends: it ends when all have.
        if timeout_at(deadline, ended.recv()).await.is_err() {
            tracing::warn!("the last telemetry was not delivered in time");
        }
    }
}

/// Has somebody asked for this signal?
fn is_wanted(signal: &str) -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|text| text.trim().eq_ignore_ascii_case("true")) {
        return false;
    }
    match set(&format!("OTEL_{signal}_EXPORTER")).as_deref().map(str::trim) {
        Some("otlp") => true,
        Some(_) => false,
        None => set("OTEL_EXPORTER_OTLP_ENDPOINT")
            .or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")))
            .is_some(),
    }
}

/// The collector's authority and our own certificate, for https endpoints: those of the system, or the files that are named.
fn tls(signal: &str) -> anyhow::Result<ClientTlsConfig> {
    let file = |what: &str| -> anyhow::Result<Option<Vec<u8>>> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        for name in names {
            if let Some(path) = std::env::var_os(&name).filter(|path| !path.is_empty()) {
                return std::fs::read(&path).with_context(|| format!("{name}: cannot read {path:?}")).map(Some);
            }
        }
        Ok(None)
    };
    let mut tls = ClientTlsConfig::new();
    tls = match file("CERTIFICATE")? {
        Some(authority) => tls.ca_certificate(Certificate::from_pem(authority)),
        None => tls.with_enabled_roots(),
    };
    if let (Some(certificate), Some(key)) = (file("CLIENT_CERTIFICATE")?, file("CLIENT_KEY")?) {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Ok(tls)
}

/// What this process is. What the environment says of it counts more.
fn resource(service: &'static str) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|text| text.contains("service.name="));
    let mut builder = Resource::builder();
    if !named {
        builder = builder.with_service_name(service);
    }
    let known = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.namespace", "voiceping"),
        KeyValue::new("service.instance.id", format!("{:016x}", rand::random::<u64>())),
    ];
    builder.with_attributes(own.into_iter().filter(|own| !known.contains(&format!("{}=", own.key)))).build()
}

fn narrow(_: &Instrument) -> Option<Stream> {
    Stream::builder().with_cardinality_limit(SERIES).build().ok()
}
