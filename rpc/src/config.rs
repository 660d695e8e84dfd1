//! The settings: files for TLS, a secret, or both.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{bail, ensure};
use secrecy::{ExposeSecret, SecretString};

use crate::secret::Secret;
use crate::tls::{Paths, Tls};

/// The least that a secret may be, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// How the processes of a cluster know each other.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calls between processes (gRPC)")]
#[group(skip)]
pub struct RpcConfig {
    /// This process's certificate, PEM, with the chain up to the authority. It, its key and the authority are read again
    /// when they change
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

    /// Names of which a caller's certificate must carry one; several with commas. Without it, whoever has a certificate of the
    /// authority may call
    #[arg(
        long,
        env = "VOICEPING_GRPC_TLS_CALLERS",
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "grpc_tls_cert"
    )]
    pub grpc_tls_callers: Vec<String>,

    /// A secret that all processes of the cluster share. Without TLS, for development: it is never sent, but calls can be
    /// read on the way
    #[arg(long, env = "VOICEPING_CLUSTER_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub cluster_secret: Option<SecretString>,
}

impl RpcConfig {
    /// Reads the files. Fails if there is nothing to know each other by.
    pub fn security(&self) -> anyhow::Result<Security> {
        let tls = match (&self.grpc_tls_cert, &self.grpc_tls_key, &self.grpc_tls_ca) {
            (Some(certificate), Some(key), Some(authority)) => {
                let paths = Paths { certificate: certificate.clone(), key: key.clone(), authority: authority.clone() };
                Some(Arc::new(Tls::new(paths, &self.grpc_tls_name, &self.grpc_tls_callers)?))
            }
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

/// What a process authenticates itself and others with. Cheap to clone; shows no key.
#[derive(Clone)]
pub struct Security {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) secret: Option<Secret>,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("tls", &self.tls.is_some())
            .field("secret", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}
