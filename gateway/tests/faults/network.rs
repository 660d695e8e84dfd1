//! What stands between the gateways and a media node: its service, behind a transport that does as the test says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, service_fn};
use voiceping_gateway::{MediaClient, media_client};
use voiceping_media_node::MediaNode;

/// What the transport does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It breaks: whether the call was carried out, nobody knows.
    Fail,
    /// It carries nothing.
    Hang,
    /// Nobody listens.
    Refuse,
}

/// The transport to one node. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    met: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    every: Option<Fault>,
    by_call: HashMap<&'static str, Fault>,
    met: Vec<String>,
    /// Ends the streams that are open.
    streams: CancellationToken,
}

impl Network {
    pub(crate) fn fault(&self, call: &'static str, fault: Fault) {
        self.state().by_call.insert(call, fault);
    }

    pub(crate) fn heal(&self, call: &'static str) {
        self.state().by_call.remove(call);
    }

    /// From now on every call meets this fault, and what was open is broken.
    pub(crate) fn cut(&self, fault: Fault) {
        let mut state = self.state();
        state.every = Some(fault);
        std::mem::take(&mut state.streams).cancel();
    }

    pub(crate) fn mend(&self) {
        self.state().every = None;
    }

    /// Waits until a call has met its fault.
    pub(crate) async fn until_asked(&self, call: &str) {
        let mut met = self.0.met.subscribe();
        while !self.state().met.iter().any(|path| path == call) {
            met.changed().await.expect("the network is there");
        }
    }

    /// A client of the node over this transport.
    pub(crate) fn client(&self, node: &MediaNode) -> MediaClient {
        let (node, network) = (node.service(), self.clone());
        media_client(service_fn(move |request: http::Request<Body>| {
            let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let (fault, streams) = network.meet(call);
            let mut node = node.clone();
            async move {
                match fault {
                    None => {
                        let Ok::<_, Infallible>(answer) = node.call(request).await;
                        let cut = Box::pin(streams.cancelled_owned());
                        Ok(answer.map(|body| Body::new(Cut { body, cut })))
                    }
                    Some(Fault::Fail) => Err(io::Error::other("the test says so")),
                    Some(Fault::Refuse) => Err(io::ErrorKind::ConnectionRefused.into()),
                    Some(Fault::Hang) => std::future::pending().await,
                }
            }
        }))
    }

    fn meet(&self, call: String) -> (Option<Fault>, CancellationToken) {
        let mut state = self.state();
        let fault = state.every.or_else(|| state.by_call.get(call.as_str()).copied());
        let streams = state.streams.clone();
        if fault.is_some() {
            state.met.push(call);
            drop(state);
            self.0.met.send_modify(|count| *count += 1);
        }
        (fault, streams)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("not poisoned")
    }
}

/// A stream that breaks when its connection does.
struct Cut {
    body: Body,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl hyper::body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::unavailable("the connection broke"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}
