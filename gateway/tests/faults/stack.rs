//! A gateway, the state in memory and a media node, with a transport in between that can be made to fail.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use secrecy::SecretSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, service_fn};
use voiceping_gateway::{Claims, Config, Dependencies, Gateway, Keys, MediaClient, media_client};
use voiceping_media_node::MediaNode;
use voiceping_proto::media::v1::GetNodeRequest;
use voiceping_state::{FloorRules, Memory, Store, memory};

use crate::client::{Client, PATIENCE};

pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// What the transport does with a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Fail,
    Hang,
}

#[derive(Debug, Default)]
struct Faults {
    by_call: HashMap<&'static str, Fault>,
    met: Vec<String>,
}

pub(crate) struct Stack {
    address: String,
    keys: Keys,
    media: MediaClient,
    faults: Arc<Mutex<Faults>>,
    met: watch::Receiver<usize>,
    shutdown: CancellationToken,
    gateway: JoinHandle<anyhow::Result<()>>,
    _media_node: MediaNode,
}

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    gateway: Config,
    #[command(flatten)]
    media: voiceping_media_node::Config,
}

impl Stack {
    /// All is well, and nobody's silence counts.
    pub(crate) async fn start() -> Self {
        Self::start_impatient("600s").await
    }

    /// All is well. Who is silent for this long loses the floor.
    pub(crate) async fn start_impatient(silence_limit: &str) -> Self {
        let stack = Self::start_with(Faults::default(), silence_limit);
        stack.until_ready().await;
        stack
    }

    /// One call fails from the beginning.
    pub(crate) async fn start_without(call: &'static str) -> Self {
        Self::start_with(Faults { by_call: HashMap::from([(call, Fault::Fail)]), met: Vec::new() }, "600s")
    }

    fn start_with(faults: Faults, silence_limit: &str) -> Self {
        let flags = "test --listen 127.0.0.1:0 --media-listen 127.0.0.1:0 --media-workers 1 --drain-deadline 2s \
                     --channel-access open --silence-limit";
        let Flags { gateway, media } = Flags::parse_from(flags.split_whitespace().chain([silence_limit]));
        let rules = FloorRules { lease: Duration::from_secs(60), talk_limit: None };
        let media_node = MediaNode::bind(media).expect("binds");
        let keys = Keys::hs256(&SecretSlice::from(vec![7; 32]), None, None);
        let faults = Arc::new(Mutex::new(faults));
        let (met_one, met) = watch::channel(0);
        let dependencies = Dependencies {
            store: Store::Memory(Memory::new(rules, memory::Limits::default())),
            floor_lease: rules.lease,
            media: faulty_client(&media_node, Arc::clone(&faults), met_one),
            keys: keys.clone(),
            dev_sign_in: false,
        };
        let gateway = Gateway::bind(gateway, dependencies).expect("binds");
        let address = gateway.local_addr().to_string();
        let shutdown = CancellationToken::new();
        let gateway = tokio::spawn(gateway.run(shutdown.clone()));
        let media = media_client(media_node.service());
        Self { address, keys, media, faults, met, shutdown, gateway, _media_node: media_node }
    }

    /// A client that is signed in.
    pub(crate) async fn client(&self, user: &str) -> Client {
        let claims = Claims { user_id: user.into(), user_name: user.into(), ..Claims::default() };
        let token = self.keys.sign(&claims, Duration::from_secs(3600)).expect("signs");
        Client::connect(&format!("ws://{}/ws?token={token}", self.address)).await
    }

    pub(crate) fn fault(&self, call: &'static str, fault: Fault) {
        self.faults.lock().expect("not poisoned").by_call.insert(call, fault);
    }

    pub(crate) fn heal(&self, call: &'static str) {
        self.faults.lock().expect("not poisoned").by_call.remove(call);
    }

    /// Waits until a call has met its fault.
    pub(crate) async fn until_asked(&self, call: &str) {
        let mut met = self.met.clone();
        let asked = async {
            while !self.faults.lock().expect("not poisoned").met.iter().any(|path| path == call) {
                met.changed().await.expect("the gateway runs");
            }
        };
        timeout(PATIENCE, asked).await.expect("it is asked");
    }

    /// Transports on the node.
    pub(crate) async fn transports(&self) -> u32 {
        let node = self.media.clone().get_node(GetNodeRequest {}).await.expect("answers").into_inner();
        node.transports
    }

    pub(crate) async fn until_transports(&self, count: u32) {
        let reached = async {
            while self.transports().await != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the transports are closed");
    }

    pub(crate) async fn until_ready(&self) {
        let ready = async {
            while self.get("/ready").await.0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, ready).await.expect("it becomes ready");
    }

    /// Status and body of a page.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("answers");
        let status = response.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, response)
    }

    /// Tells the gateway to end. Answers when it has.
    pub(crate) fn shut_down(self) -> JoinHandle<()> {
        self.shutdown.cancel();
        tokio::spawn(async move { self.gateway.await.expect("does not panic").expect("ends in order") })
    }
}

/// The node's service behind a transport that does as it is told.
fn faulty_client(node: &MediaNode, faults: Arc<Mutex<Faults>>, met: watch::Sender<usize>) -> MediaClient {
    let node = node.service();
    media_client(service_fn(move |request: http::Request<Body>| {
        let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let fault = {
            let mut faults = faults.lock().expect("not poisoned");
            let fault = faults.by_call.get(call.as_str()).copied();
            if fault.is_some() {
                faults.met.push(call);
            }
            fault
        };
        let mut node = node.clone();
        if fault.is_some() {
            met.send_modify(|count| *count += 1);
        }
        async move {
            match fault {
                None => node.call(request).await.map_err(|never: Infallible| match never {}),
                Some(Fault::Fail) => Err(std::io::Error::other("the test says so")),
                Some(Fault::Hang) => std::future::pending().await,
            }
        }
    }))
}
