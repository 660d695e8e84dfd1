//! Makes connections: to the one server, to a Cluster, or to the master that the Sentinels name now.

use std::fmt;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value, cmd,
};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::config::{RedisConfig, RedisConfigError, Servers};

/// Takes what the server says unasked. Called by the connection's own task: never waits.
pub(super) type Push = Box<dyn Fn(PushInfo) + Send + Sync>;

pub(super) struct Dialer {
    servers: Dialed,
    patience: Duration,
}

enum Dialed {
    Standalone(Client),
    Cluster(ClusterClient),
    Sentinel(Mutex<SentinelClient>),
}

impl Dialer {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, RedisConfigError> {
        // One process may hold several crypto providers, through its tests or its dependencies: this one is ours. It is
        // fine if somebody else has chosen before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let servers =
            servers(config).map_err(|error| RedisConfigError(format!("the Redis settings are no good: {error}")))?;
        Ok(Self { servers, patience: config.timeout })
    }

    /// A new connection; what the server says unasked goes to `push`.
    pub(super) async fn dial(&self, push: Option<Push>) -> RedisResult<Connection> {
        // Room for the question to a Sentinel, or to a Cluster's node that does not answer, before the connection.
        let all = timeout(self.patience * 2, Box::pin(self.connect(push)));
        all.await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn connect(&self, push: Option<Push>) -> RedisResult<Connection> {
        match &self.servers {
            Dialed::Standalone(client) => self.single(client, push).await,
            Dialed::Sentinel(sentinels) => {
                let client = sentinels.lock().await.async_get_client().await?;
                self.single(&client, push).await
            }
            Dialed::Cluster(client) => {
                let mut config = ClusterConfig::new().set_connection_timeout(self.patience);
                config = config.set_response_timeout(self.patience);
                if let Some(push) = push {
                    config = config.set_push_sender(sender(push));
                }
                Ok(Connection::Cluster(client.get_async_connection_with_config(config).await?))
            }
        }
    }

    async fn single(&self, client: &Client, push: Option<Push>) -> RedisResult<Connection> {
        let mut config = AsyncConnectionConfig::new().set_connection_timeout(Some(self.patience));
        config = config.set_response_timeout(Some(self.patience));
        if let Some(push) = push {
            config = config.set_push_sender(sender(push));
        }
        Ok(Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

fn sender(push: Push) -> impl AsyncPushSender {
    move |info: PushInfo| {
        push(info);
        Ok::<(), std::convert::Infallible>(())
    }
}

fn servers(config: &RedisConfig) -> RedisResult<Dialed> {
    let certificates = |info: &ConnectionInfo| match (info.addr(), &config.ca) {
        (ConnectionAddr::TcpTls { .. }, Some(ca)) => {
            Some(TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) })
        }
        _ => None,
    };
    Ok(match &config.servers {
        Servers::Standalone(url) => {
            let info = info(config, url)?;
            Dialed::Standalone(match certificates(&info) {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            })
        }
        Servers::Cluster(urls) => {
            let nodes = urls.iter().map(|url| info(config, url)).collect::<RedisResult<Vec<_>>>()?;
            let certificates = nodes.first().and_then(certificates);
            // Enough for a redirection. What takes longer is an error now, and right again when the shard is.
            let mut client = ClusterClient::builder(nodes).retries(3).min_retry_wait(10).max_retry_wait(50);
            if let Some(certificates) = certificates {
                client = client.certs(certificates);
            }
            Dialed::Cluster(client.use_protocol(ProtocolVersion::RESP3).build()?)
        }
        Servers::Sentinel { sentinels, master } => {
            let infos = sentinels.iter().map(|url| info(config, url)).collect::<RedisResult<Vec<_>>>()?;
            let first = infos.first().ok_or((ErrorKind::InvalidClientConfig, "no Sentinel is given"))?;
            let addresses = infos.iter().map(|info| info.addr().clone());
            let mut client = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
            let settings = first.redis_settings();
            client = client.set_client_to_redis_protocol(settings.protocol()).set_client_to_redis_db(settings.db());
            // Unlike AUTH, the greeting of this protocol may bring a password to a Sentinel that wants none.
            client = client.set_client_to_sentinel_protocol(settings.protocol());
            if let Some(user) = settings.username() {
                client = client.set_client_to_redis_username(user).set_client_to_sentinel_username(user);
            }
            if let Some(password) = settings.password() {
                client = client.set_client_to_sentinel_password(password);
            }
            let of_servers = config.password.as_ref().map(|password| password.expose_secret());
            if let Some(password) = of_servers.or(settings.password()) {
                client = client.set_client_to_redis_password(password);
            }
            if let ConnectionAddr::TcpTls { .. } = first.addr() {
                client = client.set_client_to_redis_tls_mode(TlsMode::Secure);
            }
            if let Some(certificates) = certificates(first) {
                client = client.set_client_to_redis_certificates(certificates.clone());
                client = client.set_client_to_sentinel_certificates(certificates);
            }
            let client = client.build()?;
            Dialed::Sentinel(Mutex::new(client))
        }
    })
}

/// RESP3 is what lets one connection carry answers and events: Redis 6 and newer.
fn info(config: &RedisConfig, url: &str) -> RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if let (None, Some(password)) = (settings.password(), &config.password) {
        settings = settings.set_password(password.expose_secret());
    }
    Ok(info.set_redis_settings(settings))
}

pub(super) fn too_late() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

/// A connection to the servers, whatever they are. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn query(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => cmd.query_async(connection).await,
            Self::Cluster(connection) => cmd.query_async(connection).await,
        }
    }

    /// Starts or stops to hear a topic. `sharded`: where the server has that, which all of a Cluster's do.
    pub(super) async fn subscribe(&mut self, topic: &str, sharded: bool, on: bool) -> RedisResult<()> {
        match self {
            Self::Single(connection) => {
                let name = match (sharded, on) {
                    (true, true) => "SSUBSCRIBE",
                    (true, false) => "SUNSUBSCRIBE",
                    (false, true) => "SUBSCRIBE",
                    (false, false) => "UNSUBSCRIBE",
                };
                cmd(name).arg(topic).exec_async(connection).await
            }
            Self::Cluster(connection) if on => connection.ssubscribe(topic).await,
            Self::Cluster(connection) => connection.sunsubscribe(topic).await,
        }
    }

    /// Mends itself when a node is gone.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}
