//! A scripted client of the signaling protocol: says what a test tells it to say, and keeps what it hears in order.
//!
//! Nothing is answered, repeated or repaired by itself but WebSocket pings, and those only while the test reads: a client
//! that does not read is silent on the wire.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::soon;

/// See the module.
#[derive(Debug)]
pub struct Signaling {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Pushes that came while a response was awaited, oldest first.
    pushes: VecDeque<Value>,
    last_id: u64,
}

impl Signaling {
    /// Connects as browsers do: the token beside the subprotocol. Takes the first push, which is the list of channels.
    pub async fn connect(url: &str, token: &str) -> Result<Self> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", format!("voiceping, {token}").parse()?);
        let (mut signaling, response) = Self::handshake(request).await?;
        let echoed = response.headers().get("sec-websocket-protocol");
        ensure!(echoed.is_some_and(|echoed| echoed == "voiceping"), "the subprotocol is echoed: {response:?}");
        signaling.push_of("channel-list").await?;
        Ok(signaling)
    }

    /// Connects with a handshake of the test's own. Takes no push.
    pub async fn handshake(request: impl IntoClientRequest + Unpin) -> Result<(Self, Response<Option<Vec<u8>>>)> {
        let connect = Box::pin(tokio_tungstenite::connect_async(request));
        let (socket, response) = soon("the handshake", connect).await??;
        Ok((Self { socket, pushes: VecDeque::new(), last_id: 0 }, response))
    }

    /// Sends any frame.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends a JSON text frame.
    pub async fn say(&mut self, message: &Value) -> Result<()> {
        self.send(Message::text(message.to_string())).await
    }

    /// Sends a request; answers its id.
    pub async fn ask(&mut self, kind: &str, data: Value) -> Result<String> {
        self.last_id += 1;
        let id = format!("{kind}-{}", self.last_id);
        self.say(&json!({"type": kind, "id": id, "data": data})).await?;
        Ok(id)
    }

    /// The response to a request. Pushes that come before it are kept for later; a response to another request is an
    /// error, because responses keep the order of the requests.
    pub async fn answer(&mut self, id: &str) -> Result<Value> {
        loop {
            let frame = self.frame().await.with_context(|| format!("waiting for the response to {id}"))?;
            match frame.get("id") {
                None => self.pushes.push_back(frame),
                Some(of) if of == id => return Ok(frame),
                Some(_) => bail!("waiting for the response to {id}, heard {frame}"),
            }
        }
    }

    /// A request and its whole response.
    pub async fn request(&mut self, kind: &str, data: Value) -> Result<Value> {
        let id = self.ask(kind, data).await?;
        self.answer(&id).await
    }

    /// A request that succeeds: the data of its response, whose form is checked.
    pub async fn ok(&mut self, kind: &str, data: Value) -> Result<Value> {
        let response = self.request(kind, data).await?;
        let expected = if kind == "ping" { "pong" } else { kind };
        ensure!(response["type"] == expected && response.get("error").is_none(), "{kind} succeeds: {response}");
        ensure!(response["data"].is_object(), "data is always an object: {response}");
        Ok(response["data"].clone())
    }

    /// A request that is refused: the error's text. Its form is checked.
    pub async fn refused(&mut self, kind: &str, data: Value) -> Result<String> {
        let response = self.request(kind, data).await?;
        error_of(&response).with_context(|| format!("{kind} is refused: {response}"))
    }

    /// The next push, whatever it is.
    pub async fn push(&mut self) -> Result<Value> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(push);
        }
        let frame = self.frame().await.context("waiting for a push")?;
        ensure!(frame.get("id").is_none(), "waiting for a push, heard {frame}");
        Ok(frame)
    }

    /// The next push, which has this type: its data.
    pub async fn push_of(&mut self, kind: &str) -> Result<Value> {
        let push = self.push().await.with_context(|| format!("waiting for {kind}"))?;
        ensure!(push["type"] == kind, "waiting for {kind}, heard {push}");
        Ok(push["data"].clone())
    }

    /// The pushes that came before the answer to a ping. A fence: what the server had queued for this client is in it.
    pub async fn pushes_until_now(&mut self) -> Result<Vec<Value>> {
        ensure!(self.ok("ping", json!({})).await? == json!({"type": "pong"}), "a pong");
        Ok(self.pushes.drain(..).collect())
    }

    /// Reads until the server closes: the code and the reason of its close frame, `None` if it sent none. Frames before
    /// it are kept.
    pub async fn closed(&mut self) -> Result<Option<(u16, String)>> {
        loop {
            match soon("the close", self.socket.next()).await? {
                Some(Ok(Message::Close(frame))) => {
                    return Ok(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(Message::Text(text))) => self.pushes.push_back(serde_json::from_str(&text)?),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    /// Closes as a client does that leaves.
    pub async fn close(mut self) -> Result<()> {
        self.socket.close(None).await?;
        self.closed().await.map(drop)
    }

    /// The next text frame.
    async fn frame(&mut self) -> Result<Value> {
        loop {
            match soon("a frame", self.socket.next()).await? {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => bail!("the socket is over: {other:?}"),
            }
        }
    }
}

/// The text of an error frame. Checks that it has a code for machines beside it.
pub fn error_of(frame: &Value) -> Result<String> {
    ensure!(frame["type"] == "error", "an error: {frame}");
    ensure!(frame["code"].as_str().is_some_and(|code| !code.is_empty()), "a stable code: {frame}");
    Ok(frame["error"].as_str().context("a text for a person")?.to_owned())
}
