//! A client that follows the protocol by hand.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Generous: a busy machine is slow, not wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: Vec<Value>,
    requests: usize,
    ticket: Option<String>,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("connects");
        Self { socket, unread: Vec::new(), requests: 0, ticket: None }
    }

    pub(crate) async fn join(&mut self, channel: &str) {
        let joined = self.request("join-channel", json!({"channelId": channel})).await;
        assert_eq!(joined["data"]["channelId"], channel, "{joined}");
    }

    /// `session`: its data, with the newest ticket kept.
    pub(crate) async fn begin_session(&mut self, ticket: Option<&str>) -> Value {
        let session = self.ok("session", json!({"ticket": ticket})).await;
        assert!(session["ticket"].is_string() && session["expiresIn"].is_u64(), "{session}");
        self.ticket = session["ticket"].as_str().map(str::to_owned);
        session
    }

    /// The newest ticket that has come.
    pub(crate) async fn ticket(&mut self) -> String {
        // What was pushed before this answer is here.
        self.request("ping", json!({})).await;
        let is_ticket = |message: &&Value| message["type"] == "session" && message["id"].is_null();
        let newest = self.unread.iter().rev().find(is_ticket).and_then(|push| push["data"]["ticket"].as_str());
        newest.map(str::to_owned).or_else(|| self.ticket.clone()).expect("it has begun a session")
    }

    /// A request that succeeds.
    pub(crate) async fn ok(&mut self, kind: &str, data: Value) -> Value {
        let mut answer = self.request(kind, data).await;
        assert!(answer["type"] == kind && answer["error"].is_null(), "{answer}");
        answer["data"].take()
    }

    /// Holds the floor from now on; answers its epoch.
    pub(crate) async fn press(&mut self, channel: &str) -> u64 {
        let granted = self.ok("ptt-start", json!({"channelId": channel})).await;
        assert_eq!(granted["success"], true, "{granted}");
        granted["state"]["epoch"].as_u64().expect("an epoch")
    }

    pub(crate) async fn release(&mut self, channel: &str) -> Value {
        self.ok("ptt-stop", json!({"channelId": channel})).await["state"].take()
    }

    pub(crate) async fn request(&mut self, kind: &str, data: Value) -> Value {
        self.requests += 1;
        let id = self.requests.to_string();
        self.send(kind, data, &id).await;
        self.answer(&id).await
    }

    pub(crate) async fn send(&mut self, kind: &str, data: Value, id: &str) {
        let text = json!({"type": kind, "id": id, "data": data}).to_string();
        self.socket.send(Message::text(text)).await.expect("sends");
    }

    /// The answer to a request.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        self.find(&format!("the answer to {id}"), |message| message["id"] == id).await
    }

    /// The data of the next push of this type.
    pub(crate) async fn push(&mut self, kind: &str) -> Value {
        let mut message = self.find(kind, |message| message["type"] == kind && message["id"].is_null()).await;
        message["data"].take()
    }

    /// Has no push of this type come, and does none come in this time?
    pub(crate) async fn no_push(&mut self, kind: &str, time: Duration) -> bool {
        let is_it = |message: &Value| message["type"] == kind && message["id"].is_null();
        let came = async {
            while !self.unread.iter().any(is_it) {
                let message = self.read().await;
                self.unread.push(message);
            }
        };
        timeout(time, came).await.is_err()
    }

    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.expect("closes");
    }

    pub(crate) async fn close_code(&mut self) -> u16 {
        let code = async {
            loop {
                if let Message::Close(Some(frame)) = self.socket.next().await.expect("a close comes").expect("in order")
                {
                    return frame.code.into();
                }
            }
        };
        timeout(PATIENCE, code).await.expect("it is closed")
    }

    async fn find(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.unread.iter().position(&is_it) {
            return self.unread.remove(index);
        }
        let found = async {
            loop {
                let message = self.read().await;
                if is_it(&message) {
                    return message;
                }
                self.unread.push(message);
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited for {what}"))
    }

    async fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.next().await.expect("open").expect("in order") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}
