//! The media node's settings: flags, environment variables and help texts from two structs, one for every node and one for
//! a node among others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, bail};

/// See the fields.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Media")]
pub struct Config {
    /// Address and first UDP port for media. Each worker takes one port, counting up; port 0 lets the system choose.
    #[arg(long, env = "VOICEPING_MEDIA_LISTEN", default_value = "0.0.0.0:40000", value_name = "ADDRESS:PORT")]
    pub media_listen: SocketAddr,

    /// Addresses given to clients, separated by commas. Default: the address that is listened on or, if that is
    /// 0.0.0.0, this machine's own. Behind a NAT, give the public address and forward the ports unchanged.
    #[arg(long, env = "VOICEPING_MEDIA_ANNOUNCE", value_delimiter = ',', value_name = "ADDRESS")]
    pub media_announce: Vec<IpAddr>,

    /// Worker threads, each with its own UDP port. Default: one for each processor.
    #[arg(long, env = "VOICEPING_MEDIA_WORKERS", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub media_workers: Option<u16>,
}

impl Config {
    /// The number of worker threads.
    pub fn workers(&self) -> u16 {
        self.media_workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64) as u16))
    }

    /// The addresses given to clients.
    pub fn announced(&self) -> Result<Vec<IpAddr>> {
        if let Some(bad) = self.media_announce.iter().find(|address| address.is_unspecified()) {
            bail!(
                "--media-announce {bad}: clients cannot send there; give an address of this machine that they can reach"
            );
        }
        if !self.media_announce.is_empty() {
            return Ok(self.media_announce.clone());
        }
        let listen = self.media_listen.ip();
        Ok(vec![if listen.is_unspecified() { own_address() } else { listen }])
    }

    /// The addresses to bind: each announced one, so that answers leave from the address that they were sent to; if one
    /// of them is not this machine's (a NAT's), the one that is listened on.
    pub fn bind_addresses(&self, announced: &[IpAddr]) -> Vec<IpAddr> {
        let listen = self.media_listen.ip();
        if listen.is_unspecified() && announced.iter().all(|address| UdpSocket::bind((*address, 0)).is_ok()) {
            announced.to_vec()
        } else {
            vec![listen]
        }
    }
}

/// Settings of a node among others. Their defaults are right for a node alone.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterConfig {
    /// Where this node is: clients are placed on nodes of their gateway's region first
    #[arg(long, env = "VOICEPING_REGION", default_value = Self::REGION, value_name = "NAME")]
    pub region: String,

    /// Clients that this node may have
    #[arg(long, env = "VOICEPING_CAPACITY", default_value_t = Self::CAPACITY, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub capacity: u32,

    /// Address at which other media nodes reach this one's media ports. Default: the address that is listened on or, if
    /// that is 0.0.0.0, this machine's own
    #[arg(long, env = "VOICEPING_RELAY_ANNOUNCE", value_name = "ADDRESS")]
    pub relay_announce: Option<IpAddr>,

    /// How long the clients of a gateway that is gone keep their media, for another gateway to take them over
    #[arg(long, env = "VOICEPING_GATEWAY_GRACE", default_value = Self::GATEWAY_GRACE, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub gateway_grace: Duration,
}

impl ClusterConfig {
    const REGION: &str = "default";
    const CAPACITY: u32 = 5000;
    const GATEWAY_GRACE: &str = "30s";

    /// Where others send what they relay: one address for each worker, of which `bound` is the first that it listens on.
    pub(crate) fn relay_addresses(&self, bound: &[SocketAddr]) -> Vec<SocketAddr> {
        let own = |bound: IpAddr| if bound.is_unspecified() { own_address() } else { bound };
        let announced =
            |bound: &SocketAddr| SocketAddr::new(self.relay_announce.unwrap_or_else(|| own(bound.ip())), bound.port());
        bound.iter().map(announced).collect()
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            region: Self::REGION.to_owned(),
            capacity: Self::CAPACITY,
            relay_announce: None,
            gateway_grace: humantime::parse_duration(Self::GATEWAY_GRACE).expect("a constant that a test reads"),
        }
    }
}

/// The address from which this machine reaches others. Connecting a UDP socket sends nothing: it asks for the route.
pub fn own_address() -> IpAddr {
    let documentation = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)); // RFC 5737
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect(documentation)?;
            socket.local_addr()
        })
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        cluster: ClusterConfig,
    }

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Flags::try_parse_from(std::iter::once("test").chain(flags.iter().copied())).map(|flags| flags.config)
    }

    fn parse_cluster(flags: &[&str]) -> ClusterConfig {
        Flags::try_parse_from(std::iter::once("test").chain(flags.iter().copied())).expect("parses").cluster
    }

    #[test]
    fn an_address_that_clients_cannot_use_is_never_announced() {
        let config = parse(&["--media-announce", "192.0.2.5,0.0.0.0"]).expect("parses");
        assert!(config.announced().expect_err("refused").to_string().contains("0.0.0.0"));
        let found = parse(&[]).expect("defaults").announced().expect("found");
        assert!(found.len() == 1 && !found[0].is_unspecified());
    }

    #[test]
    fn what_is_listened_on_is_announced() {
        let config = parse(&["--media-listen", "127.0.0.1:0"]).expect("parses");
        let announced = config.announced().expect("given");
        assert_eq!(announced, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(config.bind_addresses(&announced), announced);
    }

    #[test]
    fn behind_a_nat_the_listening_address_is_bound() {
        let config = parse(&["--media-announce", "192.0.2.5"]).expect("parses");
        let announced = config.announced().expect("given");
        assert_eq!(config.bind_addresses(&announced), [IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    }

    #[test]
    fn no_worker_is_refused() {
        assert!(parse(&["--media-workers", "0"]).is_err());
    }

    #[test]
    fn a_node_alone_needs_no_settings_of_a_cluster() {
        let (parsed, default) = (parse_cluster(&[]), ClusterConfig::default());
        assert_eq!((parsed.region, parsed.capacity), (default.region, default.capacity));
        assert_eq!((parsed.relay_announce, parsed.gateway_grace), (None, default.gateway_grace));
    }

    #[test]
    fn other_nodes_are_told_an_address_that_they_can_send_to() {
        let bound = |ip: &str| [SocketAddr::new(ip.parse().expect("valid"), 40_000)];
        let announced = |flags: &[&str], ip| parse_cluster(flags).relay_addresses(&bound(ip));
        assert_eq!(announced(&[], "192.0.2.5"), bound("192.0.2.5"));
        assert!(announced(&[], "0.0.0.0").iter().all(|address| !address.ip().is_unspecified()));
        assert_eq!(announced(&["--relay-announce", "192.0.2.9"], "0.0.0.0"), bound("192.0.2.9"));
    }
}
