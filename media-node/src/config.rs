//! The media node's settings: flags, environment variables and help texts from two structs, one for every node and one for
//! a node among others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, bail};

/// See the fields.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Media")]
#[allow(rustdoc::broken_intra_doc_links, reason = "a help text is shown as it is")]
pub struct Config {
    /// Address and first UDP port for media. Each worker takes one port, counting up; port 0 lets the system choose. [::]
    /// is every address of both families
    #[arg(long, env = "VOICEPING_MEDIA_LISTEN", default_value = "[::]:40000", value_name = "ADDRESS:PORT")]
    pub media_listen: SocketAddr,

    /// Addresses given to clients, IPv4 and IPv6, separated by commas, best first. Default: the address that is listened on
    /// or, if that is 0.0.0.0 or [::], this machine's own. Behind a NAT, give the public address and forward the ports
    /// unchanged.
    #[arg(long, env = "VOICEPING_MEDIA_ANNOUNCE", value_delimiter = ',', value_name = "ADDRESS")]
    pub media_announce: Vec<IpAddr>,

    /// TCP port for media, on the same addresses: for clients whose network lets no UDP through, of all workers. 443 passes most
    /// firewalls. Default: the number of --media-listen's port. "off": only UDP.
    #[arg(long, env = "VOICEPING_MEDIA_TCP_PORT", value_name = "PORT|off", value_parser = tcp_port)]
    pub media_tcp_port: Option<TcpPort>,

    /// Worker threads, each with its own UDP port. Default: one for each processor.
    #[arg(long, env = "VOICEPING_MEDIA_WORKERS", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub media_workers: Option<u16>,

    /// Who begins to listen within this time of a talk's beginning hears it from its first word, a little later than the others.
    /// At most 1s; 0s: from where it is
    #[arg(long, env = "VOICEPING_MEDIA_REPLAY", default_value = "1s", value_name = "TIME", value_parser = replay)]
    pub media_replay: Duration,
}

fn replay(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time > Duration::from_secs(1) {
        return Err("no more than a second of a talk is kept".to_owned());
    }
    Ok(time)
}

impl Config {
    /// The number of worker threads.
    pub fn workers(&self) -> u16 {
        self.media_workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64) as u16))
    }

    /// The port for media over TCP, if it is accepted.
    pub fn tcp_port(&self) -> Option<u16> {
        match self.media_tcp_port {
            Some(TcpPort::Off) => None,
            Some(TcpPort::Port(port)) => Some(port),
            None => Some(self.media_listen.port()),
        }
    }

    /// The addresses given to clients, each once.
    pub fn announced(&self) -> Result<Vec<IpAddr>> {
        let listen = self.media_listen.ip();
        let mut announced: Vec<IpAddr> = Vec::new();
        for address in &self.media_announce {
            if address.is_unspecified() {
                bail!(
                    "--media-announce {address}: clients cannot send there; give an address of this machine that they can \
                     reach"
                );
            }
            if !listen.is_unspecified() && listen.is_ipv4() != address.is_ipv4() {
                bail!(
                    "--media-announce {address}: nobody listens there; --media-listen [::]:PORT listens on both families"
                );
            }
            if !announced.contains(address) {
                announced.push(*address);
            }
        }
        if !announced.is_empty() {
            return Ok(announced);
        }
        Ok(match listen {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => own_addresses(),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![own_address()],
            listen => vec![listen],
        })
    }

    /// The addresses to bind: each announced one, so that answers leave from the address that they were sent to. If one of
    /// a family is not this machine's (a NAT's), every address of that family, by its unspecified one.
    pub fn bind_addresses(&self, announced: &[IpAddr]) -> Vec<IpAddr> {
        let listen = self.media_listen.ip();
        if !listen.is_unspecified() {
            return vec![listen];
        }
        let foreign = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_err();
        let behind_nat = |v4: bool| announced.iter().any(|address| address.is_ipv4() == v4 && foreign(address));
        let behind_nat = [behind_nat(false), behind_nat(true)];
        let mut bound = Vec::new();
        for address in announced {
            let address = match address {
                IpAddr::V4(_) if behind_nat[1] => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) if behind_nat[0] => Ipv6Addr::UNSPECIFIED.into(),
                own => *own,
            };
            if !bound.contains(&address) {
                bound.push(address);
            }
        }
        bound
    }
}

/// Where media is accepted over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpPort {
    /// Nowhere.
    Off,
    /// On this port; 0 lets the system choose.
    Port(u16),
}

fn tcp_port(text: &str) -> Result<TcpPort, String> {
    match text {
        "off" => Ok(TcpPort::Off),
        port => port.parse().map(TcpPort::Port).map_err(|_| "a port or \"off\"".to_owned()),
    }
}

/// Settings of a node among others. Their defaults are right for a node alone.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cluster")]
#[allow(rustdoc::broken_intra_doc_links, reason = "a help text is shown as it is")]
pub struct ClusterConfig {
    /// Where this node is: clients are placed on nodes of their gateway's region first
    #[arg(long, env = "VOICEPING_REGION", default_value = Self::REGION, value_name = "NAME")]
    pub region: String,

    /// Clients that this node may have
    #[arg(long, env = "VOICEPING_CAPACITY", default_value_t = Self::CAPACITY, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub capacity: u32,

    /// Address at which other media nodes reach this one's media ports. Default: the first address that is listened on or,
    /// if that is 0.0.0.0 or [::], this machine's own
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

/// The address from which this machine reaches others; over IPv4, if it has that.
pub fn own_address() -> IpAddr {
    own_addresses()[0]
}

/// The addresses from which this machine reaches others, IPv4 before IPv6: one or two. A machine that reaches nobody has
/// its loopback.
fn own_addresses() -> Vec<IpAddr> {
    // For documentation: RFC 5737 and RFC 3849.
    let v4 = route((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into());
    let v6 = route((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into());
    let own: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
    if own.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { own }
}

/// The own address on the way to another. Connecting a UDP socket sends nothing: it asks for the route.
fn route(any: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
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
        assert!(!found.is_empty() && found.iter().all(|address| !address.is_unspecified()));
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
    fn families_are_bound_apart_and_only_a_nats_address_is_replaced() {
        let bound = |flags: &[&str]| {
            let config = parse(flags).expect("parses");
            let bound = config.bind_addresses(&config.announced().expect("given"));
            bound.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(bound(&["--media-announce", "::1,127.0.0.1,::1"]), ["::1", "127.0.0.1"]);
        assert_eq!(bound(&["--media-announce", "192.0.2.5,::1"]), ["0.0.0.0", "::1"]);
        assert_eq!(bound(&["--media-announce", "127.0.0.1,2001:db8::5,::1"]), ["127.0.0.1", "::"]);
        assert_eq!(bound(&["--media-listen", "[::1]:0"]), ["::1"]);
        assert_eq!(bound(&["--media-listen", "0.0.0.0:0", "--media-announce", "127.0.0.1,::1"]), ["127.0.0.1", "::1"]);
        let other = parse(&["--media-listen", "127.0.0.1:0", "--media-announce", "::1"]).expect("parses");
        assert!(other.announced().expect_err("refused").to_string().contains("[::]"), "nobody listens there");
    }

    #[test]
    fn the_port_for_tcp_is_the_first_one_for_udp_if_nothing_else_is_said() {
        let port = |flags: &[&str]| parse(flags).expect("parses").tcp_port();
        assert_eq!(port(&[]), Some(40_000));
        assert_eq!(port(&["--media-listen", "127.0.0.1:0"]), Some(0));
        assert_eq!(port(&["--media-tcp-port", "443"]), Some(443));
        assert_eq!(port(&["--media-tcp-port", "off"]), None);
        assert!(parse(&["--media-tcp-port", "on"]).is_err());
    }

    #[test]
    fn no_more_is_replayed_than_is_kept() {
        assert_eq!(parse(&["--media-replay", "300ms"]).expect("parses").media_replay, Duration::from_millis(300));
        assert!(parse(&["--media-replay", "2s"]).is_err());
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
