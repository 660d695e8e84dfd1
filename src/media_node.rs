//! `voiceping media-node`: one of the cluster's media nodes. It forwards the audio of the clients that gateways place on
//! it, and relays their talks to other nodes that have listeners.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use voiceping_media_node::{ClusterConfig, MediaNode, relay_client};
use voiceping_rpc::{Dialer, RpcConfig, Server};
use voiceping_state::redis::{Redis, RedisArgs};
use voiceping_state::{FloorRules, Store, memory};

use voiceping_telemetry::Role;

use crate::serve;

/// Settings of a media node.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "media_node_role")]
pub struct Args {
    /// The media's.
    #[command(flatten)]
    pub media: voiceping_media_node::Config,

    /// Of a node among others.
    #[command(flatten)]
    pub cluster: ClusterConfig,

    /// Where it is called.
    #[command(flatten)]
    pub grpc: GrpcArgs,

    /// The registry's.
    #[command(flatten)]
    pub redis: RedisArgs,

    /// How processes know each other.
    #[command(flatten)]
    pub rpc: RpcConfig,

    /// Time for clients to move to other nodes before this one ends. Who talks may finish in it
    #[arg(long, env = "VOICEPING_DRAIN_DEADLINE", value_name = "TIME", default_value = "60s",
          value_parser = humantime::parse_duration)]
    pub drain_deadline: Duration,

    /// Who watches it, and how.
    #[command(flatten)]
    pub telemetry: voiceping_telemetry::Args,
}

/// Where gateways and other media nodes call this one.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calls between processes (gRPC)")]
#[group(skip)]
pub struct GrpcArgs {
    /// Address and port for calls of gateways and other media nodes
    #[arg(long, env = "VOICEPING_GRPC_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051")]
    pub grpc_listen: SocketAddr,

    /// Address, or address and port, at which they reach it [default: what is listened on or, if that is 0.0.0.0, this
    /// machine's own address]
    #[arg(long, env = "VOICEPING_GRPC_ANNOUNCE", value_name = "ADDRESS[:PORT]")]
    pub grpc_announce: Option<String>,
}

impl GrpcArgs {
    /// What others are told, given the port that was bound.
    fn announced(&self, bound: SocketAddr) -> String {
        match &self.grpc_announce {
            Some(whole) if whole.parse::<SocketAddr>().is_ok() => whole.clone(),
            Some(address) => match address.parse::<IpAddr>() {
                Ok(address) => SocketAddr::new(address, bound.port()).to_string(),
                Err(_) if address.contains(':') => address.clone(),
                Err(_) => format!("{address}:{}", bound.port()),
            },
            None if bound.ip().is_unspecified() => {
                SocketAddr::new(voiceping_media_node::own_address(), bound.port()).to_string()
            }
            None => bound.to_string(),
        }
    }
}

/// Serves gateways until a signal to stop, then drains.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Args { media, cluster, grpc, redis, rpc, drain_deadline, telemetry } = args;
    serve::run(&telemetry, "voiceping-media-node", async |shutdown, telemetry| {
        let security = rpc.security()?;
        // It keeps itself registered, and asks for no floors: their rules are the gateways'.
        let rules = FloorRules { lease: Duration::from_secs(1), talk_limit: None };
        let store = Store::Redis(Redis::new(&redis.config()?, rules, memory::Limits::default())?);
        let listener = TcpListener::bind(grpc.grpc_listen)
            .with_context(|| format!("cannot listen on {}; choose another with --grpc-listen", grpc.grpc_listen))?;
        let address = grpc.announced(listener.local_addr().context("the port cannot be read back")?);
        let node = MediaNode::bind(media).context("the media node cannot start")?;
        let dialer = Dialer::new(security.clone());
        let dial = Arc::new(move |address: &str| Ok(relay_client(dialer.dial(address)?)));

        // The services first: other nodes answer a subscription with one of their own, and gateways call at once.
        let end = CancellationToken::new();
        let server = Server::new(security)?.add(node.service()).await.add(node.relay_service()).await;
        let mut serving = tokio::spawn(server.run(listener, end.clone().cancelled_owned()));
        let (ready, draining) = (node.status(), node.status());
        telemetry.watch(Role::new(move || std::future::ready(ready.ready()), move || draining.draining()));
        node.join(cluster, store, address.clone(), dial).await?;
        tracing::info!("media node is ready at grpc://{address}");

        let outcome = tokio::select! {
            () = shutdown.cancelled() => {
                node.drain(drain_deadline).await;
                Ok(())
            }
            ended = &mut serving => ended.context("gRPC failed").and_then(|ended| ended),
        };
        // Out of the registry and out of the streams, and then out of reach.
        node.shutdown().await;
        end.cancel();
        if !serving.is_finished() {
            serving.await.context("gRPC failed")??;
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_where_they_reach_it() {
        let announced = |announce: Option<&str>, bound: &str| {
            let grpc = GrpcArgs {
                grpc_listen: bound.parse().expect("an address"),
                grpc_announce: announce.map(str::to_owned),
            };
            grpc.announced(bound.parse().expect("an address"))
        };
        assert_eq!(announced(None, "192.0.2.7:50051"), "192.0.2.7:50051");
        assert!(!announced(None, "0.0.0.0:50051").starts_with("0.0.0.0"));
        assert_eq!(announced(Some("10.0.0.1"), "0.0.0.0:50051"), "10.0.0.1:50051");
        assert_eq!(announced(Some("10.0.0.1:443"), "0.0.0.0:50051"), "10.0.0.1:443");
        assert_eq!(announced(Some("node-1.voice"), "0.0.0.0:50051"), "node-1.voice:50051");
        assert_eq!(announced(Some("node-1.voice:443"), "0.0.0.0:50051"), "node-1.voice:443");
        assert_eq!(announced(Some("2001:db8::1"), "[::]:50051"), "[2001:db8::1]:50051");
    }
}
