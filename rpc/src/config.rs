//! The settings: files for TLS, a secret, or both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::secret::Secret;

/// The least that a secret may be, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// How the processes of a cluster know each other.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calls between processes (gRPC)")]
#[group(skip)]
pub struct RpcConfig {
    /// This process's certificate, PEM, with the chain up to the authority
    #[arg(long, env = "VOICEPING_GRPC_TLS_CERT", value_name = "FILE", requires_all = ["grpc_tls_key", "grpc_tls_ca"])]
    pub grpc_tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, env = "VOICEPING_GRPC_TLS_KEY", value_name = "FILE", requires = "grpc_tls_cert")]
    pub grpc_tls_key: Option<PathBuf>,

    /// The authority that signs the certificates of the cluster's processes, PEM. Whoever has one of its certificates is
    /// let in: use an authority of the cluster's own
    #[arg(long, env = "VOICEPING_GRPC_TLS_CA", value_name = "FILE", requires = "grpc_tls_cert")]
    pub grpc_tls_ca: Option<PathBuf>,

    /// The name that every media node's certificate carries; nodes are called by addresses that change
    #[arg(long, env = "VOICEPING_GRPC_TLS_NAME", value_name = "NAME", default_value = "media-node.voiceping")]
    pub grpc_tls_name: String,

    /// A secret that all processes of the cluster share. Without TLS, for development: it is never sent, but calls can be
    /// read on the way
    #[arg(long, env = "VOICEPING_CLUSTER_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub cluster_secret: Option<SecretString>,
}

impl RpcConfig {
    /// Reads the files. Fails if there is nothing to know each other by.
    pub fn security(&self) -> anyhow::Result<Security> {
        let tls = match (&self.grpc_tls_cert, &self.grpc_tls_key, &self.grpc_tls_ca) {
            (Some(cert), Some(key), Some(ca)) => Some(Arc::new(Tls {
                identity: Identity::from_pem(
                    certificate("--grpc-tls-cert", cert, "grpc")?,
                    read("--grpc-tls-key", key)?,
                ),
                ca: Certificate::from_pem(certificate("--grpc-tls-ca", ca, "grpc_ca")?),
                name: self.grpc_tls_name.clone(),
            })),
            _ => None,
        };
        let secret = match &self.cluster_secret {
            Some(secret) => {
                let secret = secret.expose_secret().as_bytes();
                ensure!(
                    secret.len() >= MIN_SECRET_BYTES,
                    "--cluster-secret: it must have at least {MIN_SECRET_BYTES} bytes"
                );
                Some(Secret::new(secret))
            }
            None => None,
        };
        if tls.is_none() && secret.is_none() {
            bail!(
                "the processes of a cluster must know each other: give --grpc-tls-cert, --grpc-tls-key and --grpc-tls-ca, \
                 or --cluster-secret for development"
            );
        }
        Ok(Security { tls, secret })
    }
}

fn certificate(flag: &str, path: &Path, purpose: &'static str) -> anyhow::Result<Vec<u8>> {
    let pem = read(flag, path)?;
    voiceping_signals::certificate::in_use(purpose, &pem);
    Ok(pem)
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{flag}: cannot read {}", path.display()))
}

/// What a process authenticates itself and others with. Cheap to clone; shows no key.
#[derive(Clone)]
pub struct Security {
    tls: Option<Arc<Tls>>,
    pub(crate) secret: Option<Secret>,
}

struct Tls {
    identity: Identity,
    ca: Certificate,
    name: String,
}

impl Security {
    pub(crate) fn client_tls(&self) -> Option<ClientTlsConfig> {
        self.tls.as_ref().map(|tls| {
            ClientTlsConfig::new()
                .identity(tls.identity.clone())
                .ca_certificate(tls.ca.clone())
                .domain_name(tls.name.clone())
        })
    }

    pub(crate) fn server_tls(&self) -> Option<ServerTlsConfig> {
        self.tls
            .as_ref()
            .map(|tls| ServerTlsConfig::new().identity(tls.identity.clone()).client_ca_root(tls.ca.clone()))
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("tls", &self.tls.is_some())
            .field("secret", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}
