//! Gateways and media nodes in one process, over one state in memory, with transports in between that can be made to fail.
//! Sockets, media and the relay between the nodes are the real ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use secrecy::SecretSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use voiceping_gateway::{Claims, Config, Dependencies, Dial, Gateway, Keys, MediaClient, media_client};
use voiceping_media_node::{ClusterConfig, MediaNode, relay_client};
use voiceping_proto::media::v1::GetNodeRequest;
use voiceping_state::{ChannelId, Floor, FloorRules, Memory, Node, Nodes, State, Store, memory};

use crate::client::{Client, PATIENCE};
use crate::gates;
use crate::network::{Fault, Network};

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) gateways: usize,
    pub(crate) nodes: usize,
    /// Clients that a node may have.
    pub(crate) capacity: u32,
    pub(crate) lease: Duration,
    /// Long: a test whose holder sends nothing does not depend on how fast the machine is.
    pub(crate) silence_limit: Duration,
    pub(crate) resume_grace: Duration,
    pub(crate) drain_deadline: Duration,
    /// A call to the nodes that fails from the beginning.
    pub(crate) without: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            gateways: 1,
            nodes: 1,
            capacity: 1000,
            lease: Duration::from_secs(10),
            silence_limit: Duration::from_secs(600),
            resume_grace: Duration::from_secs(600),
            drain_deadline: Duration::from_secs(4),
            without: None,
        }
    }
}

pub(crate) struct Cluster {
    store: Store,
    keys: Keys,
    nodes: Vec<TestNode>,
    gateways: Vec<TestGateway>,
}

struct TestNode {
    id: String,
    network: Network,
    media: MediaClient,
    node: Option<MediaNode>,
}

struct TestGateway {
    address: String,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    gateway: Config,
    #[command(flatten)]
    media: voiceping_media_node::Config,
}

impl Cluster {
    /// All is well.
    pub(crate) async fn start(setup: Setup) -> Self {
        let rules = FloorRules { lease: setup.lease, talk_limit: None };
        let cluster = Self::start_on(Store::Memory(Memory::new(rules, memory::Limits::default())), setup.clone()).await;
        if setup.without.is_none() {
            for gateway in 0..setup.gateways {
                cluster.until_ready(gateway, setup.nodes as u64).await;
            }
        }
        cluster
    }

    /// Over a state that may be away.
    pub(crate) async fn start_on(store: Store, setup: Setup) -> Self {
        gates::watch();
        let rules = FloorRules { lease: setup.lease, talk_limit: None };
        let keys = Keys::hs256(&SecretSlice::from(vec![7; 32]), None, None);
        let clients: Arc<Mutex<HashMap<String, MediaClient>>> = Arc::default();
        let nodes = start_nodes(&setup, &store, &clients).await;
        let dial: Dial = Arc::new(move |node: &Node| {
            let clients = clients.lock().expect("not poisoned");
            clients.get(node.id.as_str()).cloned().ok_or_else(|| anyhow::anyhow!("unknown: {}", node.id))
        });
        let gateways = (0..setup.gateways).map(|_| {
            let (store, keys, dial) = (store.clone(), keys.clone(), Arc::clone(&dial));
            let dependencies = Dependencies { store, rules, dial, keys, dev_sign_in: false };
            let gateway = Gateway::bind(flags(&setup).gateway, dependencies).expect("binds");
            let (address, shutdown) = (gateway.local_addr().to_string(), CancellationToken::new());
            let task = Some(tokio::spawn(gateway.run(shutdown.clone())));
            TestGateway { address, shutdown, task }
        });
        Self { gateways: gateways.collect(), store, keys, nodes }
    }

    /// A client that is signed in at a gateway.
    pub(crate) async fn client(&self, gateway: usize, user: &str) -> Client {
        let claims = Claims { user_id: user.into(), user_name: user.into(), ..Claims::default() };
        let token = self.keys.sign(&claims, Duration::from_secs(3600)).expect("signs");
        Client::connect(&format!("ws://{}/ws?token={token}", self.gateways[gateway].address)).await
    }

    /// A client that is on a channel.
    pub(crate) async fn member(&self, gateway: usize, user: &str, channel: &str) -> Client {
        let mut client = self.client(gateway, user).await;
        client.join(channel).await;
        client
    }

    /// A client of ours: it can resume and move.
    pub(crate) async fn our_member(&self, gateway: usize, user: &str, channel: &str) -> Client {
        let mut client = self.client(gateway, user).await;
        assert_eq!(client.begin_session(None).await["resumed"], false);
        client.join(channel).await;
        client
    }

    pub(crate) fn network(&self, node: usize) -> &Network {
        &self.nodes[node].network
    }

    /// The node with this id.
    pub(crate) fn node_of(&self, id: &str) -> usize {
        self.nodes.iter().position(|node| node.id == id).expect("one of ours")
    }

    /// Ends a node as a crash does: nobody is told.
    pub(crate) async fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        gates::node_ended(&node.id);
        node.network.cut(Fault::Refuse);
        node.node.take().expect("it runs").shutdown().await;
    }

    /// Makes a node take nobody new and end by then.
    pub(crate) fn drain(&mut self, node: usize, deadline: Duration) -> JoinHandle<()> {
        let node = self.nodes[node].node.take().expect("it runs");
        tokio::spawn(async move { node.drain(deadline).await })
    }

    pub(crate) async fn floor(&self, channel: &str) -> Floor {
        self.store.floor(&ChannelId::from(channel)).await.expect("in memory")
    }

    /// Transports on a node.
    pub(crate) async fn transports(&self, node: usize) -> u32 {
        let mut media = self.nodes[node].media.clone();
        media.get_node(GetNodeRequest {}).await.expect("answers").into_inner().transports
    }

    pub(crate) async fn until_transports(&self, node: usize, count: u32) {
        let reached = async {
            while self.transports(node).await != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the transports are closed");
    }

    /// The node that has transports.
    pub(crate) async fn node_with_clients(&self) -> usize {
        for node in 0..self.nodes.len() {
            if self.transports(node).await > 0 {
                return node;
            }
        }
        panic!("no node has any");
    }

    /// Waits until the registry says that a node is full, and the gateways have read it.
    pub(crate) async fn until_full(&self, node: usize) {
        let full = async {
            loop {
                let nodes = self.store.nodes().await.expect("in memory");
                if nodes.iter().any(|known| known.id.as_str() == self.nodes[node].id && !known.has_room()) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, full).await.expect("it is full");
        // They read the registry once a second.
        sleep(Duration::from_millis(1200)).await;
    }

    /// Waits until a gateway is ready, with so many nodes: each has one worker.
    pub(crate) async fn until_ready(&self, gateway: usize, nodes: u64) {
        let ready = async {
            while self.get(gateway, "/ready").await.0 != 200 || self.workers(gateway).await != nodes {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("it becomes ready");
    }

    async fn workers(&self, gateway: usize) -> u64 {
        let health = self.get(gateway, "/health").await.1;
        let json = &health[health.find('{').expect("JSON")..];
        serde_json::from_str::<serde_json::Value>(json).expect("JSON")["workers"].as_u64().expect("a number")
    }

    /// Status and body of a page.
    pub(crate) async fn get(&self, gateway: usize, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.gateways[gateway].address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("answers");
        let status = response.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, response)
    }

    /// Tells a gateway to end. Answers when it has.
    pub(crate) fn shut_down(&mut self, gateway: usize) -> JoinHandle<()> {
        let gateway = &mut self.gateways[gateway];
        gateway.shutdown.cancel();
        let task = gateway.task.take().expect("it runs");
        tokio::spawn(async move { task.await.expect("does not panic").expect("ends in order") })
    }
}

async fn start_nodes(setup: &Setup, store: &Store, clients: &Mutex<HashMap<String, MediaClient>>) -> Vec<TestNode> {
    let relays: Arc<Mutex<HashMap<String, _>>> = Arc::default();
    let mut nodes = Vec::new();
    for index in 0..setup.nodes {
        let node = MediaNode::bind(flags(setup).media).expect("binds");
        let (id, address, network) = (node.id().to_string(), format!("node-{index}"), Network::default());
        if let Some(call) = setup.without {
            network.fault(call, Fault::Fail);
        }
        clients.lock().expect("not poisoned").insert(id.clone(), network.client(&node));
        relays.lock().expect("not poisoned").insert(address.clone(), relay_client(node.relay_service()));
        let known = Arc::clone(&relays);
        let dial = Arc::new(move |address: &str| {
            let known = known.lock().expect("not poisoned");
            known.get(address).cloned().ok_or_else(|| anyhow::anyhow!("nobody is at {address}"))
        });
        let config = ClusterConfig { capacity: setup.capacity, ..ClusterConfig::default() };
        node.join(config, store.clone(), address, dial).await.expect("joins");
        nodes.push(TestNode { id, network, media: media_client(node.service()), node: Some(node) });
    }
    nodes
}

fn flags(setup: &Setup) -> Flags {
    let flags = format!(
        "test --listen 127.0.0.1:0 --media-listen 127.0.0.1:0 --media-workers 1 --channel-access open \
         --silence-limit {}ms --resume-grace {}ms --drain-deadline {}ms",
        setup.silence_limit.as_millis(),
        setup.resume_grace.as_millis(),
        setup.drain_deadline.as_millis(),
    );
    Flags::parse_from(flags.split_whitespace())
}
