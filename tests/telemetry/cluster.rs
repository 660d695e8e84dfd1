//! Two gateways, two media nodes and a Redis, all watched by one collector.

use anyhow::{Context, Result};
use tokio::process::Command;
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::soon;

use crate::collector::Collector;
use crate::process::{Running, SECRET, get, token, voiceping};
use crate::servers::{NOTHING_KEPT, Server};

/// What every process is given: an admin port, and a secret to know the others by.
const SHARED: [&str; 4] = ["--admin-listen", "127.0.0.1:0", "--cluster-secret", "a secret of the cluster under test"];

/// See the module.
pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Running>,
    pub(crate) media_nodes: Vec<Running>,
    _redis: Server,
}

impl Cluster {
    /// Gateway and media node `n` are in region `n`: a member is on the node that its gateway stands for.
    pub(crate) async fn start(collector: &Collector) -> Result<Self> {
        let redis = tokio::task::spawn_blocking(|| Server::start_at("127.0.0.1", &NOTHING_KEPT)).await?;
        let url = redis.url();
        let mut cluster = Self { gateways: Vec::new(), media_nodes: Vec::new(), _redis: redis };
        for region in ["0", "1"] {
            let flags = ["media-node", "--redis-url", &url, "--region", region, "--media-workers", "2"];
            let ports = ["--grpc-listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--log-format", "json"];
            let command = watched(voiceping(&[&flags, &ports[..], &SHARED].concat()), &collector.address.to_string());
            cluster.media_nodes.push(Running::spawn(command, "media node is ready at grpc://").await?);
        }
        for region in ["0", "1"] {
            let flags = ["gateway", "--redis-url", &url, "--region", region, "--listen", "127.0.0.1:0"];
            let command = voiceping(&[&flags[..], &["--jwt-secret", SECRET], &SHARED].concat());
            let command = watched(command, &collector.address.to_string());
            let gateway = Running::spawn(command, "VoicePing is at http://").await?;
            let ready = async { while get(gateway.said(), "/ready").await.map_or(0, |(status, _)| status) != 200 {} };
            soon("the gateway", ready).await?;
            cluster.gateways.push(gateway);
        }
        Ok(cluster)
    }

    /// A socket of this user, who may join this channel.
    pub(crate) async fn socket(&self, gateway: usize, user: &str, channel: &str) -> Result<Signaling> {
        let gateway = self.gateways.get(gateway).context("a gateway")?;
        Signaling::connect(&format!("ws://{}/ws", gateway.said()), &token(user, &[channel])).await
    }
}

/// The same with a collector, which is sent everything soon.
pub(crate) fn watched(mut command: Command, collector: &str) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "50")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "500");
    command
}
