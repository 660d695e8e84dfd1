//! A deployment under test: processes of the one binary, and the Redis between them.
//!
//! Media node `n` is in region `r<n>`, and gateway `n` in the region of one of them: so a member is placed on the node that
//! its gateway stands for, and the tests choose who is where. In a [`Network`] each process has a host of its own: the
//! gateways first, then the media nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use voiceping_rpc::RpcConfig;
use voiceping_testkit::signaling::Signaling;

use crate::gates;
use crate::network::{Host, Network};
use crate::process::{Running, SECRET, token, voiceping_behind};
use crate::servers::{NOTHING_KEPT, Server, Watched};

/// What processes of one cluster know each other by.
pub(crate) const CLUSTER_SECRET: &str = "a secret of the cluster under test";

/// How many processes there are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Everything in one, with the state in memory.
    AllInOne,
    /// So many gateways and so many media nodes, on Redis.
    Cluster(usize, usize),
}

/// How a cluster differs from the usual one.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// More flags of every gateway.
    pub(crate) gateway: &'a [&'a str],
    /// More flags of every media node.
    pub(crate) media: &'a [&'a str],
    /// Each process on a host of its own.
    pub(crate) network: Option<Network>,
    /// Redis behind Sentinels.
    pub(crate) watched: bool,
}

/// A running deployment.
pub(crate) struct Cluster {
    /// The all-in-one is one gateway.
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) media_nodes: Vec<Running>,
    /// When a media node was found ended, by its number.
    ended_at_us: HashMap<usize, u64>,
    pub(crate) network: Option<Network>,
    redis: Option<Redis>,
    gateway_flags: Vec<String>,
    media_flags: Vec<String>,
    /// Of media nodes that have been replaced.
    logs: Vec<gates::Log>,
    channels: AtomicUsize,
}

/// A process with a port for clients.
pub(crate) struct Gateway {
    pub(crate) process: Running,
    pub(crate) address: String,
}

enum Redis {
    Alone(Server),
    Watched(Watched),
}

impl Cluster {
    pub(crate) async fn start(shape: Shape) -> Result<Self> {
        match shape {
            Shape::AllInOne => Self::all_in_one().await,
            Shape::Cluster(gateways, media_nodes) => Self::with(gateways, media_nodes, Options::default()).await,
        }
    }

    async fn all_in_one() -> Result<Self> {
        let flags = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-workers", "2"];
        let flags = [flags.as_slice(), &["--jwt-secret", SECRET, "--silence-limit", "60s"]].concat();
        let mut cluster = Self::empty(None, Options::default());
        cluster.add_gateway(Running::start(&flags, GATEWAY_READY).await?);
        Ok(cluster)
    }

    /// So many gateways and media nodes, which differ from the usual ones.
    pub(crate) async fn with(gateways: usize, media_nodes: usize, options: Options<'_>) -> Result<Self> {
        let (network, watched) = (options.network.as_ref().map(Network::own_address), options.watched);
        let redis = tokio::task::spawn_blocking(move || {
            let address = network.unwrap_or_else(|| "127.0.0.1".to_owned());
            if watched {
                Redis::Watched(crate::servers::sentinels())
            } else {
                // Without a password it is closed to other hosts.
                let open = ["--protected-mode", "no"];
                Redis::Alone(Server::start_at(&address, &[NOTHING_KEPT.as_slice(), &open].concat()))
            }
        });
        let mut cluster = Self::empty(Some(redis.await.context("Redis")?), options);
        for number in 0..media_nodes {
            let process = cluster.start_media_node(number, gateways + number).await?;
            cluster.media_nodes.push(process);
        }
        for number in 0..gateways {
            let process = cluster.start_gateway(number, media_nodes, 0).await?;
            cluster.add_gateway(process);
        }
        Ok(cluster)
    }

    fn empty(redis: Option<Redis>, options: Options<'_>) -> Self {
        let owned = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self {
            gateways: Vec::new(),
            media_nodes: Vec::new(),
            ended_at_us: HashMap::new(),
            redis,
            gateway_flags: owned(options.gateway),
            media_flags: owned(options.media),
            network: options.network,
            logs: Vec::new(),
            channels: AtomicUsize::default(),
        }
    }

    /// Starts the media node with this number, on this host.
    pub(crate) async fn start_media_node(&self, number: usize, host: Host) -> Result<Running> {
        let (redis, region) = (self.redis_flags(), format!("r{number}"));
        let listen = format!("{}:0", self.address(host));
        let flags = ["media-node", "--cluster-secret", CLUSTER_SECRET, "--region", &region, "--media-workers", "2"];
        let ports = ["--grpc-listen", &listen, "--media-listen", &listen];
        // The log is read for what happened at the gates.
        let log = ["--log-format", "json", "--log", "info,voiceping::gate=debug"];
        let flags = [flags.as_slice(), &ports, &log].concat();
        self.run(host, &flags, &redis, &self.media_flags, "media node is ready at grpc://").await
    }

    /// Starts the gateway with this number, on the host with the same, in the region of one of so many media nodes.
    pub(crate) async fn start_gateway(&self, number: usize, regions: usize, port: u16) -> Result<Running> {
        let (redis, region) = (self.redis_flags(), format!("r{}", number % regions));
        let listen = format!("{}:{port}", self.address(number));
        let flags = ["gateway", "--cluster-secret", CLUSTER_SECRET, "--region", &region, "--listen", &listen];
        let flags = [flags.as_slice(), &["--jwt-secret", SECRET]].concat();
        // A holder who sends nothing is the business of few tests, and they say so.
        let limited = self.gateway_flags.iter().any(|flag| flag == "--silence-limit");
        let limit: &[&str] = if limited { &[] } else { &["--silence-limit", "60s"] };
        let process = self.run(number, &[&flags, limit].concat(), &redis, &self.gateway_flags, GATEWAY_READY).await?;
        ready(process.said()).await?;
        Ok(process)
    }

    async fn run(
        &self,
        host: Host,
        flags: &[&str],
        redis: &[String],
        more: &[String],
        marker: &'static str,
    ) -> Result<Running> {
        let more = redis.iter().chain(more).map(String::as_str);
        let flags: Vec<&str> = flags.iter().copied().chain(more).collect();
        let wrapper = self.network.as_ref().map(|network| network.on(host));
        let wrapper = wrapper.as_ref().map_or(&[][..], |words| &words[..]);
        Running::spawn(voiceping_behind(wrapper, &flags), marker).await
    }

    fn address(&self, host: Host) -> String {
        self.network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |network| network.address(host))
    }

    pub(crate) fn add_gateway(&mut self, process: Running) {
        let address = process.said().to_owned();
        self.gateways.push(Gateway { process, address });
    }

    fn redis_flags(&self) -> Vec<String> {
        match &self.redis {
            Some(Redis::Alone(server)) => vec!["--redis-url".to_owned(), server.url()],
            Some(Redis::Watched(watched)) => {
                let urls: Vec<String> = watched.sentinels.iter().map(Server::url).collect();
                let master = ["--redis-mode", "sentinel", "--redis-master", "main", "--redis-url"];
                master.iter().map(|flag| (*flag).to_owned()).chain([urls.join(",")]).collect()
            }
            None => Vec::new(),
        }
    }

    /// The one server.
    pub(crate) fn redis(&self) -> &Server {
        match &self.redis {
            Some(Redis::Alone(server)) => server,
            _ => panic!("this deployment has no single server"),
        }
    }

    /// The server and its Sentinels.
    pub(crate) fn watched(&self) -> &Watched {
        match &self.redis {
            Some(Redis::Watched(watched)) => watched,
            _ => panic!("this deployment has no Sentinels"),
        }
    }

    pub(crate) async fn kill_media_node(&mut self, number: usize) -> Result<()> {
        self.media_nodes[number].kill().await?;
        self.ended_at_us.insert(number, gates::now_us());
        Ok(())
    }

    /// Tells a media node to end, and waits until it has.
    pub(crate) async fn drain_media_node(&mut self, number: usize) -> Result<()> {
        self.media_nodes[number].signal("TERM").await?;
        let status = self.media_nodes[number].ended().await?;
        self.ended_at_us.insert(number, gates::now_us());
        ensure!(status.success(), "it ends in order: {status}: {}", self.media_nodes[number].log());
        Ok(())
    }

    /// Puts a new process in the place of a media node that has ended.
    pub(crate) async fn replace_media_node(&mut self, number: usize) -> Result<()> {
        self.logs.push(self.log(number));
        self.ended_at_us.remove(&number);
        self.media_nodes[number] = self.start_media_node(number, self.gateways.len() + number).await?;
        Ok(())
    }

    fn log(&self, number: usize) -> gates::Log {
        gates::Log { text: self.media_nodes[number].log(), ended_at_us: self.ended_at_us.get(&number).copied() }
    }

    /// Puts a new process in the place of a gateway that has ended, at its address.
    pub(crate) async fn replace_gateway(&mut self, number: usize) -> Result<()> {
        let port = self.gateways[number].address.rsplit(':').next().context("a port")?.parse()?;
        self.gateways[number].process = self.start_gateway(number, self.media_nodes.len(), port).await?;
        Ok(())
    }

    /// Checks that no two gates of a channel were open at a time, in all that the media nodes have logged.
    pub(crate) fn assert_one_speaker(&self) -> Result<usize> {
        let present = (0..self.media_nodes.len()).map(|number| self.log(number));
        let logs: Vec<gates::Log> = self.logs.iter().cloned().chain(present).collect();
        let gates = gates::assert_no_overlap(&logs)?;
        ensure!(gates > 0 || self.media_nodes.is_empty(), "a run without a talk shows nothing");
        Ok(gates)
    }

    /// A channel that no other scenario of this run uses.
    pub(crate) fn channel(&self) -> String {
        format!("channel-{}", self.channels.fetch_add(1, Ordering::Relaxed))
    }

    /// A socket at this gateway, counting round, of a user who may join this channel.
    pub(crate) async fn socket(&self, gateway: usize, user: &str, channel: &str) -> Result<Signaling> {
        let gateway = &self.gateways[gateway % self.gateways.len()];
        Signaling::connect(&format!("ws://{}/ws", gateway.address), &token(user, &[channel])).await
    }
}

/// How a test calls the processes of the cluster itself.
pub(crate) fn rpc_config(secret: &str) -> RpcConfig {
    RpcConfig {
        grpc_tls_cert: None,
        grpc_tls_key: None,
        grpc_tls_ca: None,
        grpc_tls_name: String::new(),
        grpc_tls_callers: Vec::new(),
        cluster_secret: Some(secret.into()),
    }
}

const GATEWAY_READY: &str = "VoicePing is at http://";

/// Waits until a gateway has found its media nodes: there is no event that says so to somebody outside.
async fn ready(address: &str) -> Result<()> {
    let ready = async {
        while !crate::process::get(address, "/ready").await.is_ok_and(|(status, _)| status == 200) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    voiceping_testkit::soon("a gateway that is ready", ready).await
}
