//! The media node: sockets and worker threads around the engine, and the gRPC service in front of them.
//!
//! A role as a library: [`MediaNode::bind`] opens everything before anything runs, so that a test asks for port 0 and reads
//! it back. It knows transports, producers, consumers, channels and floors; it never sees a token or a role.

mod config;
mod events;
pub mod io;
mod service;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
pub use config::Config;
pub use service::Service;
use voiceping_engine::Identity;
use voiceping_proto::media::v1::IceCandidate;
use voiceping_proto::media::v1::media_node_server::MediaNodeServer;

use crate::events::Watchers;
use crate::worker::Worker;

/// A running media node.
#[derive(Debug)]
pub struct MediaNode {
    service: Service,
    local_addrs: Vec<SocketAddr>,
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    watchers: Arc<Watchers>,
}

impl MediaNode {
    /// Binds the sockets and starts the workers.
    pub fn bind(config: Config) -> Result<Self> {
        let announced = config.announced()?;
        let addresses = config.bind_addresses(&announced);
        let mut sockets = Vec::new();
        let mut candidates = Vec::new();
        let mut local_addrs = Vec::new();
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
                local_addrs.push(bound);
                of_worker.push(socket);
            }
            candidates.push(host_candidates(&announced, port));
            sockets.push(of_worker);
        }
        let identity = Identity::generate()?;
        let fingerprint = identity.fingerprint();
        let engine = voiceping_engine::Config::new(identity, (Instant::now(), SystemTime::now()));
        let watchers = Arc::new(Watchers::default());
        let (workers, threads) = worker::start(sockets, &engine, &watchers)?;
        let node_id = format!("{:016x}", rand::random::<u64>());
        tracing::info!(%node_id, ?local_addrs, ?announced, "media node listens");
        let service = Service::new(node_id, workers.clone(), candidates, fingerprint, Arc::clone(&watchers));
        Ok(Self { service, local_addrs, workers, threads, watchers })
    }

    /// The gRPC service, to be served over the network or called in this process.
    pub fn service(&self) -> MediaNodeServer<Service> {
        MediaNodeServer::new(self.service.clone())
    }

    /// The bound UDP addresses.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Ends the event streams, then the workers.
    pub async fn shutdown(self) {
        self.watchers.close();
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

/// Host candidates for one worker (RFC 8445 section 5.1), in the order in which the addresses were announced.
fn host_candidates(announced: &[IpAddr], port: u16) -> Vec<IceCandidate> {
    let candidate = |(index, address): (usize, &IpAddr)| IceCandidate {
        foundation: format!("udp{index}"),
        // RFC 8445 section 5.1.2.1: type preference 126 for host, local preference by order, component 1
        priority: (126 << 24) + ((65_535 - index as u32) << 8) + 255,
        address: address.to_string(),
        protocol: "udp".into(),
        port: port.into(),
    };
    announced.iter().enumerate().map(candidate).collect()
}
