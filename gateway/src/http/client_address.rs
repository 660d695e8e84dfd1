//! Whose request it is: the address of the connection, or, behind proxies that are trusted, what they say.
//!
//! A header is believed as far as those who wrote it: from its end, over addresses of trusted networks, to the first that is
//! not one. What stands before that was written by the client, who may write anything.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// More proxies than stand in one row.
const MAX_HOPS: usize = 16;

/// Settings of proxies.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Proxies")]
#[group(skip)]
pub struct ProxyConfig {
    /// Networks of proxies whose word about a client's address counts, as 10.0.0.0/8; several with commas. Without it the
    /// address of the connection counts
    #[arg(long, env = "VOICEPING_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// The header in which they say it. They must set or extend it themselves: what a client sends in the other is not read
    #[arg(long, env = "VOICEPING_PROXY_HEADER", value_name = "HEADER", default_value = "x-forwarded-for")]
    pub proxy_header: ProxyHeader,
}

/// Where proxies write the addresses that a request came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyHeader {
    /// Addresses and commas, as nearly all proxies do.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ProxyConfig {
    /// Is this a proxy whose word counts?
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// The address that a request came from, as far as anybody who is trusted knows.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let hops = if self.trusts(client) { self.hops(headers) } else { Vec::new() };
        for hop in hops {
            // Who does not name its client is the client, to us.
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// The nearest first; `None`: something that is no address.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.proxy_header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => axum::http::header::FORWARDED,
        };
        let parts = headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
        let mut hops: Vec<_> = parts.map(|part| self.hop(part)).collect();
        hops.reverse();
        hops.truncate(MAX_HOPS);
        hops
    }

    fn hop(&self, part: &str) -> Option<IpAddr> {
        let node = match self.proxy_header {
            ProxyHeader::XForwardedFor => part,
            ProxyHeader::Forwarded => part.split(';').find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                name.eq_ignore_ascii_case("for").then_some(value)
            })?,
        };
        let node = node.trim().trim_matches('"');
        let bare = node.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()));
        address.map(|address: IpAddr| address.to_canonical())
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = |_| text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(address).map_err(|_| "it is no network; write it like 10.0.0.0/8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ProxyHeader) -> ProxyConfig {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"];
        ProxyConfig {
            trusted_proxies: networks.map(|text| network(text).expect("a network")).to_vec(),
            proxy_header: header,
        }
    }

    fn client(proxies: &ProxyConfig, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
        proxies.client(peer, &headers.collect()).to_string()
    }

    #[test]
    fn only_who_is_trusted_is_believed() {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        let xff = |peer, value| client(&proxies, peer, &[("x-forwarded-for", value)]);
        assert_eq!(xff("198.51.100.9", "203.0.113.1"), "198.51.100.9");
        assert_eq!(xff("10.1.1.1", "203.0.113.1"), "203.0.113.1");
        assert_eq!(xff("::ffff:10.1.1.1", "203.0.113.1"), "203.0.113.1");
        assert_eq!(xff("192.0.2.7", "2001:db8:9::1"), "2001:db8:9::1");
        // The client has written the first one itself.
        assert_eq!(xff("10.1.1.1", "127.0.0.1, 203.0.113.1, 10.2.2.2"), "203.0.113.1");
        assert_eq!(xff("10.1.1.1", "10.3.3.3, 10.2.2.2"), "10.3.3.3");
        for (value, of) in [("203.0.113.1:4711", "203.0.113.1"), ("[2001:db8:9::1]:4711", "2001:db8:9::1")] {
            assert_eq!(xff("10.1.1.1", value), of);
        }
        for nonsense in ["", "unknown", "_hidden", "203.0.113.1, what", "\u{e9}"] {
            assert_eq!(xff("10.1.1.1", nonsense), "10.1.1.1", "{nonsense}");
        }
        assert_eq!(xff("10.1.1.1", &"10.9.9.9,".repeat(100_000)), "10.1.1.1");
        assert_eq!(client(&proxies, "10.1.1.1", &[]), "10.1.1.1");
        // Two lines are one list; the other header is not read at all.
        let lines =
            [("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "203.0.113.2"), ("forwarded", "for=9.9.9.9")];
        assert_eq!(client(&proxies, "10.1.1.1", &lines), "203.0.113.2");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_asked_for() {
        let proxies = proxies(ProxyHeader::Forwarded);
        let forwarded = |value| client(&proxies, "10.1.1.1", &[("forwarded", value), ("x-forwarded-for", "9.9.9.9")]);
        assert_eq!(forwarded("for=203.0.113.1;proto=https"), "203.0.113.1");
        assert_eq!(forwarded("proto=https; For=\"[2001:db8:9::1]:4711\", for=10.2.2.2"), "2001:db8:9::1");
        assert_eq!(forwarded("proto=https"), "10.1.1.1");
    }

    #[test]
    fn without_networks_nobody_is_believed() {
        let nobody = ProxyConfig::default();
        assert_eq!(client(&nobody, "10.1.1.1", &[("x-forwarded-for", "203.0.113.1")]), "10.1.1.1");
        assert!(network("10.0.0.0/33").is_err() && network("everybody").is_err());
    }
}
