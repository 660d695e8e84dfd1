//! The media node, as the gateway reaches it.
//!
//! [`MediaClient`] is the generated client over any transport: the all-in-one passes the node's service itself, a
//! cluster a channel over HTTP/2. Every call has a time that it may take.

pub(crate) mod events;
pub(crate) mod json;

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::{Response, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use voiceping_proto::media::v1::media_node_client::MediaNodeClient;

/// The generated client over any transport.
pub type MediaClient = MediaNodeClient<MediaService>;

/// Whatever carries a call to a media node and its answer back.
pub type MediaService = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>;

/// The transport could not carry a call.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CallError(StdError);

/// A client over a transport: the node's own service, or a channel to it.
pub fn media_client<S>(transport: S) -> MediaClient
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
{
    MediaNodeClient::new(BoxCloneSyncService::new(transport.map_err(|error| CallError(error.into()))))
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Calls a media node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    client: MediaClient,
}

impl Media {
    pub(crate) fn new(client: MediaClient) -> Self {
        Self { client }
    }

    /// Makes a call and waits for its answer, but not for ever. A call that was given up may have been carried out.
    pub(crate) async fn call<T, F>(&self, rpc: impl FnOnce(MediaClient) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // In a box: a call is large, and would make every future that makes one so.
        match timeout(PATIENCE, Box::pin(rpc(self.client.clone()))).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the media node did not answer in time")),
        }
    }
}
