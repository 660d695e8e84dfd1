//! Mutual TLS between processes, from files that may change: connections that are made from then on use the new ones, and
//! those that are open stay.
//!
//! The files are looked at when a connection is made, which is seldom, and not more often than once in [`LOOK_AGAIN`].
//! Files that do not fit together are not taken. Both sides check each other's chain up to the cluster's authority; the
//! caller checks the name of whom it calls, the called, where it is told to, the name of its caller.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Where the certificate, its key and the authority are.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
}

/// This process's side of TLS.
pub(crate) struct Tls {
    paths: Paths,
    /// The name of whom it calls.
    called: ServerName<'static>,
    /// The names of who may call it; none: anybody of the authority.
    callers: Vec<ServerName<'static>>,
    current: Mutex<Current>,
}

struct Current {
    looked: Instant,
    contents: [Vec<u8>; 3],
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn new(paths: Paths, called: &str, callers: &[String]) -> anyhow::Result<Self> {
        let name = |flag: &str, name: &str| {
            ServerName::try_from(name.to_owned()).with_context(|| format!("{flag}: {name:?} is no name"))
        };
        let callers = callers.iter().map(|caller| name("--grpc-tls-callers", caller)).collect::<Result<_, _>>()?;
        let current = Mutex::new(Current::of(paths.read()?)?);
        Ok(Self { called: name("--grpc-tls-name", called)?, callers, current, paths })
    }

    /// Calls over a connection.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let config = self.current(|current| Arc::clone(&current.client));
        TlsConnector::from(config).connect(self.called.clone(), stream).await
    }

    /// Is called over a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let config = self.current(|current| Arc::clone(&current.server));
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        if !self.callers.is_empty() {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = certificate.and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
            let is_named = |certificate: &ParsedCertificate<'_>| {
                self.callers.iter().any(|name| verify_server_name(certificate, name).is_ok())
            };
            if !certificate.as_ref().is_some_and(is_named) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the caller has another name"));
            }
        }
        Ok(stream)
    }

    fn current<T>(&self, pick: impl FnOnce(&Current) -> T) -> T {
        let mut current = self.current.lock().expect("nothing panics under the lock");
        if current.looked.elapsed() >= LOOK_AGAIN {
            current.looked = Instant::now();
            match self.paths.read() {
                Ok(contents) if contents == current.contents => {}
                read => match read.and_then(Current::of) {
                    Ok(new) => {
                        tracing::info!("the certificates of calls between processes have changed");
                        *current = new;
                    }
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "the new certificates are no good; the last stay");
                    }
                },
            }
        }
        pick(&current)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Paths {
    fn read(&self) -> anyhow::Result<[Vec<u8>; 3]> {
        let read = |flag: &str, path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("{flag}: cannot read {}", path.display()))
        };
        Ok([
            read("--grpc-tls-cert", &self.certificate)?,
            read("--grpc-tls-key", &self.key)?,
            read("--grpc-tls-ca", &self.authority)?,
        ])
    }
}

impl Current {
    fn of(contents: [Vec<u8>; 3]) -> anyhow::Result<Self> {
        let [certificate, key, authority] = &contents;
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("--grpc-tls-cert", certificate)?;
        let key = || PrivateKeyDer::from_pem_slice(key).context("--grpc-tls-key: it is no PEM");
        let mut roots = RootCertStore::empty();
        for authority in certificates("--grpc-tls-ca", authority)? {
            roots.add(authority).context("--grpc-tls-ca: it is no authority")?;
        }
        let roots = Arc::new(roots);
        let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let called = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(callers.build().context("--grpc-tls-ca: no caller could be verified")?)
            .with_single_cert(chain.clone(), key()?)
            .context("--grpc-tls-cert and --grpc-tls-key do not fit")?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(called.build().context("--grpc-tls-ca: nobody could be verified")?)
            .with_client_auth_cert(chain, key()?)
            .context("--grpc-tls-cert and --grpc-tls-key do not fit")?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols.clone_from(&server.alpn_protocols);
        voiceping_signals::certificate::in_use("grpc", certificate);
        voiceping_signals::certificate::in_use("grpc_ca", authority);
        Ok(Self { looked: Instant::now(), client: Arc::new(client), server: Arc::new(server), contents })
    }
}

fn certificates(flag: &str, pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.with_context(|| format!("{flag}: it is no PEM"))?;
    ensure!(!certificates.is_empty(), "{flag}: there is no certificate in it");
    Ok(certificates)
}
