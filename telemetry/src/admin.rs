//! The admin port: `/metrics` for Prometheus, `/livez` about the process, `/readyz` about new clients.
//!
//! For operators; it shows no secrets and changes nothing. A few connections at a time, each with a limit on the time that
//! a request may take to come, so that even a stranger who reaches it cannot hold anything up.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::role::Role;

/// At a time. Prometheus keeps one, probes come and go.
const CONNECTIONS: usize = 64;

/// For a request's header, and for a connection that is kept for the next request.
const HEADER_PATIENCE: Duration = Duration::from_secs(90);

/// Whether a role is ready is to be said while the prober still listens.
const READY_PATIENCE: Duration = Duration::from_secs(3);

/// Out of file descriptors: some are given back in a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port, served until this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    local_addr: SocketAddr,
    told: Arc<Told>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Told {
    registry: Registry,
    /// `None`: it is still starting.
    role: Mutex<Option<Role>>,
}

impl Admin {
    /// Binds the port and serves it.
    pub(crate) fn start(address: SocketAddr, registry: Registry) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}; choose another with --admin-listen"))?;
        listener.set_nonblocking(true).context("cannot listen without blocking")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("the port cannot be used")?;
        let local_addr = listener.local_addr().context("the port cannot be read back")?;
        tracing::info!("metrics are at http://{local_addr}/metrics");
        let told = Arc::new(Told { registry, role: Mutex::default() });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "live"))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(&told));
        Ok(Self { local_addr, told, serving: tokio::spawn(serve(listener, router)) })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whom to ask from now on.
    pub(crate) fn watch(&self, role: Role) {
        *self.told.role.lock().unwrap_or_else(PoisonError::into_inner) = Some(role);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: tokio::net::TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It fails only when the semaphore is closed, which nobody does.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, router).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // An error is a client that left or spoke no HTTP.
    let _ = connection.await;
}

/// On a thread where it may take its time: with many series it is a millisecond's work.
async fn metrics(State(told): State<Arc<Told>>) -> Response {
    let text = spawn_blocking(move || TextEncoder::new().encode_to_string(&told.registry.gather())).await;
    match text {
        Ok(Ok(text)) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(told): State<Arc<Told>>) -> (StatusCode, &'static str) {
    let role = told.role.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(role) = role else { return (StatusCode::SERVICE_UNAVAILABLE, "starting") };
    match timeout(READY_PATIENCE, role.ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready"),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
    }
}
