//! What happens to telemetry on its way out: queues that never make anybody wait, and an account of what was lost.
//!
//! Around the SDK's own batches and exporters. What finds a full queue, or could not be delivered, is counted; that a
//! collector is away is said once, and once that it is back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use voiceping_signals::{Tally, label};

/// By the specification, where the environment says nothing else.
const QUEUE: usize = 2048;

pub(crate) static LOST: Tally = Tally::new(
    "voiceping.telemetry.lost",
    "{item}",
    &["signal"],
    "What could not be delivered, or had no room in its queue",
);

voiceping_signals::declared!(LOST);

/// One signal's way out.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) signal: &'static str,
    capacity: usize,
    waiting: AtomicUsize,
    lost: AtomicU64,
    failing: AtomicBool,
}

impl Way {
    /// A way whose queue is as long as this variable says.
    pub(crate) fn new(signal: &'static str, capacity: &str) -> Arc<Self> {
        let capacity = std::env::var(capacity).ok().and_then(|text| text.parse().ok()).unwrap_or(QUEUE);
        let (waiting, lost, failing) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { signal, capacity, waiting, lost, failing })
    }

    /// How much was lost until now.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Is there room in the queue? If so, it is taken.
    fn admit(&self) -> bool {
        let room = |waiting| (waiting < self.capacity).then_some(waiting + 1);
        let admitted = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if !admitted {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn taken(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    fn tried(&self, outcome: &OTelSdkResult, count: usize) {
        let failed = outcome.is_err();
        if failed {
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
        let signal = self.signal;
        match (outcome, self.failing.swap(failed, Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(signal, %error, "telemetry cannot be delivered; what is lost from now on is counted");
            }
            (Ok(()), true) => tracing::info!(signal, "telemetry is delivered again"),
            _ => {}
        }
    }
}

/// Says from now on what was lost, and by the log, `lines` of it.
pub(crate) fn observe(ways: Vec<Arc<Way>>, lines: impl Fn() -> usize + Send + Sync + 'static) {
    LOST.observe(move |observe| {
        for way in &ways {
            observe(way.lost() as f64, &[label("signal", way.signal)]);
        }
        observe(lines() as f64, &[label("signal", "stderr")]);
    });
}

/// An exporter whose outcomes are watched.
#[derive(Debug)]
pub(crate) struct Exporter<E> {
    inner: E,
    way: Arc<Way>,
}

impl<E> Exporter<E> {
    pub(crate) fn new(inner: E, way: &Arc<Way>) -> Self {
        Self { inner, way: Arc::clone(way) }
    }
}

impl<E: SpanExporter> SpanExporter for Exporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.way.taken(count);
        let outcome = self.inner.export(batch).await;
        self.way.tried(&outcome, count);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Exporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.way.taken(count);
        let outcome = self.inner.export(batch).await;
        self.way.tried(&outcome, count);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Metrics have no queue: what is not delivered now is in the next export.
impl<E: PushMetricExporter> PushMetricExporter for Exporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.inner.export(metrics).await;
        self.way.tried(&outcome, 1);
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// A processor whose queue is watched: the SDK's own is never asked for more than it has.
pub(crate) struct Processor<P> {
    inner: P,
    way: Arc<Way>,
}

impl<P> Processor<P> {
    pub(crate) fn new(inner: P, way: &Arc<Way>) -> Self {
        Self { inner, way: Arc::clone(way) }
    }
}

impl<P> fmt::Debug for Processor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("way", &self.way).finish_non_exhaustive()
    }
}

impl<P: SpanProcessor> SpanProcessor for Processor<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.way.admit() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Processor<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.way.admit() {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

    use super::*;

    /// An exporter that is stuck until the test lets it go, and then fails.
    #[derive(Debug)]
    struct Stuck(Arc<Barrier>);

    impl SpanExporter for Stuck {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.wait();
            Err(opentelemetry_sdk::error::OTelSdkError::InternalFailure("nobody is there".into()))
        }
    }

    #[test]
    fn who_traces_never_waits_and_everything_that_is_lost_is_counted() {
        let (way, stuck) = (Way::new("traces", "NO_SUCH_VARIABLE"), Arc::new(Barrier::new(2)));
        let config = BatchConfigBuilder::default().with_max_export_batch_size(1).build();
        let exporter = Exporter::new(Stuck(Arc::clone(&stuck)), &way);
        let processor = Processor::new(BatchSpanProcessor::builder(exporter).with_batch_config(config).build(), &way);
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        tracer.in_span("the first is stuck", |_| {});
        while way.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        let over = 10;
        for _ in 0..QUEUE + over {
            tracer.in_span("more than there is room for", |_| {});
        }
        assert_eq!(way.lost(), over as u64, "this test is still here, and this is what had no room");
        for _ in 0..=QUEUE {
            stuck.wait();
        }
        // Behind the last of them; what it says is about nothing.
        let _ = provider.force_flush();
        assert_eq!(way.lost(), (1 + QUEUE + over) as u64, "and none of the others was delivered");
    }
}
