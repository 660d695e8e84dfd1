//! What is loaded: the address of the deployment, and which media addresses belong to it.
//!
//! The tool stays on the addresses that it was given: a candidate from the server is used only if it is the host of the URL,
//! another address of this machine while the host is this machine too, or one that the command line lists.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};
use tokio::net::lookup_host;

/// The URL of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Reads `ws://host[:port][/path]` or `wss://…`; `http` and `https` mean the same.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it must start with ws:// or wss://")?;
        let secure = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(format!("it must start with ws:// or wss://, not {scheme}://")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') || path.contains(['?', '#']) {
            return Err("it has a host, a port and a path, nothing else: tokens are signed for each member".into());
        }
        let port_of = |port: &str| port.parse().map_err(|_| format!("{port:?} is no port"));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port_of(port)?),
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("it has no host".into());
        }
        let path = if path.is_empty() { "/ws".to_owned() } else { format!("/{path}") };
        Ok(Self { secure, host, port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secure, host, port, path } = self;
        let scheme = if *secure { "wss" } else { "ws" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{path}"),
            false => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

/// A URL whose host has been looked up.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    /// Where sockets connect to.
    pub(crate) address: SocketAddr,
    hosts: HashSet<IpAddr>,
    local: bool,
}

impl Target {
    /// Looks the host up. Sends nothing to it.
    pub(crate) async fn resolve(url: &Url, media_hosts: &[IpAddr]) -> Result<Self> {
        let found = lookup_host((url.host.as_str(), url.port)).await;
        let found: Vec<SocketAddr> = found.with_context(|| format!("cannot look up {}", url.host))?.collect();
        // IPv4 first: a machine has one IPv6 loopback address, but sixteen million of IPv4.
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        let Some(&address) = address else { bail!("{} has no address", url.host) };
        let hosts = found.iter().map(SocketAddr::ip).chain(media_hosts.iter().copied()).collect();
        Ok(Self { url: url.clone(), address, hosts, local: is_local(address.ip()) })
    }

    /// Whether it is TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.secure
    }

    /// Whether the deployment is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }

    /// Whether media may be sent there.
    pub(crate) fn permits(&self, media: IpAddr) -> bool {
        self.hosts.contains(&media) || (self.local && is_local(media))
    }
}

/// Whether an address is this machine's: it can be bound.
pub(crate) fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for (text, full) in [
            ("ws://127.0.0.1:3000", "ws://127.0.0.1:3000/ws"),
            ("wss://voice.example/", "wss://voice.example:443/ws"),
            ("http://localhost/other/ws", "ws://localhost:80/other/ws"),
            ("ws://[::1]:3000/ws", "ws://[::1]:3000/ws"),
            ("ws://[::1]", "ws://[::1]:80/ws"),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()), Ok(full.to_owned()));
        }
        for text in ["localhost:3000", "ftp://host", "ws://", "ws://host:port", "ws://host/ws?token=x", "ws://a@b"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn media_goes_only_where_it_was_allowed() {
        let url = |text| Url::parse(text).expect("valid");
        let ip = |text: &str| text.parse::<IpAddr>().expect("valid");
        let here = Target::resolve(&url("ws://127.0.0.1:1"), &[ip("192.0.2.7")]).await.expect("an address");
        assert!(here.is_local() && here.permits(ip("127.0.0.1")) && here.permits(ip("127.0.0.5")));
        assert!(here.permits(ip("192.0.2.7")) && !here.permits(ip("192.0.2.8")));
        let there = Target::resolve(&url("ws://192.0.2.1:1"), &[]).await.expect("an address");
        assert!(!there.is_local() && there.permits(ip("192.0.2.1")));
        assert!(!there.permits(ip("192.0.2.2")) && !there.permits(ip("127.0.0.1")));
    }
}
