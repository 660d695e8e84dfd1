//! The first message of a subscription, checked: what a mistaken or hostile caller may have written is refused here.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use tonic::Status;
use voiceping_engine::id::ChannelId;
use voiceping_engine::{Path, RelayKey, RelayOut};
use voiceping_proto::media::v1::subscribe_request::Hello;
use voiceping_state::NodeId;

use crate::service::check::id;

/// Workers that a node may have.
const MAX_WORKERS: usize = 64;

/// Channels that one node may listen to: far beyond what a node can carry.
pub(super) const MAX_CHANNELS: usize = 100_000;

/// A node that asks for the talks of this one's clients.
#[derive(Debug)]
pub(super) struct Subscriber {
    /// Which.
    pub(super) node: NodeId,
    /// Where its services are.
    pub(super) address: String,
    /// Channels that have listeners there.
    pub(super) channels: HashSet<ChannelId>,
    session: u32,
    key: RelayKey,
    paths: Vec<Path>,
}

impl Subscriber {
    /// Reads a hello to the node `own`, whose workers listen on these addresses each.
    pub(super) fn check(hello: Hello, own: &NodeId, sockets: &[IpAddr]) -> Result<Self, Status> {
        let node = NodeId::from(id(&hello.node_id, "node_id")?);
        if node == *own {
            return Err(Status::invalid_argument("a node does not subscribe to itself"));
        }
        if hello.to_node_id != own.as_str() {
            return Err(Status::failed_precondition("another node is meant"));
        }
        let key = RelayKey::try_from(&hello.key[..]).map_err(|_| Status::invalid_argument("a key has 16 bytes"))?;
        if hello.udp_addresses.is_empty() || hello.udp_addresses.len() > MAX_WORKERS {
            return Err(Status::invalid_argument("too few or too many addresses"));
        }
        if hello.channel_ids.len() > MAX_CHANNELS {
            return Err(Status::invalid_argument("too many channels"));
        }
        let channel = |text: &String| id(text, "channel_id").map(ChannelId::from);
        Ok(Self {
            node,
            address: id(&hello.address, "address")?.to_owned(),
            channels: hello.channel_ids.iter().map(channel).collect::<Result<_, _>>()?,
            session: hello.session,
            key,
            paths: hello.udp_addresses.iter().map(|text| path(text, sockets)).collect::<Result<_, _>>()?,
        })
    }

    /// What one of our workers must know to relay to it.
    pub(super) fn relay_from(&self, worker: usize) -> RelayOut {
        RelayOut { session: self.session, key: self.key.clone(), sender: worker as u8, paths: self.paths.clone() }
    }
}

/// The way to an address: over the socket that is of its kind.
fn path(text: &str, sockets: &[IpAddr]) -> Result<Path, Status> {
    let remote: SocketAddr =
        text.parse().map_err(|_| Status::invalid_argument(format!("{text:?} is no address with a port")))?;
    let ip = remote.ip();
    let nobodys = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if nobodys || ip.is_unspecified() || ip.is_multicast() || remote.port() == 0 {
        return Err(Status::invalid_argument(format!("{remote} is the address of no node")));
    }
    // From a loopback address nothing else can be reached.
    let suits = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4() && (!own.is_loopback() || ip.is_loopback());
    let socket = sockets.iter().position(suits);
    let socket = socket.ok_or_else(|| Status::invalid_argument(format!("{remote} cannot be reached from here")))?;
    Ok(Path { socket: socket as u32, remote })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn hello() -> Hello {
        Hello {
            node_id: "other".to_owned(),
            address: "192.0.2.7:7000".to_owned(),
            session: 7,
            key: vec![1; 16],
            udp_addresses: vec!["192.0.2.7:40000".to_owned(), "192.0.2.7:40001".to_owned()],
            channel_ids: vec!["lobby".to_owned()],
            to_node_id: "own".to_owned(),
        }
    }

    fn check(hello: Hello) -> Result<Subscriber, Code> {
        let sockets = ["127.0.0.1", "::1", "192.0.2.1"].map(|ip| ip.parse().expect("valid"));
        Subscriber::check(hello, &"own".into(), &sockets).map_err(|status| status.code())
    }

    #[test]
    fn what_is_right_is_taken_as_it_is() {
        let subscriber = check(hello()).expect("right");
        assert_eq!((subscriber.node.as_str(), subscriber.address.as_str()), ("other", "192.0.2.7:7000"));
        assert_eq!(subscriber.channels, HashSet::from(["lobby".into()]));
        let relay = subscriber.relay_from(3);
        assert_eq!((relay.session, relay.sender), (7, 3));
        let remotes: Vec<String> = relay.paths.iter().map(|path| path.remote.to_string()).collect();
        assert_eq!(remotes, hello().udp_addresses);
        assert!(relay.paths.iter().all(|path| path.socket == 2), "not over a loopback address");
    }

    #[test]
    fn a_loopback_address_is_reached_from_one() {
        let addresses = |udp_addresses: &[&str]| Hello {
            udp_addresses: udp_addresses.iter().map(ToString::to_string).collect(),
            ..hello()
        };
        let sockets = |hello| check(hello).expect("right").paths.iter().map(|path| path.socket).collect::<Vec<_>>();
        assert_eq!(sockets(addresses(&["127.0.0.1:1", "[::1]:1"])), [0, 1]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        type Spoil = fn(&mut Hello);
        let wrong: [(&str, Spoil); 15] = [
            ("no id", |hello| hello.node_id.clear()),
            ("a long id", |hello| hello.node_id = "x".repeat(257)),
            ("our own id", |hello| hello.node_id = "own".to_owned()),
            ("no address", |hello| hello.address.clear()),
            ("no key", |hello| hello.key.clear()),
            ("a long key", |hello| hello.key.push(1)),
            ("no worker", |hello| hello.udp_addresses.clear()),
            ("too many workers", |hello| hello.udp_addresses = vec!["192.0.2.7:1".to_owned(); 65]),
            ("a name", |hello| hello.udp_addresses[0] = "localhost:40000".to_owned()),
            ("everybody", |hello| hello.udp_addresses[0] = "255.255.255.255:40000".to_owned()),
            ("a group", |hello| hello.udp_addresses[0] = "224.0.0.1:40000".to_owned()),
            ("nobody", |hello| hello.udp_addresses[0] = "0.0.0.0:40000".to_owned()),
            ("no port", |hello| hello.udp_addresses[0] = "192.0.2.7:0".to_owned()),
            ("no way there", |hello| hello.udp_addresses[0] = "[2001:db8::1]:40000".to_owned()),
            ("an empty channel", |hello| hello.channel_ids.push(String::new())),
        ];
        for (what, spoil) in wrong {
            let mut spoilt = hello();
            spoil(&mut spoilt);
            assert_eq!(check(spoilt).err(), Some(Code::InvalidArgument), "{what}");
        }
        let meant_for_another = Hello { to_node_id: "former".to_owned(), ..hello() };
        assert_eq!(check(meant_for_another).err(), Some(Code::FailedPrecondition));
    }
}
