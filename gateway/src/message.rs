//! The envelope of signaling: what a client's text frame says, and the frames that answer it (PROTOCOL section 2).
//!
//! Everything read here is hostile input. Used by the socket, which reads frames in order, and by the requests, which
//! take their fields out of [`Data`] and answer through [`Reply`]. Never decides what a client may do.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::ws::Utf8Bytes;
use serde_json::{Map, Value, json};

use crate::error::Refusal;
use crate::socket::Outbox;

/// The longest id of a request, channel, transport, producer or consumer, in bytes.
const MAX_ID: usize = 256;

/// Types that only a server sends.
const SERVER_TYPES: [&str; 10] = [
    "channel-list",
    "channel-state",
    "error",
    "media-moved",
    "permission-update",
    "pong",
    "ptt-denied",
    "ptt-interrupted",
    "role-info",
    "speaker-changed",
];

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    JoinChannel,
    LeaveChannel,
    GetRouterCapabilities,
    CreateTransport,
    ConnectTransport,
    Produce,
    Consume,
    PttStart,
    PttStop,
    Ping,
    Members,
    CloseProducer,
    CloseConsumer,
    PauseConsumer,
    RestartIce,
    Session,
    RefreshToken,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::JoinChannel,
        Self::LeaveChannel,
        Self::GetRouterCapabilities,
        Self::CreateTransport,
        Self::ConnectTransport,
        Self::Produce,
        Self::Consume,
        Self::PttStart,
        Self::PttStop,
        Self::Ping,
        Self::Members,
        Self::CloseProducer,
        Self::CloseConsumer,
        Self::PauseConsumer,
        Self::RestartIce,
        Self::Session,
        Self::RefreshToken,
    ];

    /// The type on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::JoinChannel => "join-channel",
            Self::LeaveChannel => "leave-channel",
            Self::GetRouterCapabilities => "get-router-capabilities",
            Self::CreateTransport => "create-transport",
            Self::ConnectTransport => "connect-transport",
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::PttStart => "ptt-start",
            Self::PttStop => "ptt-stop",
            Self::Ping => "ping",
            // Extensions for our own client.
            Self::Members => "members",
            Self::CloseProducer => "close-producer",
            Self::CloseConsumer => "close-consumer",
            Self::PauseConsumer => "pause-consumer",
            Self::RestartIce => "restart-ice",
            Self::Session => "session",
            Self::RefreshToken => "refresh-token",
        }
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.as_str() == text) {
            Ok(kind)
        } else if SERVER_TYPES.contains(&text) {
            Err(Refusal::ServerType(text.to_owned()))
        } else {
            Err(Refusal::UnknownType)
        }
    }

    /// A response has the type of its request, but for one.
    fn response(self) -> &'static str {
        match self {
            Self::Ping => "pong",
            other => other.as_str(),
        }
    }
}

/// A client's request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) id: Option<String>,
    pub(crate) data: Data,
}

/// A frame that is no request, with the id to answer to, if that much could be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotARequest {
    pub(crate) id: Option<String>,
    pub(crate) refusal: Refusal,
}

impl Request {
    /// Reads a text frame.
    pub(crate) fn parse(text: &str) -> Result<Self, NotARequest> {
        let malformed = |id| NotARequest { id, refusal: Refusal::Malformed };
        // The parser refuses values that are nested deeper than 128 levels.
        let Ok(Value::Object(mut envelope)) = serde_json::from_str(text) else {
            return Err(malformed(None));
        };
        let id = match envelope.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.len() <= MAX_ID => Some(id),
            Some(_) => return Err(malformed(None)),
        };
        let kind = match envelope.get("type") {
            Some(Value::String(text)) => Kind::parse(text),
            _ => Err(Refusal::UnknownType),
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err(refusal) => return Err(NotARequest { id, refusal }),
        };
        let data = match envelope.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => return Err(malformed(id)),
        };
        Ok(Self { kind, id, data: Data(data) })
    }
}

/// The fields of a request.
#[derive(Debug)]
pub(crate) struct Data(Map<String, Value>);

impl Data {
    /// A field that names something: a text that is neither empty nor longer than an id.
    pub(crate) fn id(&self, field: &'static str) -> Result<&str, Refusal> {
        self.optional_id(field)?.ok_or(Refusal::Required(field))
    }

    /// A text that may be longer than an id.
    pub(crate) fn optional_text(&self, field: &'static str) -> Result<Option<&str>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Invalid(field)),
        }
    }

    /// The same where it may be missing.
    pub(crate) fn optional_id(&self, field: &'static str) -> Result<Option<&str>, Refusal> {
        match self.0.get(field) {
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_ID && !text.chars().any(char::is_control) => Ok(Some(text)),
            Some(_) => Err(Refusal::Invalid(field)),
        }
    }

    /// A field that is true or false.
    pub(crate) fn flag(&self, field: &'static str) -> Result<bool, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Err(Refusal::Required(field)),
            Some(value) => value.as_bool().ok_or(Refusal::Invalid(field)),
        }
    }

    /// A field that is an object.
    pub(crate) fn object(&self, field: &'static str) -> Result<&Map<String, Value>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Err(Refusal::Required(field)),
            Some(value) => value.as_object().ok_or(Refusal::Invalid(field)),
        }
    }
}

#[cfg(test)]
impl From<Value> for Data {
    fn from(value: Value) -> Self {
        let Value::Object(data) = value else { panic!("data is an object") };
        Self(data)
    }
}

/// Where the answer to one request goes. Each request answers once.
#[derive(Debug)]
pub(crate) struct Reply {
    kind: Kind,
    id: Option<String>,
    outbox: Outbox,
    denied: AtomicBool,
}

impl Reply {
    pub(crate) fn new(kind: Kind, id: Option<String>, outbox: Outbox) -> Self {
        Self { kind, id, outbox, denied: AtomicBool::new(false) }
    }

    /// Was the request denied, as a press can be?
    pub(crate) fn was_denied(&self) -> bool {
        self.denied.load(Ordering::Relaxed)
    }

    /// Success. Without an id it stays unsaid: an existing client would take it for a push.
    pub(crate) fn success(&self, data: Value) {
        if let Some(id) = &self.id {
            self.outbox.send(text(&json!({"type": self.kind.response(), "id": id, "data": data})));
        }
    }

    /// Failure, also said without an id.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        refuse(&self.outbox, self.id.as_deref(), refusal);
    }

    /// A denied press. One existing client looks at `error`, another at `data.denied`; both are always there.
    pub(crate) fn denied(&self, error: &str, code: &'static str, data: Value) {
        self.denied.store(true, Ordering::Relaxed);
        let mut message = json!({"type": "ptt-denied", "error": error, "code": code, "data": data});
        add_id(&mut message, self.id.as_deref());
        self.outbox.send(text(&message));
    }
}

/// Answers a frame with an error.
pub(crate) fn refuse(outbox: &Outbox, id: Option<&str>, refusal: &Refusal) {
    let mut message = json!({"type": "error", "error": refusal.to_string(), "code": refusal.code()});
    add_id(&mut message, id);
    outbox.send(text(&message));
}

/// A push: no id, written once and shared by all who get it.
pub(crate) fn push(kind: &'static str, data: Value) -> Utf8Bytes {
    text(&json!({"type": kind, "data": data}))
}

fn add_id(message: &mut Value, id: Option<&str>) {
    if let Some(id) = id {
        message["id"] = id.into();
    }
}

fn text(message: &Value) -> Utf8Bytes {
    message.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (Option<String>, Refusal) {
        let error = Request::parse(text).expect_err("refused");
        (error.id, error.refusal)
    }

    #[test]
    fn a_request_has_a_type_an_optional_id_and_optional_data() {
        let request = Request::parse(r#"{"type":"join-channel","id":"7","data":{"channelId":"c1"}}"#).expect("parses");
        assert_eq!((request.kind, request.id.as_deref()), (Kind::JoinChannel, Some("7")));
        assert_eq!(request.data.id("channelId"), Ok("c1"));
        for text in [r#"{"type":"ping"}"#, r#"{"type":"ping","id":null,"data":null}"#] {
            let request = Request::parse(text).expect("parses");
            assert_eq!((request.kind, request.id), (Kind::Ping, None));
        }
    }

    #[test]
    fn every_type_is_read_back_from_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Ok(kind));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_protocols_words() {
        let id = Some("7".to_owned());
        let malformed = [
            "",
            "{",
            "null",
            "[]",
            "\"ping\"",
            "{\"type\":\"ping\"}x",
            r#"{"type":"ping","id":7}"#,
            r#"{"type":"ping","id":{}}"#,
        ];
        for text in malformed {
            assert_eq!(refusal(text), (None, Refusal::Malformed), "{text}");
        }
        assert_eq!(refusal(&"[".repeat(60_000)), (None, Refusal::Malformed));
        assert_eq!(refusal(r#"{"type":"ping","id":"7","data":[]}"#), (id.clone(), Refusal::Malformed));
        for text in [r#"{"id":"7"}"#, r#"{"type":7,"id":"7"}"#, r#"{"type":"Ping","id":"7"}"#] {
            assert_eq!(refusal(text), (id.clone(), Refusal::UnknownType), "{text}");
        }
        for server_type in SERVER_TYPES {
            let text = json!({"type": server_type, "id": "7"}).to_string();
            assert_eq!(refusal(&text), (id.clone(), Refusal::ServerType(server_type.into())));
        }
        let long = "x".repeat(MAX_ID + 1);
        assert_eq!(refusal(&json!({"type": "ping", "id": long}).to_string()), (None, Refusal::Malformed));
    }

    #[test]
    fn fields_are_checked() {
        let data = Data::from(json!({
            "empty": "", "number": 7, "control": "a\nb", "long": "x".repeat(MAX_ID + 1), "null": null, "flag": true,
            "object": {},
        }));
        for field in ["missing", "empty", "null"] {
            assert_eq!(data.id(field), Err(Refusal::Required(field)));
        }
        for field in ["number", "control", "long", "object"] {
            assert_eq!(data.id(field), Err(Refusal::Invalid(field)));
        }
        assert_eq!(data.optional_id("missing"), Ok(None));
        assert_eq!(data.flag("flag"), Ok(true));
        assert_eq!(data.flag("missing"), Err(Refusal::Required("missing")));
        assert_eq!(data.object("object").map(Map::len), Ok(0));
        assert_eq!(data.object("flag"), Err(Refusal::Invalid("flag")));
        assert_eq!(data.object("null"), Err(Refusal::Required("null")));
    }

    #[test]
    fn a_success_without_an_id_stays_unsaid_but_a_failure_is_said() {
        let (outbox, mut queue) = Outbox::new();
        Reply::new(Kind::Ping, None, outbox.clone()).success(json!({}));
        assert!(queue.try_recv().is_err());
        Reply::new(Kind::Ping, None, outbox.clone()).refused(&Refusal::RateLimited);
        let message: Value = serde_json::from_str(&queue.try_recv().expect("said")).expect("JSON");
        assert_eq!(message, json!({"type": "error", "error": "Too many messages", "code": "rate-limited"}));
        Reply::new(Kind::Ping, Some("1".into()), outbox).success(json!({"type": "pong"}));
        let message: Value = serde_json::from_str(&queue.try_recv().expect("said")).expect("JSON");
        assert_eq!(message, json!({"type": "pong", "id": "1", "data": {"type": "pong"}}));
    }
}
