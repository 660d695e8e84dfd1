//! The media nodes' contract, as the gateway speaks it: the client, and the JSON that its messages become.
//!
//! [`MediaClient`] is the generated client over any transport: the all-in-one passes the node's service itself, a
//! cluster a channel over HTTP/2.

pub(crate) mod json;

use tonic::body::Body;
use tonic::codegen::StdError;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use voiceping_proto::media::v1::media_node_client::MediaNodeClient;

/// The generated client over any transport.
pub type MediaClient = MediaNodeClient<MediaService>;

/// Whatever carries a call to a media node and its answer back.
pub type MediaService = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>;

/// The transport could not carry a call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CallError(#[source] StdError);

/// A client over a transport: the node's own service, or a channel to it.
pub fn media_client<S>(transport: S) -> MediaClient
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
{
    MediaNodeClient::new(BoxCloneSyncService::new(transport.map_err(|error| CallError(error.into()))))
}
