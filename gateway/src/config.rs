//! The gateway's settings: one struct, each field a flag and an environment variable.
//!
//! Read by the root binary; the all-in-one and the gateway of a cluster share it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::{OriginConfig, ProxyConfig, TlsConfig};
use crate::turn::TurnConfig;

/// Settings of a gateway.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
#[group(skip)] // every role has a `Config`; flattened side by side their groups would clash
pub struct Config {
    /// Address and port for the page and for WebSockets
    #[arg(long, env = "VOICEPING_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// Folder with the built page
    #[arg(long, env = "VOICEPING_WEB_ROOT", value_name = "FOLDER", default_value = "client/web/dist")]
    pub web_root: PathBuf,

    /// Channels that a token without a list of channels may join: any, or none [default: open with the development
    /// sign-in, listed otherwise]
    #[arg(long, env = "VOICEPING_CHANNEL_ACCESS", value_name = "ACCESS")]
    pub channel_access: Option<ChannelAccess>,

    /// Channels that one connection may be on at a time
    #[arg(long, env = "VOICEPING_MAX_CHANNELS", value_name = "COUNT", default_value_t = 64, value_parser = at_least_one)]
    pub max_channels: usize,

    /// WebSockets that this gateway serves; more are told to come back later
    #[arg(long, env = "VOICEPING_MAX_SOCKETS", value_name = "COUNT", default_value_t = 20_000, value_parser = at_least_one)]
    pub max_sockets: usize,

    /// Handshakes per second from one address. A crowd may sit behind one
    #[arg(long, env = "VOICEPING_CONNECT_RATE", value_name = "PER_SECOND", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_rate: u32,

    /// Handshakes at once from one address, before the rate applies
    #[arg(long, env = "VOICEPING_CONNECT_BURST", value_name = "COUNT", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_burst: u32,

    /// Messages per second on one WebSocket
    #[arg(long, env = "VOICEPING_MESSAGE_RATE", value_name = "PER_SECOND", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub message_rate: u32,

    /// Messages at once on one WebSocket, before the rate applies
    #[arg(long, env = "VOICEPING_MESSAGE_BURST", value_name = "COUNT", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub message_burst: u32,

    /// Time between two pings on a WebSocket; one that has not answered by the next is closed
    #[arg(long, env = "VOICEPING_PING_INTERVAL", value_name = "TIME", default_value = "30s", value_parser = positive)]
    pub ping_interval: Duration,

    /// Silence after which a speaker loses the floor, if no packet has come at all
    #[arg(long, env = "VOICEPING_SILENCE_LIMIT", value_name = "TIME", default_value = "4s", value_parser = positive)]
    pub silence_limit: Duration,

    /// Time in which a client of ours whose WebSocket dropped may come back to its session
    #[arg(long, env = "VOICEPING_RESUME_GRACE", value_name = "TIME", default_value = "15s", value_parser = positive)]
    pub resume_grace: Duration,

    /// Where this gateway is: its clients get media nodes of the same region first
    #[arg(long, env = "VOICEPING_REGION", value_name = "NAME", default_value = "default")]
    pub region: String,

    /// Time that a shutdown may take; whoever talks may finish within most of it
    #[arg(long, env = "VOICEPING_DRAIN_DEADLINE", value_name = "TIME", default_value = "10s", value_parser = positive)]
    pub drain_deadline: Duration,

    /// The port's TLS.
    #[command(flatten)]
    pub tls: TlsConfig,

    /// The proxies'.
    #[command(flatten)]
    pub proxy: ProxyConfig,

    /// The pages'.
    #[command(flatten)]
    pub pages: OriginConfig,

    /// The TURN servers'.
    #[command(flatten)]
    pub turn: TurnConfig,
}

/// What a token without a list of channels may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ChannelAccess {
    /// Any channel.
    Open,
    /// None: only the channels that a token lists.
    Listed,
}

fn positive(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 30s or 2m")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once("gateway").chain(arguments.iter().copied());
        Command::try_parse_from(arguments).map(|command| command.config).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        let config = parse(&[]).expect("defaults are valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(config.max_channels, 64);
        assert_eq!(config.ping_interval, Duration::from_secs(30));
        assert_eq!(config.channel_access, None);
    }

    #[test]
    fn a_thousand_people_behind_one_address_are_in_within_a_minute() {
        let config = parse(&[]).expect("defaults are valid");
        assert!(config.connect_burst + 60 * config.connect_rate >= 1000);
    }

    #[test]
    fn a_bad_value_is_named_in_the_error() {
        for arguments in [
            ["--listen", "nowhere"],
            ["--max-channels", "0"],
            ["--connect-rate", "0"],
            ["--ping-interval", "0s"],
            ["--drain-deadline", "soon"],
            ["--channel-access", "some"],
            ["--trusted-proxies", "everybody"],
            ["--allowed-origins", "talk.example.org"],
            ["--turn-urls", "stun:turn.example.org"],
        ] {
            let error = parse(&arguments).expect_err("refused");
            assert!(error.contains(arguments[0]) && error.contains(arguments[1]), "{error}");
        }
    }
}
