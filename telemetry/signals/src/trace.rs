//! The spans of a press, and the context that links them across processes (W3C Trace Context, `traceparent`).
//!
//! A press begins a trace; what is done for it, here or elsewhere, is a span of it; what nobody pressed for has none. So
//! all but [`begin`] and [`continued`] make spans only where one is under way, and cost a look at a thread-local elsewhere.
//! A context that comes from outside is read by the propagator, which takes what is well-formed and nothing else.

use std::future::Future;
use std::time::SystemTime;

use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Of all spans that are for traces. Who traces lets these through; nobody else pays for them.
pub const TARGET: &str = "voiceping::trace";

/// The name of the header, and of the context in general.
pub const HEADER: &str = "traceparent";

/// The longest context that is read: its version 00 has 55 characters.
const MAX_LEN: usize = 64;

/// A span for a trace: `span!("name", kind = "client", "rpc.method" = method)`. To be given to a function of this module.
#[macro_export]
macro_rules! span {
    ($name:expr, kind = $kind:literal $(, $field:literal = $value:expr)* $(,)?) => {
        $crate::tracing::info_span!(
            target: $crate::trace::TARGET,
            "span",
            otel.name = $name,
            otel.kind = $kind,
            otel.status_code = $crate::tracing::field::Empty,
            trace_id = $crate::tracing::field::Empty,
            $($field = $value,)*
        )
    };
}

/// Begins a trace with this span.
pub fn begin(span: Span) -> Span {
    // Also where the caller is inside of another trace: a press is one of its own.
    let _ = span.set_parent(Context::new());
    with_id(span)
}

/// Goes on with a trace that another process began, or another task. Without one there is no span.
pub fn continued(parent: Option<&str>, span: impl FnOnce() -> Span) -> Span {
    let Some(parent) = parent.and_then(parse) else { return Span::none() };
    let span = span();
    // It fails where nobody traces.
    let _ = span.set_parent(parent);
    with_id(span)
}

/// A step of the trace that is under way here; without one there is no span.
pub fn step(span: impl FnOnce() -> Span) -> Span {
    if is_under_way() { with_id(span()) } else { Span::none() }
}

/// Does this as a [`step`], and notes whether it failed.
pub async fn within<T, E>(span: impl FnOnce() -> Span, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let span = step(span);
    let done = work.instrument(span.clone()).await;
    if done.is_err() {
        failed(&span);
    }
    done
}

/// What the span stands for has failed.
pub fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// Is a trace under way here?
pub fn is_under_way() -> bool {
    Context::map_current(|context| context.has_active_span())
}

/// The context to pass on, to continue this trace elsewhere.
pub fn parent() -> Option<String> {
    if !is_under_way() {
        return None;
    }
    let mut carrier = Carrier(None);
    global::get_text_map_propagator(|propagator| propagator.inject_context(&Context::current(), &mut carrier));
    carrier.0
}

/// A step of a trace that is over already: from when to when it took place. For those who must not hold a span meanwhile.
pub fn passed(
    parent: &str,
    name: &'static str,
    (from, to): (SystemTime, SystemTime),
    attributes: impl IntoIterator<Item = KeyValue>,
) {
    let Some(parent) = parse(parent) else { return };
    let tracer = global::tracer("voiceping");
    let builder = tracer.span_builder(name).with_start_time(from).with_attributes(attributes);
    tracer.build_with_context(builder, &parent).end_with_timestamp(to);
}

/// The id of the trace that a context belongs to, for a log.
pub fn id(parent: &str) -> Option<String> {
    parse(parent).map(|context| context.span().span_context().trace_id().to_string())
}

fn parse(parent: &str) -> Option<Context> {
    if parent.len() > MAX_LEN {
        return None;
    }
    let carrier = Carrier(Some(parent.to_owned()));
    let context =
        global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &carrier));
    context.span().span_context().is_valid().then_some(context)
}

/// Writes the trace's id where the log sees it.
fn with_id(span: Span) -> Span {
    if !span.is_disabled() {
        let id = span.context().span().span_context().trace_id();
        span.record("trace_id", tracing::field::display(id));
    }
    span
}

/// A header and nothing else: state of other tracers is not passed on.
struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == HEADER)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const ELSEWHERE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What was exported while somebody traced.
    fn traced(work: impl FnOnce()) -> Vec<SpanData> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        exporter.get_finished_spans().expect("exported")
    }

    #[test]
    fn what_is_done_for_a_press_is_of_its_trace_and_nothing_else_is() {
        let mut passed_on = None;
        let spans = traced(|| {
            assert!(step(|| span!("nobody pressed", kind = "internal")).is_none());
            assert_eq!(parent(), None);
            begin(span!("press", kind = "server")).in_scope(|| {
                step(|| span!("step", kind = "client", "rpc.method" = "X")).in_scope(|| passed_on = parent());
            });
            continued(passed_on.as_deref(), || span!("elsewhere", kind = "server")).in_scope(|| {});
        });
        let find = |name: &str| spans.iter().find(|span| span.name == name).expect(name);
        let (press, step, elsewhere) = (find("press"), find("step"), find("elsewhere"));
        assert_eq!(spans.len(), 3);
        assert!(spans.iter().all(|span| span.span_context.trace_id() == press.span_context.trace_id()));
        assert_eq!(step.parent_span_id, press.span_context.span_id());
        assert_eq!(elsewhere.parent_span_id, step.span_context.span_id());
        assert!(elsewhere.parent_span_is_remote);
    }

    #[test]
    fn a_press_is_a_trace_of_its_own() {
        let spans = traced(|| {
            begin(span!("first", kind = "server")).in_scope(|| {
                begin(span!("second", kind = "server")).in_scope(|| {});
            });
        });
        assert_ne!(spans[0].span_context.trace_id(), spans[1].span_context.trace_id());
    }

    #[test]
    fn a_context_that_is_none_makes_no_span() {
        let long = format!("{ELSEWHERE}{}", "0".repeat(100));
        let spans = traced(|| {
            for bad in [
                "",
                "00",
                "00-zz-b7ad6b7169203331-01",
                "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                &long,
            ] {
                assert!(continued(Some(bad), || span!("x", kind = "server")).is_none(), "{bad}");
            }
            assert!(!continued(Some(ELSEWHERE), || span!("x", kind = "server")).is_none());
        });
        assert_eq!(spans.len(), 1);
        assert_eq!(id(ELSEWHERE).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    }

    #[test]
    fn without_anybody_who_traces_nothing_happens() {
        let span = begin(span!("press", kind = "server"));
        assert!(span.is_disabled());
        span.in_scope(|| assert_eq!(parent(), None));
        passed(ELSEWHERE, "first packet", (SystemTime::now(), SystemTime::now()), []);
    }
}
