//! What every part of VoicePing counts and traces with: metrics that are declared, spans of a press, and the context that
//! links them across processes.
//!
//! Used by all crates but the engine, which only counts. It sets nothing up and sends nothing: that is `voiceping-telemetry`'s,
//! once for each process, before anything here is used. Until then, and where nobody has switched it on, every call here
//! does next to nothing.

pub mod certificate;
pub mod metric;
pub mod trace;

pub use metric::{Counter, Gauge, Histogram, Kind, Metric, Tally};
pub use opentelemetry::KeyValue;
#[doc(hidden)]
pub use tracing;

/// A label of a metric, or an attribute of a span. Both are words of ours: nothing is allocated.
pub fn label(name: &'static str, value: &'static str) -> KeyValue {
    KeyValue::new(name, value)
}
