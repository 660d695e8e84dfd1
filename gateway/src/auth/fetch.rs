//! One GET of an identity provider's keys, over HTTPS or, inside a cluster, HTTP. Bounded in time and size; follows no
//! redirects, so that the keys come from nowhere else than where the operator says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::body::Body;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(5);

const MAX_BYTES: usize = 1024 * 1024;

/// Where keys come from.
pub(super) struct Source {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl Source {
    /// An address of keys; `ca`: the authority of its certificate, if it is not one that this system trusts.
    pub(super) fn new(address: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let uri: Uri = address.parse().context("it is no address")?;
        let host = uri.host().context("it names no host")?.trim_matches(['[', ']']).to_owned();
        ensure!(!uri.authority().is_some_and(|authority| authority.as_str().contains('@')), "it contains a password");
        let (port, tls) = match uri.scheme_str() {
            Some("https") => (443, Some(connector(ca)?)),
            Some("http") => (80, None),
            _ => bail!("it begins with neither https:// nor http://"),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { uri, host, port, tls })
    }

    /// Their text.
    pub(super) async fn get(&self) -> anyhow::Result<Vec<u8>> {
        timeout(PATIENCE, Box::pin(self.try_get())).await.context("no answer in time")?
    }

    async fn try_get(&self) -> anyhow::Result<Vec<u8>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.context("no connection")?;
        match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).context("its host is no name")?;
                self.get_over(tls.connect(name, stream).await.context("no TLS connection")?).await
            }
            None => self.get_over(stream).await,
        }
    }

    async fn get_over(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> anyhow::Result<Vec<u8>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("it speaks no HTTP")?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("voiceping/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            ensure!(response.status() == StatusCode::OK, "the answer is {}", response.status());
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            Ok(body
                .map_err(|error| anyhow::anyhow!("the answer breaks off or is too large: {error}"))?
                .to_bytes()
                .to_vec())
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // All of the answer may have come before the connection ended.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without its query, which may be a secret.
        f.debug_struct("Source").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

fn connector(ca: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).context("--jwks-ca cannot be read")?;
            for certificate in certificates {
                roots.add(certificate.context("--jwks-ca is no good")?).context("--jwks-ca is no good")?;
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(added > 0, "this system trusts no authority; give --jwks-ca");
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
