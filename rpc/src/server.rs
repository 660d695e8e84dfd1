//! The called side: services behind authentication, with health and reflection beside them.

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::Context;
use http::{Request, Response};
use tokio::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::accept;
use crate::client::{KEEPALIVE, KEEPALIVE_TIMEOUT};
use crate::config::Security;
use crate::secret::HEADER;
use crate::watch::answered;

/// How long calls may go on after the end was asked for.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// Serves gRPC: services that were [added](Self::add), which only processes of the cluster may call, and the standard ones
/// for health (grpc.health.v1) and reflection, which say nothing that a stranger could use and are open to probes.
#[derive(Debug)]
pub struct Server {
    security: Security,
    routes: Routes,
    health: tonic_health::server::HealthReporter,
}

impl Server {
    /// A server without services of its own yet.
    pub fn new(security: Security) -> anyhow::Result<Self> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(voiceping_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .context("the descriptors for reflection are no good")?;
        Ok(Self { security, routes: Routes::new(health_service).add_service(reflection), health })
    }

    /// Serves this too, to processes of the cluster.
    pub async fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.health.set_service_status(S::NAME, tonic_health::ServingStatus::Serving).await;
        self.routes = self.routes.add_service(Authenticated { inner: service, security: self.security.clone() });
        self
    }

    /// Serves until `end`, and then what was begun, but not for long.
    pub async fn run(
        self,
        listener: TcpListener,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        listener.set_nonblocking(true).context("cannot listen without blocking")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("the port cannot be used")?;
        let mut server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
        let health = self.health;
        let (ending, ended) = tokio::sync::oneshot::channel();
        let until = async move {
            end.await;
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            // Nobody waits only when it was cut off.
            let _ = ending.send(());
        };
        let incoming = accept::connections(listener, self.security.tls.clone());
        let serving = server.add_routes(self.routes).serve_with_incoming_shutdown(incoming, until);
        let cut_off = async {
            if ended.await.is_ok() {
                tokio::time::sleep(LAST_CALLS).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = serving => served.context("gRPC cannot be served"),
            () = cut_off => Ok(()),
        }
    }
}

/// A service that answers callers who prove to be of the cluster, and proves the same to them.
#[derive(Debug, Clone)]
struct Authenticated<S> {
    inner: S,
    security: Security,
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    fn answer(&mut self, request: Request<Body>) -> Answer {
        // The one that was polled is the one that is ready.
        let next = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, next);
        Box::pin(answered(request, move |request| ready.call(request)))
    }
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(secret) = &self.security.secret else {
            // The caller has shown a certificate of the cluster's authority.
            return self.answer(request);
        };
        let answer = request.headers().get(HEADER).and_then(|sent| secret.check(request.uri().path(), sent));
        let Some(answer) = answer else {
            tracing::warn!(path = request.uri().path(), "a call without a proof of the cluster's secret was refused");
            let status = Status::unauthenticated("the caller has not proven to know the cluster's secret");
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let response = self.answer(request);
        Box::pin(async move {
            let mut response = response.await?;
            response.headers_mut().insert(HEADER, answer);
            Ok(response)
        })
    }
}
