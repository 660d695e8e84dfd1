//! Metrics, each declared once as a static: name, unit, labels and meaning are together, and a page and a test read them.
//!
//! [`Counter`] and [`Histogram`] are told what happens; [`Gauge`] and [`Tally`] are asked when somebody wants to know. An
//! instrument is made when it is first used and belongs to the provider that is there then, so a process sets that up first.
//! Cost model: with labels a look-up by their hash, without them an atomic; a histogram takes a lock for a few nanoseconds.
//! Nothing is allocated for labels that were there before.

use std::sync::OnceLock;

use opentelemetry::metrics::{AsyncInstrument, Meter};
use opentelemetry::{KeyValue, global, metrics};

/// The scope of all instruments.
const SCOPE: &str = "voiceping";

/// Where no bounds are given: calls and short work, in seconds.
pub const BOUNDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What is known of a metric before it has a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Dotted, by the semantic conventions.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// By UCUM; in braces where it only counts.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Of a histogram: the bounds of its buckets.
    pub bounds: &'static [f64],
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How values are distributed.
    Histogram,
}

impl Kind {
    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Counts what happens.
#[derive(Debug)]
pub struct Counter {
    metric: Metric,
    made: OnceLock<metrics::Counter<u64>>,
}

impl Counter {
    /// Declares it. To be kept in a static.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        let metric = Metric { name, kind: Kind::Counter, unit, labels, about, bounds: &[] };
        Self { metric, made: OnceLock::new() }
    }

    /// What was declared.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// It happened so often.
    pub fn add(&self, count: u64, labels: &[KeyValue]) {
        check(&self.metric, labels);
        let make = || {
            let Metric { name, unit, about, .. } = self.metric;
            meter().u64_counter(name).with_unit(unit).with_description(about).build()
        };
        self.made.get_or_init(make).add(count, labels);
    }
}

/// Counts how values are distributed.
#[derive(Debug)]
pub struct Histogram {
    metric: Metric,
    made: OnceLock<metrics::Histogram<f64>>,
}

impl Histogram {
    /// Declares it. To be kept in a static. The bounds of its buckets grow.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
        about: &'static str,
    ) -> Self {
        let metric = Metric { name, kind: Kind::Histogram, unit, labels, about, bounds };
        Self { metric, made: OnceLock::new() }
    }

    /// What was declared.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// It was this once.
    pub fn record(&self, value: f64, labels: &[KeyValue]) {
        check(&self.metric, labels);
        let make = || {
            let (Metric { name, unit, about, bounds, .. }, meter) = (self.metric, meter());
            let builder = meter.f64_histogram(name).with_unit(unit).with_description(about);
            builder.with_boundaries(bounds.to_vec()).build()
        };
        self.made.get_or_init(make).record(value, labels);
    }
}

/// Says how something is, when it is asked.
#[derive(Debug)]
pub struct Gauge {
    metric: Metric,
}

impl Gauge {
    /// Declares it. To be kept in a static.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        Self { metric: Metric { name, kind: Kind::Gauge, unit, labels, about, bounds: &[] } }
    }

    /// What was declared.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// Asks `values` whenever somebody wants to know. It must not wait, and says nothing if what it knew is gone.
    pub fn observe(&self, values: impl Fn(&Observe<'_>) + Send + Sync + 'static) {
        let (metric, meter) = (self.metric, meter());
        let builder = meter.f64_observable_gauge(metric.name).with_unit(metric.unit).with_description(metric.about);
        // It lives in the provider from here on.
        let _ = builder.with_callback(move |observer| values(&observe(&metric, observer))).build();
    }
}

/// A counter that somebody else counts: says how far, when it is asked.
#[derive(Debug)]
pub struct Tally {
    metric: Metric,
}

impl Tally {
    /// Declares it. To be kept in a static.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        Self { metric: Metric { name, kind: Kind::Counter, unit, labels, about, bounds: &[] } }
    }

    /// What was declared.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// As [`Gauge::observe`]; the values never fall.
    pub fn observe(&self, values: impl Fn(&Observe<'_>) + Send + Sync + 'static) {
        let (metric, meter) = (self.metric, meter());
        let builder = meter.f64_observable_counter(metric.name).with_unit(metric.unit).with_description(metric.about);
        let _ = builder.with_callback(move |observer| values(&observe(&metric, observer))).build();
    }
}

fn meter() -> Meter {
    global::meter(SCOPE)
}

/// Takes values down. Called while somebody reads the metrics.
pub type Observe<'a> = dyn Fn(f64, &[KeyValue]) + 'a;

fn observe<'a>(metric: &'a Metric, observer: &'a dyn AsyncInstrument<f64>) -> impl Fn(f64, &[KeyValue]) + 'a {
    move |value, labels| {
        check(metric, labels);
        observer.observe(value, labels);
    }
}

/// The page says which labels there are; tests run with this check.
fn check(metric: &Metric, labels: &[KeyValue]) {
    debug_assert!(
        labels.iter().all(|label| metric.labels.contains(&label.key.as_str())),
        "{} is given a label that it was not declared with: {labels:?}",
        metric.name
    );
}

/// The declarations of these statics, for the page and its test.
#[macro_export]
macro_rules! declared {
    ($($metric:path),* $(,)?) => {
        /// All metrics that are declared here.
        pub fn declared() -> Vec<$crate::Metric> {
            vec![$($metric.metric()),*]
        }
    };
}
