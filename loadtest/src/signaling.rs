//! A member's WebSocket: requests and their answers, and the few pushes that matter here (the protocol's sections 1 to 4).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::target::Target;

/// Time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a socket's buffers start with; the library's own 128 KiB would be most of what a member costs.
const BUFFER: usize = 4 << 10;

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One of few: what errors are counted by.
    pub(crate) kind: String,
    /// What happened, for a person.
    pub(crate) text: String,
    /// Somebody else has the floor.
    pub(crate) denied: bool,
    /// The socket is gone.
    pub(crate) fatal: bool,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(kind: impl Into<String>, text: impl std::fmt::Display) -> Self {
        let (kind, text) = (kind.into(), text.to_string());
        Self { kind, text, denied: false, fatal: false, retry_after: None }
    }

    fn fatal(kind: impl Into<String>, text: impl std::fmt::Display) -> Self {
        Self { fatal: true, ..Self::new(kind, text) }
    }
}

/// A push that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Push {
    /// Somebody has begun to speak.
    Speaking { user: String, producer: String },
    /// The member's own talk is ended by the server.
    Interrupted,
}

#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    code: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpeakerChanged {
    is_busy: bool,
    current_speaker: Option<String>,
    producer_id: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Signaling {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
    /// Pushes that came while an answer was awaited.
    pushes: Vec<Push>,
    /// Comings and goings that it was told of.
    news: u64,
}

/// What came.
enum Incoming {
    Push(Push),
    Answer(String, Result<Value, Failure>),
    /// Somebody came or went.
    News,
    Nothing,
}

impl Signaling {
    /// Connects as browsers do, from this address if one is given, and takes the first push.
    pub(crate) async fn connect(
        target: &Target,
        tls: Option<Arc<rustls::ClientConfig>>,
        from: Option<IpAddr>,
        token: &str,
    ) -> Result<Self, Failure> {
        let connected = timeout(PATIENCE, Box::pin(Self::handshake(target, tls, from, token))).await;
        let mut signaling = connected.map_err(|_| Failure::new("connect", "no answer to the handshake"))??;
        loop {
            if signaling.frame(|frame| frame.kind == "channel-list").await? {
                return Ok(signaling);
            }
        }
    }

    async fn handshake(
        target: &Target,
        tls: Option<Arc<rustls::ClientConfig>>,
        from: Option<IpAddr>,
        token: &str,
    ) -> Result<Self, Failure> {
        let stream = connect(target.address, from).await.map_err(|error| Failure::new("connect", error))?;
        let request = || -> anyhow::Result<_> {
            let mut request = target.url.to_string().into_client_request()?;
            request.headers_mut().insert("sec-websocket-protocol", format!("voiceping, {token}").parse()?);
            Ok(request)
        };
        let request = request().map_err(|error| Failure::new("connect", error))?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
        let connector = tls.map_or(Connector::Plain, Connector::Rustls);
        let handshake = client_async_tls_with_config(request, stream, Some(config), Some(connector));
        let (socket, _) = Box::pin(handshake).await.map_err(refused)?;
        Ok(Self { socket, last_id: 0, pushes: Vec::new(), news: 0 })
    }

    /// A request and its answer. Pushes that come first are kept.
    pub(crate) async fn request(&mut self, kind: &str, data: Value) -> Result<Value, Failure> {
        self.last_id += 1;
        let id = self.last_id.to_string();
        let text = json!({"type": kind, "id": id, "data": data}).to_string();
        let answered = timeout(PATIENCE, async {
            self.socket.send(Message::text(text)).await.map_err(lost)?;
            loop {
                match self.incoming().await? {
                    Incoming::Answer(to, answer) if to == id => return answer,
                    Incoming::Push(push) => self.pushes.push(push),
                    Incoming::Answer(..) | Incoming::News | Incoming::Nothing => {}
                }
            }
        });
        answered.await.unwrap_or_else(|_| Err(Failure::new(format!("timeout {kind}"), format!("none in {PATIENCE:?}"))))
    }

    /// The next push. May be given up at any time; nothing is lost.
    pub(crate) async fn push(&mut self) -> Result<Push, Failure> {
        loop {
            if !self.pushes.is_empty() {
                return Ok(self.pushes.remove(0));
            }
            if let Incoming::Push(push) = self.incoming().await? {
                return Ok(push);
            }
        }
    }

    /// Says goodbye as a client does that leaves, and reads to the end: with pushes left unread the kernel would break the
    /// connection off, and the server wait for us to come back.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            let _ = self.socket.close(None).await;
            while self.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
        };
        let _ = timeout(Duration::from_secs(2), goodbye).await; // it is over either way
    }

    /// How often it was told that somebody came or went.
    pub(crate) fn news(&self) -> u64 {
        self.news
    }

    async fn incoming(&mut self) -> Result<Incoming, Failure> {
        let incoming = self.frame(read).await?;
        self.news += u64::from(matches!(incoming, Incoming::News));
        Ok(incoming)
    }

    async fn frame<T>(&mut self, read: impl FnOnce(Frame<'_>) -> T) -> Result<T, Failure> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map(read).map_err(|error| Failure::new("protocol", error));
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.as_ref().map_or(1005, |frame| frame.code.into());
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    return Err(Failure::fatal(format!("closed {code}"), reason));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(Failure::fatal("socket", "it ended without a close frame")),
            }
        }
    }
}

fn read(frame: Frame<'_>) -> Incoming {
    let Frame { kind, id, data, error, code } = frame;
    if let Some(id) = id {
        let denied = kind == "ptt-denied";
        let answer = match error {
            None => Ok(data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or(Value::Null)),
            Some(text) => {
                let code = code.as_deref().unwrap_or("without a code");
                Err(Failure { denied: denied && code == "busy", ..Failure::new(format!("refused {code}"), text) })
            }
        };
        return Incoming::Answer(id.into_owned(), answer);
    }
    match &*kind {
        "speaker-changed" => {
            let changed = data.and_then(|data| serde_json::from_str::<SpeakerChanged>(data.get()).ok());
            match changed {
                Some(SpeakerChanged { is_busy: true, current_speaker: Some(user), producer_id: Some(producer) }) => {
                    Incoming::Push(Push::Speaking { user, producer })
                }
                _ => Incoming::Nothing,
            }
        }
        "ptt-denied" | "ptt-interrupted" => Incoming::Push(Push::Interrupted),
        "channel-state" => Incoming::News,
        _ => Incoming::Nothing,
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> anyhow::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind((from, 0).into()).with_context(|| format!("from {from}"))?;
    }
    let stream = socket.connect(to).await.with_context(|| format!("to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn refused(error: tungstenite::Error) -> Failure {
    let tungstenite::Error::Http(response) = error else { return Failure::new("connect", error) };
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let status = response.status().as_u16();
    let retry_after = retry_after.map(Duration::from_secs);
    Failure { retry_after, ..Failure::new(format!("handshake {status}"), body) }
}

fn lost(error: tungstenite::Error) -> Failure {
    Failure::fatal("socket", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(text: &str) -> Incoming {
        read(serde_json::from_str(text).expect("a frame"))
    }

    #[test]
    fn an_answer_is_a_success_a_refusal_or_a_denial() {
        let Incoming::Answer(id, Ok(data)) = incoming(r#"{"type":"produce","id":"7","data":{"id":"p"}}"#) else {
            panic!("a success")
        };
        assert_eq!((id.as_str(), &data["id"]), ("7", &json!("p")));
        let Incoming::Answer(_, Err(failure)) =
            incoming(r#"{"type":"error","id":"7","error":"No \"x\"","code":"nope"}"#)
        else {
            panic!("a refusal")
        };
        assert_eq!((failure.kind.as_str(), failure.text.as_str(), failure.denied), ("refused nope", "No \"x\"", false));
        let denied = |code| {
            let text = format!(r#"{{"type":"ptt-denied","id":"7","error":"B","code":"{code}","data":{{}}}}"#);
            matches!(incoming(&text), Incoming::Answer(_, Err(Failure { denied: true, .. })))
        };
        assert!(denied("busy") && !denied("media-unavailable"));
    }

    #[test]
    fn pushes_that_matter_are_told_from_others() {
        let speaking =
            r#"{"type":"speaker-changed","data":{"isBusy":true,"currentSpeaker":"u","producerId":"floor:c"}}"#;
        let Incoming::Push(Push::Speaking { user, producer }) = incoming(speaking) else { panic!("a speaker") };
        assert_eq!((user.as_str(), producer.as_str()), ("u", "floor:c"));
        let free = r#"{"type":"speaker-changed","data":{"isBusy":false,"currentSpeaker":null}}"#;
        assert!(matches!(incoming(free), Incoming::Nothing));
        assert!(matches!(incoming(r#"{"type":"channel-state","data":{}}"#), Incoming::News));
        assert!(matches!(incoming(r#"{"type":"ptt-interrupted","data":{}}"#), Incoming::Push(Push::Interrupted)));
    }
}
