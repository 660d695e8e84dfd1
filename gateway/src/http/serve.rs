//! Accepts connections until the gateway ends, and bounds all that one can do before it has shown a token: how many there
//! are, how long a TLS handshake and a request's header may take and how large it may be, how long a connection lives that
//! becomes no WebSocket. A client that sends one byte a minute would keep its connection for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::shared::Shared;

/// For a TLS handshake.
const TLS_PATIENCE: Duration = Duration::from_secs(10);

/// For a request's header, and for a connection that is kept for the next request.
const HEADER_PATIENCE: Duration = Duration::from_secs(15);

/// For all requests of a connection, and then for the last of them.
const LIFETIME: Duration = Duration::from_secs(120);
const LAST_REQUEST: Duration = Duration::from_secs(15);

/// A request's header: room for a token in it, and for what proxies add.
const MAX_HEADER: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// Out of file descriptors: some are given back in a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `end`, then lets the requests under way finish; the gateway's tasks know when they have.
pub(crate) async fn serve(listener: TcpListener, router: Router, gateway: &Arc<Shared>, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let Some(guest) = gateway.guests.enter((!gateway.config.proxy.trusts(address)).then_some(address))
                else {
                    tracing::debug!(%address, "a connection was refused: there are too many without a token");
                    continue;
                };
                let (router, shared, end) = (router.clone(), Arc::clone(gateway), end.clone());
                gateway.tasks.spawn(async move {
                    accepted_one(stream, peer, router, shared, end).await;
                    drop(guest);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accepted_one(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    gateway: Arc<Shared>,
    end: CancellationToken,
) {
    // A grant must not wait for the next packet. It fails only for a connection that is gone.
    let _ = stream.set_nodelay(true);
    match &gateway.tls {
        None => connection(stream, peer, router, Arc::clone(&gateway), end).await,
        // A handshake that fails is a client that does not trust us, or no client.
        Some(tls) => {
            let accepted = tokio::select! {
                accepted = timeout(TLS_PATIENCE, tls.acceptor.accept(stream)) => accepted,
                () = end.cancelled() => return,
            };
            if let Ok(Ok(stream)) = accepted {
                Box::pin(connection(stream, peer, router, Arc::clone(&gateway), end)).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
    gateway: Arc<Shared>,
    end: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let client = SocketAddr::new(gateway.config.proxy.client(peer, request.headers()), peer.port());
        request.extensions_mut().insert(ConnectInfo(client));
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // An error here is a client that left or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = end.cancelled() => connection.as_mut().graceful_shutdown(),
        () = sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(LAST_REQUEST, connection).await;
            return;
        }
    }
    let _ = connection.await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}
