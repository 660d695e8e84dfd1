//! The media node's settings: flags, environment variables and help texts from one struct.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

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

/// The address from which this machine reaches others. Connecting a UDP socket sends nothing: it asks for the route.
fn own_address() -> IpAddr {
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
    }

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Flags::try_parse_from(std::iter::once("test").chain(flags.iter().copied())).map(|flags| flags.config)
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
}
