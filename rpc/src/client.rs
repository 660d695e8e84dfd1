//! The calling side: connections that are made when they are needed, made again when they break, and authenticated.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::config::Security;
use crate::secret::{HEADER, same};
use crate::tls::Tls;
use crate::watch::called;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);

/// An idle connection is asked for a sign of life this often, and given up when none comes for so long: a process that
/// was stopped, or a network that is gone, says nothing by itself. Longer than a busy machine stalls.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(1);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A way to one process: what generated clients are made over.
pub type RpcChannel = BoxCloneSyncService<Request<Body>, Response<Body>, RpcError>;

/// A call that was not answered by the process that was meant.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// It could not be carried there and back.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    /// Whoever answered has not proven to know the cluster's secret.
    #[error("the process that answered does not know the cluster's secret")]
    Stranger,
}

/// Opens ways to other processes of the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    security: Security,
}

impl Dialer {
    /// A dialer that authenticates in this way.
    pub fn new(security: Security) -> Self {
        Self { security }
    }

    /// A way to the process at `address` ("host:port"). Nothing is sent before the first call; a connection that breaks is
    /// made again by the next call. Fails only if the address is none.
    pub fn dial(&self, address: &str) -> anyhow::Result<RpcChannel> {
        // TLS, where there is any, is below what tonic sees.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .with_context(|| format!("{address} is no address to call"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = match &self.security.tls {
            None => endpoint.connect_lazy(),
            Some(tls) => {
                let (tls, address) = (Arc::clone(tls), address.to_owned());
                let connect = move |_| connected(Arc::clone(&tls), address.clone());
                endpoint.connect_with_connector_lazy(tower::service_fn(connect))
            }
        };
        let security = self.security.clone();
        Ok(BoxCloneSyncService::new(tower::service_fn(move |request| {
            let (channel, security) = (channel.clone(), security.clone());
            called(request, |request| call(channel, security, request))
        })))
    }
}

async fn connected(tls: Arc<Tls>, address: String) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(tls.connect(stream).await?))
}

async fn call(
    mut channel: Channel,
    security: Security,
    mut request: Request<Body>,
) -> Result<Response<Body>, RpcError> {
    let proof = security.secret.as_ref().map(|secret| secret.prove(request.uri().path()));
    if let Some(proof) = &proof {
        request.headers_mut().insert(HEADER, proof.sent.clone());
    }
    let response = channel.ready().await?.call(request).await?;
    let Some(proof) = proof else { return Ok(response) };
    let proven =
        response.headers().get(HEADER).is_some_and(|answer| same(answer.as_bytes(), proof.expected.as_bytes()));
    // A refusal says why; it is no answer that anything would be done with.
    let refused =
        Status::from_header_map(response.headers()).is_some_and(|status| status.code() == tonic::Code::Unauthenticated);
    if proven || refused { Ok(response) } else { Err(RpcError::Stranger) }
}

/// Whether a call failed because nobody listens at the address: the process that was there is gone. A network that carries
/// nothing, or a process that is stopped, does not answer so.
pub fn is_refused(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}
