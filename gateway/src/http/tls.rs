//! TLS on the gateway's own port, for deployments without a proxy in front of it: 1.2 and 1.3, by rustls.
//!
//! The certificate and its key are files that are read again when they change: who connects then is shown the new one, and
//! sockets that are open stay. A pair that does not fit together is not taken.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::files::Files;

/// Settings of TLS.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
#[group(skip)]
pub struct TlsConfig {
    /// The certificate of this gateway's port, PEM, with its chain. Read again when it changes. Without it the port speaks
    /// plain HTTP: for a proxy in front of it, or this machine
    #[arg(long, env = "VOICEPING_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, env = "VOICEPING_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// What connections are accepted with.
pub(crate) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: Files,
}

impl Tls {
    /// `None` without a certificate.
    pub(crate) fn from_config(config: &TlsConfig) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let (files, pair) = Files::open("--tls-cert and --tls-key", &[certificate, key], pair)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current, files }))
    }

    /// Takes in what has changed.
    pub(crate) fn look_at_files(&self) {
        if let Some(pair) = self.files.changed(pair) {
            *self.current.0.write().expect("nothing panics under the lock") = Arc::new(pair);
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate of the moment.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("nothing panics under the lock")))
    }
}

fn pair(contents: &[Vec<u8>]) -> anyhow::Result<CertifiedKey> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents[0]).collect();
    let chain = chain.context("the certificate is no PEM")?;
    ensure!(!chain.is_empty(), "there is no certificate in the file");
    let key = PrivateKeyDer::from_pem_slice(&contents[1]).context("the key is no PEM")?;
    let pair =
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).context("certificate and key do not fit")?;
    voiceping_signals::certificate::in_use("websocket", &contents[0]);
    Ok(pair)
}
