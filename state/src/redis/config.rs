//! Where the servers are, and how long they are waited for.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

/// Settings of [`Redis`](super::Redis).
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Where the servers are.
    pub servers: Servers,
    /// The password of the servers, for URLs that have none. Behind Sentinels it comes before what their URLs have, which is
    /// then theirs alone.
    pub password: Option<SecretString>,
    /// The authority that signed the servers' certificates, as PEM; `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// In front of all names, so that deployments can share a server.
    pub prefix: String,
    /// How long a call waits for its answer.
    pub timeout: Duration,
    /// How long members outlive the last sign of their gateway.
    pub presence_lease: Duration,
}

impl RedisConfig {
    /// The usual settings for these servers.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            password: None,
            ca: None,
            prefix: "voiceping".into(),
            timeout: Duration::from_secs(1),
            presence_lease: Duration::from_secs(15),
        }
    }
}

/// One server or several that act as one. URLs are `redis://user:password@host:port/db`, or `rediss://` for TLS.
#[derive(Clone)]
pub enum Servers {
    /// One server.
    Standalone(String),
    /// A Redis Cluster: some of its nodes, with the same credentials.
    Cluster(Vec<String>),
    /// A server and its replicas, watched by Sentinels.
    Sentinel {
        /// Some of the Sentinels. Credentials and TLS of the first URL are those of all, and of the servers too.
        sentinels: Vec<String>,
        /// The name under which they know the master.
        master: String,
    },
}

/// Without the URLs: they hold passwords.
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone(_) => f.write_str("Standalone"),
            Self::Cluster(urls) => write!(f, "Cluster({} nodes)", urls.len()),
            Self::Sentinel { sentinels, master } => write!(f, "Sentinel({} for {master})", sentinels.len()),
        }
    }
}

/// The servers cannot be what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisConfigError(pub(super) String);
