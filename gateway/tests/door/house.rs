//! A gateway without media nodes, by flags, and clients of any kind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use secrecy::SecretSlice;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;
use voiceping_gateway::{Claims, Config, Dependencies, Gateway, Keys};
use voiceping_state::{FloorRules, Memory, Store, memory};

/// A busy machine is slow, not wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const RULES: FloorRules = FloorRules { lease: Duration::from_secs(600), talk_limit: None };

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    gateway: Config,
}

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    keys: Keys,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl House {
    pub(crate) fn open(flags: &str) -> Self {
        let keys = Keys::hs256(&SecretSlice::from(vec![7; 32]), None, None);
        let dependencies = Dependencies {
            store: Store::Memory(Memory::new(RULES, memory::Limits::default())),
            rules: RULES,
            dial: Arc::new(|_| anyhow::bail!("there is no media node")),
            keys: keys.clone(),
            dev_sign_in: false,
        };
        let flags = format!("test --listen 127.0.0.1:0 {flags}");
        let config = Flags::parse_from(flags.split_whitespace()).gateway;
        let gateway = Gateway::bind(config, dependencies).expect("binds");
        let (address, shutdown) = (gateway.local_addr(), CancellationToken::new());
        let task = tokio::spawn(gateway.run(shutdown.clone()));
        Self { address, keys, shutdown, task }
    }

    /// A good token, for channels and for so long.
    pub(crate) fn token(&self, user: &str, channels: &[&str], ttl: Duration) -> String {
        let channel_ids = Some(channels.iter().map(|channel| (*channel).to_owned()).collect());
        let claims = Claims { user_id: user.into(), user_name: user.into(), channel_ids, ..Claims::default() };
        self.keys.sign(&claims, ttl).expect("signs")
    }

    /// A client that is let in.
    pub(crate) async fn client(&self, user: &str) -> Client<TcpStream> {
        let token = self.token(user, &["c1"], Duration::from_secs(3600));
        self.knock(&token, &[]).await.expect("let in")
    }

    /// A handshake with headers of its own: a client, or the status of the refusal.
    pub(crate) async fn knock(&self, token: &str, headers: &[(&'static str, &str)]) -> Result<Client<TcpStream>, u16> {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        Client::over(stream, &format!("ws://{}/ws", self.address), token, headers).await
    }

    pub(crate) async fn close(self) {
        self.shutdown.cancel();
        self.task.await.expect("does not panic").expect("ends in order");
    }
}

pub(crate) struct Client<S> {
    socket: WebSocketStream<S>,
    pushes: VecDeque<Value>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn over(stream: S, url: &str, token: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = url.into_client_request().expect("a URL");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a value"));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        let handshake = Box::pin(tokio_tungstenite::client_async(request, stream));
        match timeout(PATIENCE, handshake).await.expect("an answer") {
            Ok((socket, _)) => Ok(Self { socket, pushes: VecDeque::new() }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// A request and its response; pushes before it are kept.
    pub(crate) async fn request(&mut self, kind: &str, data: Value) -> Value {
        let message = json!({"type": kind, "id": "1", "data": data});
        self.socket.send(Message::text(message.to_string())).await.expect("sends");
        loop {
            let message = self.message().await.expect("an answer");
            if message["id"] == "1" {
                return message;
            }
            self.pushes.push_back(message);
        }
    }

    /// The next push of this type; others before it are skipped.
    pub(crate) async fn push(&mut self, kind: &str) -> Value {
        loop {
            let message = match self.pushes.pop_front() {
                Some(message) => message,
                None => self.message().await.expect("a push"),
            };
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The code with which the server closes; what comes before it is skipped.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.message().await {
                return code;
            }
        }
    }

    async fn message(&mut self) -> Result<Value, u16> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("something in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }
}
