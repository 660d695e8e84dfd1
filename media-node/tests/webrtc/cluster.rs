//! Several nodes with one registry, which call each other over real connections, through the same authentication as the
//! processes of a cluster.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use clap::Parser;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use voiceping_media_node::{ClusterConfig, Dial, RelayClient, relay_client};
use voiceping_rpc::{Dialer, RpcConfig, Security, Server};
use voiceping_state::{FloorRules, Limits, Memory, Nodes, Store};
use voiceping_testkit::voice::Heard;
use voiceping_testkit::{receiver::Ear, soon};

use crate::node::{Member, Node, Speaker};

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    rpc: RpcConfig,
    #[command(flatten)]
    cluster: ClusterConfig,
}

/// See the module.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    security: Security,
    config: ClusterConfig,
    serving: Mutex<JoinSet<Result<()>>>,
    end: CancellationToken,
}

impl Cluster {
    /// A registry without nodes.
    pub(crate) fn new() -> Result<Self> {
        Self::with(&[])
    }

    /// The same with settings for its nodes.
    pub(crate) fn with(flags: &[&str]) -> Result<Self> {
        let rules = FloorRules { lease: std::time::Duration::from_secs(15), talk_limit: None };
        Self::over(Store::Memory(Memory::new(rules, Limits::default())), flags)
    }

    /// The same with another registry.
    pub(crate) fn over(store: Store, flags: &[&str]) -> Result<Self> {
        let flags = ["test", "--cluster-secret", "a secret of the tests"].iter().chain(flags);
        let flags = Flags::try_parse_from(flags)?;
        Ok(Self {
            store,
            security: flags.rpc.security()?,
            config: flags.cluster,
            serving: Mutex::default(),
            end: CancellationToken::new(),
        })
    }

    /// A node that has joined.
    pub(crate) async fn node(&self, workers: u16) -> Result<Node> {
        let node = Node::start(workers).await?;
        let address = self.serve(&node).await?;
        self.join(&node, address).await?;
        Ok(node)
    }

    /// A node that others call over a wire.
    pub(crate) async fn node_behind_wire(&self, workers: u16) -> Result<(Node, Wire)> {
        let node = Node::start(workers).await?;
        let (wire, address) = Wire::lay(self.serve(&node).await?).await?;
        self.join(&node, address).await?;
        Ok((node, wire))
    }

    async fn serve(&self, node: &Node) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = Server::new(self.security.clone())?.add(node.node.relay_service()).await;
        let server = server.run(listener, self.end.clone().cancelled_owned());
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).spawn(server);
        Ok(address)
    }

    async fn join(&self, node: &Node, address: SocketAddr) -> Result<()> {
        let dialer = Dialer::new(self.security.clone());
        let dial: Dial = Arc::new(move |address: &str| Ok(relay_client(dialer.dial(address)?)));
        node.node.join(self.config.clone(), self.store.clone(), address.to_string(), dial).await
    }

    /// A way to a node's relay service for somebody who is no node.
    pub(crate) async fn stranger(&self, node: &Node) -> Result<RelayClient> {
        let nodes = self.store.nodes().await?;
        let registered = nodes.iter().find(|known| known.id == *node.node.id());
        let address = &registered.expect("it has joined").address;
        Ok(relay_client(Dialer::new(self.security.clone()).dial(address)?))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Something between two nodes that can be cut.
pub(crate) struct Wire {
    connections: Arc<Mutex<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Leads to `to`. Answers where to call instead.
    pub(crate) async fn lay(to: SocketAddr) -> Result<(Self, SocketAddr)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let of_task = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                of_task.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
                    if let Ok(mut to) = tokio::net::TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await; // it ends when it is cut
                    }
                });
            }
        });
        Ok((Self { connections, task }, address))
    }

    /// Ends all connections; new ones may be made.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Gives a member the floor and lets it speak until all of these ears have heard it: from then on the way is known. Ends the
/// talk; `epoch` and the next one are used up.
pub(crate) async fn warm_up<const N: usize>(
    node: &Node,
    channel: &str,
    epoch: u64,
    (member, speaker): (&Member, &Speaker),
    ears: [&mut Ear; N],
) -> Result<()> {
    node.set_floor(channel, epoch, Some(member)).await?;
    let speaking = speaker.microphone.keep_speaking();
    for ear in ears {
        ear.next().await?;
    }
    drop(speaking);
    Ok(node.set_floor(channel, epoch + 1, None).await?)
}

/// Hears a talk of so many frames, of which the first has this number, after whatever is left of an earlier one.
pub(crate) async fn hear_from(ear: &mut Ear, speaker: u32, first: u32, frames: usize) -> Result<Vec<Heard>> {
    let begun = async {
        loop {
            let packet = ear.next().await?;
            if packet.speaker == speaker && packet.number >= first {
                return Ok::<_, anyhow::Error>(packet);
            }
        }
    };
    let mut heard = vec![soon("the talk", begun).await??];
    heard.extend(ear.hear(frames - 1).await?);
    Ok(heard)
}
