//! The media node: sockets and worker threads around the engine, and the gRPC service in front of them.
//!
//! A role as a library: [`MediaNode::bind`] opens everything before anything runs, so that a test asks for port 0 and reads
//! it back. It knows transports, producers, consumers, channels and floors; it never sees a token or a role.

mod clock;
mod config;
mod events;
mod gate_log;
mod grace;
pub mod io;
mod mesh;
mod metrics;
mod registration;
mod service;
mod status;
mod streams;
mod talks;
mod tcp;
#[cfg(test)]
#[path = "../tests/webrtc/node.rs"]
#[allow(dead_code)] // the tests over the public contract use more of it
mod test_node;
mod vitals;
mod worker;

#[cfg(test)]
extern crate self as voiceping_media_node; // what they share calls the crate by its name

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
pub use config::{ClusterConfig, Config, TcpPort, own_address};
pub use mesh::{CallError, Dial, Mesh, RelayClient, relay_client};
pub use metrics::declared as metrics;
pub use service::Service;
pub use status::Status;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voiceping_engine::Identity;
use voiceping_proto::media::v1::IceCandidate;
use voiceping_proto::media::v1::media_node_server::MediaNodeServer;
use voiceping_proto::media::v1::relay_server::RelayServer;
use voiceping_state::{Node, NodeId, Store};

use crate::clock::Clock;
use crate::events::Events;
use crate::gate_log::GateLog;
use crate::registration::Registration;
use crate::tcp::Door;
use crate::worker::Worker;

/// How often a draining node looks whether it is empty.
const LOOK: Duration = Duration::from_millis(100);

/// A running media node.
#[derive(Debug)]
pub struct MediaNode {
    id: NodeId,
    service: Service,
    mesh: Mesh,
    events: Arc<Events>,
    local_addrs: Vec<SocketAddr>,
    /// The first bound address of each worker.
    first_addrs: Vec<SocketAddr>,
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    /// What [`Self::join`] has started, and what ends it.
    tasks: TaskTracker,
    end: CancellationToken,
}

impl MediaNode {
    /// Binds the sockets and starts the workers. The node serves those who call it, and is in no registry.
    pub fn bind(config: Config) -> Result<Self> {
        let announced = config.announced()?;
        let addresses = config.bind_addresses(&announced);
        let (tcp_listeners, tcp_port) = listen_tcp(&config, &addresses)?;
        let mut sockets = Vec::new();
        let mut candidates = Vec::new();
        let mut local_addrs = Vec::new();
        let mut first_addrs = Vec::new();
        for worker in 0..config.workers() {
            let mut port = match config.media_listen.port() {
                0 => 0,
                first => first.checked_add(worker).context("--media-listen: not enough ports above the first one")?,
            };
            let mut of_worker = Vec::new();
            for address in &addresses {
                let wanted = SocketAddr::new(*address, port);
                let socket = io::bind(wanted).with_context(|| {
                    format!(
                        "cannot listen for media on UDP {wanted}; choose another address or port with --media-listen"
                    )
                })?;
                let bound = socket.local_addr().context("a bound socket has an address")?;
                port = bound.port(); // all of a worker's addresses share the port
                if of_worker.is_empty() {
                    first_addrs.push(bound);
                }
                local_addrs.push(bound);
                of_worker.push(socket);
            }
            candidates.push(host_candidates(&announced, port, tcp_port));
            sockets.push(of_worker);
        }
        let identity = Identity::generate()?;
        let fingerprint = identity.fingerprint();
        let clock = Clock::start();
        let engine = voiceping_engine::Config {
            replay: config.media_replay,
            ..voiceping_engine::Config::new(identity, clock.origin())
        };
        let id = format!("{:016x}", rand::random::<u64>());
        let events = Arc::new(Events::new(id.clone(), clock));
        let (workers, threads) = worker::start(sockets, &engine, &events, &GateLog::new(id.clone(), clock))?;
        tracing::info!(node_id = id, ?local_addrs, tcp_port, ?announced, "media node listens");
        let service = Service::new(id.clone(), clock, workers.clone(), candidates, fingerprint, Arc::clone(&events));
        let id = NodeId::from(id);
        let mesh = Mesh::new(id.clone(), workers.clone(), addresses, Arc::clone(&events));
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let door = Door::new(workers.clone());
        for listener in tcp_listeners {
            tasks.spawn(end.clone().run_until_cancelled_owned(Arc::clone(&door).keep(listener)));
        }
        Ok(Self { id, service, mesh, events, local_addrs, first_addrs, workers, threads, tasks, end })
    }

    /// The gRPC service for gateways, to be served over the network or called in this process.
    pub fn service(&self) -> MediaNodeServer<Service> {
        MediaNodeServer::new(self.service.clone())
    }

    /// The gRPC service for other media nodes.
    pub fn relay_service(&self) -> RelayServer<Mesh> {
        RelayServer::new(self.mesh.clone())
    }

    /// To ask it how it is, also while it shuts down.
    pub fn status(&self) -> Status {
        Status(Arc::clone(&self.events))
    }

    /// The node's id: random, of this process alone.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// The bound UDP addresses.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Makes the node one among others: subscribes to those in the registry, then registers at `address`, where its
    /// services are served already, and stays registered. Returns when gateways can find it, or when the state is away,
    /// and then it keeps trying. From here on clients of gateways that are gone for too long are closed.
    pub async fn join(&self, config: ClusterConfig, store: Store, address: String, dial: Dial) -> Result<()> {
        self.mesh.join(address.clone(), config.relay_addresses(&self.first_addrs), dial)?;
        let ClusterConfig { region, capacity, gateway_grace, .. } = config;
        let vitals = &self.events.vitals;
        vitals.set_capacity(capacity);
        metrics::observe(vitals);
        self.tasks.spawn(self.end.clone().run_until_cancelled_owned(vitals.talks.report()));
        let (workers, events) = (self.workers.clone(), Arc::clone(&self.events));
        self.tasks.spawn(grace::keep(gateway_grace, workers.clone(), Arc::clone(&events), self.end.clone()));
        let node = Node { id: self.id.clone(), address, region, capacity, load: 0, draining: false };
        let mut registration = Registration::new(store, self.mesh.clone(), workers, events, node);
        registration.renew().await;
        self.tasks.spawn(registration.keep(self.end.clone()));
        Ok(())
    }

    /// Takes nobody new, and tells the gateways to move their clients. Returns when none is left, or after `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.events.drain(Instant::now() + deadline);
        let empty = async {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                match worker::usage(&self.workers).await {
                    Ok(usage) if usage.connections > 0 => {}
                    _ => return,
                }
            }
        };
        if tokio::time::timeout(deadline, empty).await.is_err() {
            tracing::warn!("the deadline has passed; this node ends with clients on it");
        }
    }

    /// Leaves the registry, ends the streams of gateways and other nodes, then the workers.
    pub async fn shutdown(self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.mesh.close().await;
        self.events.close();
        for worker in &self.workers {
            worker.stop();
        }
        let joined = tokio::task::spawn_blocking(move || {
            self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.is_ok_and(|failed| failed > 0) {
            tracing::error!("a media worker did not end in order");
        }
    }
}

/// Opens the port for media over TCP on every address, if it is wanted.
fn listen_tcp(config: &Config, addresses: &[IpAddr]) -> Result<(Vec<TcpListener>, Option<u16>)> {
    let Some(mut port) = config.tcp_port() else { return Ok((Vec::new(), None)) };
    let mut listeners = Vec::new();
    for address in addresses {
        let wanted = SocketAddr::new(*address, port);
        let listener = tcp::bind(wanted).with_context(|| {
            format!("cannot listen for media on TCP {wanted}; choose another port with --media-tcp-port, or \"off\"")
        })?;
        port = listener.local_addr().context("a bound socket has an address")?.port();
        listeners.push(listener);
    }
    Ok((listeners, Some(port)))
}

/// Host candidates for one worker (RFC 8445 section 5.1), in the order in which the addresses were announced; those for
/// TCP, which all workers share, behind those for UDP.
fn host_candidates(announced: &[IpAddr], udp_port: u16, tcp_port: Option<u16>) -> Vec<IceCandidate> {
    let candidate = |protocol: &str, priority: u32, index: usize, address: &IpAddr, port: u16| IceCandidate {
        foundation: format!("{protocol}{index}"),
        priority,
        address: address.to_string(),
        protocol: protocol.to_owned(),
        port: port.into(),
    };
    let announced = || announced.iter().enumerate();
    let udp = announced().map(|(index, address)| {
        // RFC 8445 section 5.1.2.1: type preference 126 for host, local preference by order, component 1
        candidate("udp", (126 << 24) + ((65_535 - index as u32) << 8) + 255, index, address, udp_port)
    });
    let tcp = tcp_port.into_iter().flat_map(|port| {
        announced().map(move |(index, address)| {
            // RFC 6544 section 4.2: a type preference below that of UDP, direction preference 4 for passive
            let preference = (4 << 13) + 8191 - index as u32;
            candidate("tcp", (90 << 24) + (preference << 8) + 255, index, address, port)
        })
    });
    udp.chain(tcp).collect()
}
