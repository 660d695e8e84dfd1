//! Everything in one process: a gateway, a media node and the state in memory.
//!
//! Real WebSockets and real UDP. The gateway calls the media node through the same client and the same service as in a
//! cluster, only without a network in between. Nothing survives the process.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use voiceping_gateway::{AuthConfig, Dependencies, Gateway, Keys, media_client, random_secret};
use voiceping_media_node::{ClusterConfig, MediaNode};
use voiceping_state::{Memory, Node, Store};

use crate::floor::FloorArgs;
use crate::serve;

/// Settings of the all-in-one.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "all_in_one")]
pub struct Args {
    /// The gateway's.
    #[command(flatten)]
    pub gateway: voiceping_gateway::Config,

    /// The media node's.
    #[command(flatten)]
    pub media: voiceping_media_node::Config,

    /// The floor's.
    #[command(flatten)]
    pub floor: FloorArgs,

    /// The keys'. Without a secret a random one is used for this run, and the development sign-in is on.
    #[command(flatten)]
    pub auth: AuthConfig,

    /// Let anybody sign in by name, without a token from elsewhere. Always on without --jwt-secret
    #[arg(long, env = "VOICEPING_DEV_SIGN_IN", value_parser = clap::builder::BoolishValueParser::new())]
    pub dev_sign_in: bool,

    /// Who watches it, and how.
    #[command(flatten)]
    pub telemetry: voiceping_telemetry::Args,
}

/// Runs until a signal to stop, then drains.
pub fn run(args: Args) -> anyhow::Result<()> {
    let telemetry = args.telemetry.clone();
    serve::run(&telemetry, "voiceping", async |shutdown, telemetry| {
        let stack = AllInOne::bind(args)?;
        tracing::info!("VoicePing is at {}", stack.url());
        telemetry.watch(serve::role(stack.gateway.status()));
        stack.run(shutdown).await
    })
}

/// The whole stack, with its ports bound.
#[derive(Debug)]
pub struct AllInOne {
    gateway: Gateway,
    media_node: MediaNode,
    store: Store,
}

impl AllInOne {
    /// Binds the ports. The media node's workers run from here on, the gateway from [`Self::run`].
    pub fn bind(args: Args) -> anyhow::Result<Self> {
        let Args { gateway, media, floor, auth, dev_sign_in, telemetry: _ } = args;
        let (keys, dev_sign_in) = match Keys::from_config(&auth)? {
            Some(keys) => (keys, dev_sign_in),
            None => {
                tracing::info!("no --jwt-secret or --jwks: a random one for this run, and anybody may sign in by name");
                (Keys::hs256(&random_secret(), auth.secret.jwt_issuer, auth.secret.jwt_audience), true)
            }
        };
        let (rules, limits) = (floor.rules(), floor.limits());
        let store = Store::Memory(Memory::new(rules, limits));
        let media_node = MediaNode::bind(media).context("the media node cannot start")?;
        // The registry has one node, and its address is this process.
        let client = media_client(voiceping_rpc::in_process(media_node.service()));
        let dial = Arc::new(move |_: &Node| Ok(client.clone()));
        let dependencies = Dependencies { store: store.clone(), rules, dial, keys, dev_sign_in };
        let gateway = Gateway::bind(gateway, dependencies).context("the gateway cannot start")?;
        Ok(Self { gateway, media_node, store })
    }

    /// Where the page and `/ws` are.
    pub fn local_addr(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    /// The address of the page, for a person on this machine.
    pub fn url(&self) -> String {
        let mut address = self.local_addr();
        if address.ip().is_unspecified() {
            // Browsers give the microphone only to https and to this machine's own address.
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("{}://{address}", if self.gateway.is_tls() { "https" } else { "http" })
    }

    /// Serves until `shutdown`, then ends in order: clients and their talks first, the media under them last.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { gateway, media_node, store } = self;
        let no_others = Arc::new(|address: &str| anyhow::bail!("{address}: a node alone calls nobody"));
        media_node.join(ClusterConfig::default(), store, "in-process".into(), no_others).await?;
        let outcome = gateway.run(shutdown).await;
        media_node.shutdown().await;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn args(arguments: &[&str]) -> Args {
        let defaults =
            ["voiceping", "--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-workers", "1"];
        Cli::try_parse_from(defaults.iter().chain(arguments)).expect("parses").all_in_one
    }

    #[tokio::test]
    async fn it_starts_on_ports_of_the_systems_choice_and_ends_when_told() {
        let stack = AllInOne::bind(args(&[])).expect("binds");
        assert_ne!(stack.local_addr().port(), 0);
        assert_eq!(stack.url(), format!("http://{}", stack.local_addr()));
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        stack.run(shutdown).await.expect("ends in order");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = AllInOne::bind(args(&[])).expect("binds");
        let mut second = args(&[]);
        second.gateway.listen = first.local_addr();
        let error = AllInOne::bind(second).expect_err("refused");
        assert!(format!("{error:#}").contains(&first.local_addr().to_string()), "{error:#}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_announced() {
        assert!(AllInOne::bind(args(&["--media-announce", "0.0.0.0"])).is_err());
    }
}
