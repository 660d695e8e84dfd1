//! `voiceping gateway`: one of the cluster's gateways. It keeps nothing: any number of them serve any client.

use std::sync::Arc;

use anyhow::{Context, ensure};
use voiceping_gateway::{AuthConfig, Dependencies, Gateway, Keys, media_client};
use voiceping_rpc::{Dialer, RpcConfig};
use voiceping_state::redis::{Redis, RedisArgs};
use voiceping_state::{Node, Store};

use crate::floor::FloorArgs;
use crate::serve;

/// Settings of a gateway.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "gateway_role")]
pub struct Args {
    /// The gateway's.
    #[command(flatten)]
    pub gateway: voiceping_gateway::Config,

    /// The shared state's.
    #[command(flatten)]
    pub redis: RedisArgs,

    /// The floor's.
    #[command(flatten)]
    pub floor: FloorArgs,

    /// The clients' keys.
    #[command(flatten)]
    pub auth: AuthConfig,

    /// Let anybody sign in by name, without a token from elsewhere
    #[arg(long, env = "VOICEPING_DEV_SIGN_IN", value_parser = clap::builder::BoolishValueParser::new())]
    pub dev_sign_in: bool,

    /// How media nodes are called.
    #[command(flatten)]
    pub rpc: RpcConfig,

    /// Who watches it, and how.
    #[command(flatten)]
    pub telemetry: voiceping_telemetry::Args,
}

/// Serves clients until a signal to stop, then drains.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Args { gateway, redis, floor, auth, dev_sign_in, rpc, telemetry } = args;
    serve::run(&telemetry, "voiceping-gateway", async |shutdown, telemetry| {
        let keys = Keys::from_config(&auth)?.context(
            "--jwt-secret, --jwt-secret-file or --jwks is missing: all gateways of a cluster must verify tokens alike",
        )?;
        ensure!(
            keys.can_sign_tickets(),
            "--session-secret is missing: without a secret for tokens, sessions need one that all gateways share"
        );
        let dialer = Dialer::new(rpc.security()?);
        let dial = Arc::new(move |node: &Node| Ok(media_client(dialer.dial(&node.address)?)));
        let redis = Redis::new(&redis.config()?, floor.rules(), floor.limits())?;
        let dependencies = Dependencies { store: Store::Redis(redis), rules: floor.rules(), dial, keys, dev_sign_in };
        let gateway = Gateway::bind(gateway, dependencies).context("the gateway cannot start")?;
        let scheme = if gateway.is_tls() { "https" } else { "http" };
        tracing::info!("VoicePing is at {scheme}://{}", gateway.local_addr());
        telemetry.watch(serve::role(gateway.status()));
        gateway.run(shutdown).await
    })
}
