//! What is counted and traced of calls, on both sides: how long they take, how they end, and whose press they are for.
//!
//! The trace's context goes in the metadata (W3C `traceparent`). A call that belongs to no press has no spans. Both sides are
//! wrappers of a service, so that calls within one process look the same as those between two.

use std::future::Future;
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use tracing::Instrument;
use voiceping_signals::metric::BOUNDS;
use voiceping_signals::{Histogram, KeyValue, label, span, trace};

static CALLED: Histogram = Histogram::new("rpc.client.call.duration", "s", LABELS, BOUNDS, "Calls made");
static ANSWERED: Histogram = Histogram::new("rpc.server.call.duration", "s", LABELS, BOUNDS, "Calls answered");

voiceping_signals::declared!(CALLED, ANSWERED);

const LABELS: &[&str] = &["rpc.system.name", "rpc.method", "rpc.response.status_code"];

/// A service that is called through here.
pub type Watched<E> = BoxCloneSyncService<Request<Body>, Response<Body>, E>;

/// A service in this process, called as if it were in another: both sides of a call are watched.
pub fn in_process<S>(service: S) -> Watched<S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
{
    BoxCloneSyncService::new(tower::service_fn(move |request| {
        let service = service.clone();
        called(request, |request| answered(request, |request| service.oneshot(request)))
    }))
}

/// The calling side.
pub(crate) async fn called<F, E>(
    mut request: Request<Body>,
    call: impl FnOnce(Request<Body>) -> F,
) -> Result<Response<Body>, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    let (method, began) = (method(&request), Instant::now());
    let span = trace::step(|| span!(method.as_str(), kind = "client", "rpc.system.name" = "grpc"));
    let parent = span.in_scope(trace::parent).and_then(|parent| HeaderValue::try_from(parent).ok());
    if let Some(parent) = parent {
        request.headers_mut().insert(trace::HEADER, parent);
    }
    let outcome = call(request).instrument(span.clone()).await;
    let code = outcome.as_ref().map_or(Code::Unavailable, code);
    if code != Code::Ok {
        trace::failed(&span);
    }
    note(&CALLED, method, code, began);
    outcome
}

/// The answering side. To be called only for those who may call: it believes them whose trace they continue.
pub(crate) async fn answered<F, E>(
    mut request: Request<Body>,
    answer: impl FnOnce(Request<Body>) -> F,
) -> Result<Response<Body>, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    let (method, began) = (method(&request), Instant::now());
    let parent = request.headers_mut().remove(trace::HEADER);
    let parent = parent.as_ref().and_then(|parent| parent.to_str().ok());
    let span = trace::continued(parent, || span!(method.as_str(), kind = "server", "rpc.system.name" = "grpc"));
    let outcome = answer(request).instrument(span.clone()).await;
    let code = outcome.as_ref().map_or(Code::Unavailable, code);
    if code != Code::Ok {
        trace::failed(&span);
    }
    // What is not there can have any name.
    let method = if code == Code::Unimplemented { "_OTHER".to_owned() } else { method };
    note(&ANSWERED, method, code, began);
    outcome
}

fn note(metric: &Histogram, method: String, code: Code, began: Instant) {
    let labels = [
        label("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method),
        label("rpc.response.status_code", word(code)),
    ];
    metric.record(began.elapsed().as_secs_f64(), &labels);
}

fn method(request: &Request<Body>) -> String {
    request.uri().path().trim_start_matches('/').to_owned()
}

/// A refusal is in the headers; an answer has its status behind the body, and is one.
fn code(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

/// As gRPC writes them.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
