//! A member's media, on either client. The steps are those of mediasoup-client; each client does them in its own way.

use std::sync::Arc;

use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use voiceping_engine::rtp::extension::AUDIO_LEVEL_URI;
use voiceping_testkit::sdp;
use voiceping_testkit::{DtlsRole, device};

use super::super::independent::Independent;
use crate::hearing::Hearing;
use crate::media::{Command, Connected, Server, Side, Stream, Talk, TransportId};
use crate::plan::Member;
use crate::run::Run;
use crate::signaling::Failure;

/// See the module.
pub(super) enum MemberMedia {
    Lean(Lean),
    Independent(Box<Independent>),
}

/// A member of the media threads.
pub(super) struct Lean {
    run: Arc<Run>,
    member: u32,
    ssrc: u32,
    sending: Option<oneshot::Receiver<Connected>>,
    receiving: Option<oneshot::Receiver<Connected>>,
}

impl MemberMedia {
    pub(super) fn new(run: &Arc<Run>, me: &Member) -> Self {
        if me.independent {
            return Self::Independent(Box::new(Independent::new(me.number)));
        }
        let ssrc = rand::rng().random_range(1..=u32::MAX);
        Self::Lean(Lean { run: Arc::clone(run), member: me.number, ssrc, sending: None, receiving: None })
    }

    /// The client's side of a transport to send, for `connect-transport`.
    pub(super) async fn open_to_send(
        &mut self,
        run: &Run,
        server: sdp::Server,
        capabilities: &Value,
    ) -> Result<Value, Failure> {
        match self {
            Self::Lean(lean) => {
                let stream = stream(lean.ssrc, capabilities, run.args.open_microphones)?;
                lean.sending = Some(lean.open(Side::Send, server, Some(stream))?);
                Ok(dtls(run))
            }
            Self::Independent(independent) => independent.open_to_send(server).await.map_err(failure),
        }
    }

    /// The microphone's stream, for `produce`.
    pub(super) async fn microphone(&mut self, capabilities: &Value) -> Result<Value, Failure> {
        match self {
            Self::Lean(lean) => Ok(rtp_parameters(&stream(lean.ssrc, capabilities, false)?)),
            Self::Independent(independent) => independent.microphone().await.map_err(failure),
        }
    }

    /// Waits until the microphone's transport is up.
    pub(super) async fn sends(&mut self) -> Result<(), Failure> {
        match self {
            Self::Lean(lean) => connected(lean.sending.take()).await,
            Self::Independent(independent) => independent.sends().await.map_err(failure),
        }
    }

    /// The client's side of a transport to receive, for `connect-transport`.
    pub(super) async fn open_to_receive(&mut self, run: &Run, server: sdp::Server) -> Result<Value, Failure> {
        match self {
            Self::Lean(lean) => {
                lean.receiving = Some(lean.open(Side::Recv, server, None)?);
                Ok(dtls(run))
            }
            Self::Independent(independent) => independent.open_to_receive(server).await.map_err(failure),
        }
    }

    /// Hears a stream that was consumed.
    pub(super) async fn listen(
        &mut self,
        run: &Arc<Run>,
        me: &Member,
        stream: sdp::Stream,
        hearing: Hearing,
    ) -> Result<(), Failure> {
        match self {
            Self::Lean(lean) => {
                lean.command(Side::Recv, |id| Command::Listen { id, channel: me.channel, hearing });
                Ok(())
            }
            Self::Independent(independent) => {
                independent.listen(run, me.channel, stream, hearing).await.map_err(failure)
            }
        }
    }

    /// Waits until the loudspeaker's transport is up.
    pub(super) async fn receives(&mut self) -> Result<(), Failure> {
        match self {
            Self::Lean(lean) => connected(lean.receiving.take()).await,
            Self::Independent(independent) => independent.receives().await.map_err(failure),
        }
    }

    /// All is there, from now on.
    pub(super) fn there(&mut self, since: u64) {
        match self {
            Self::Lean(lean) => lean.command(Side::Recv, |id| Command::There { id, since }),
            Self::Independent(independent) => independent.there(since),
        }
    }

    pub(super) fn talk(&mut self, run: &Arc<Run>, talk: Talk) {
        match self {
            Self::Lean(lean) => lean.command(Side::Send, |id| Command::Talk { id, talk }),
            Self::Independent(independent) => independent.talk(run, talk),
        }
    }

    /// Ends the talk.
    pub(super) fn hush(&mut self) {
        match self {
            Self::Lean(lean) => lean.command(Side::Send, |id| Command::Hush { id }),
            Self::Independent(independent) => independent.hush(),
        }
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        match self {
            Self::Lean(lean) => {
                for side in [Side::Send, Side::Recv] {
                    let (done, closed) = oneshot::channel();
                    lean.command(side, |id| Command::Close { id, done });
                    let _ = closed.await; // fails when the thread has stopped, and then it is closed as well
                }
            }
            Self::Independent(independent) => independent.close().await,
        }
    }
}

impl Lean {
    fn open(
        &self,
        side: Side,
        server: sdp::Server,
        stream: Option<Stream>,
    ) -> Result<oneshot::Receiver<Connected>, Failure> {
        let sdp::Server { ufrag, password, candidates, fingerprint } = server;
        let address = *candidates.first().ok_or_else(|| Failure::new("protocol", "a transport without a candidate"))?;
        let fingerprint = voiceping_engine::Fingerprint { algorithm: "sha-256".into(), value: fingerprint };
        let server = Server { address, ufrag, password, fingerprint };
        let (connected, waiting) = oneshot::channel();
        self.command(side, |id| Command::Open { id, server, stream, connected });
        Ok(waiting)
    }

    fn command(&self, side: Side, command: impl FnOnce(TransportId) -> Command) {
        let id = TransportId::new(self.member, side);
        self.run.media.command(id, command(id));
    }
}

async fn connected(waiting: Option<oneshot::Receiver<Connected>>) -> Result<(), Failure> {
    let Some(waiting) = waiting else { return Ok(()) };
    match waiting.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(Failure::new("media", why)),
        Err(_) => Err(Failure::new("media", "its thread has stopped")),
    }
}

fn dtls(run: &Run) -> Value {
    device::dtls_parameters(DtlsRole::Client, &run.media.fingerprint().value)
}

/// A stream to be sent, with the payload type and the ids that the router prefers.
fn stream(ssrc: u32, capabilities: &Value, open: bool) -> Result<Stream, Failure> {
    let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    let payload_type = byte(&capabilities["codecs"][0]["preferredPayloadType"]);
    let payload_type = payload_type.ok_or_else(|| Failure::new("protocol", "Opus without a payload type"))?;
    let mut extensions = capabilities["headerExtensions"].as_array().into_iter().flatten();
    let level = extensions.find(|extension| extension["uri"] == AUDIO_LEVEL_URI);
    Ok(Stream { ssrc, payload_type, level: level.and_then(|level| byte(&level["preferredId"])), open })
}

/// What a browser declares of it. Without `nack`: what is lost is not sent again.
fn rtp_parameters(stream: &Stream) -> Value {
    let Stream { ssrc, payload_type, level, .. } = *stream;
    let level = level.map(|id| json!({"uri": AUDIO_LEVEL_URI, "id": id, "encrypt": false, "parameters": {}}));
    json!({
        "mid": "0",
        "codecs": [{
            "mimeType": "audio/opus",
            "payloadType": payload_type,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1},
            "rtcpFeedback": [],
        }],
        "headerExtensions": level.into_iter().collect::<Vec<_>>(),
        "encodings": [{"ssrc": ssrc, "dtx": false}],
        "rtcp": {"cname": format!("{ssrc:08x}"), "reducedSize": true},
    })
}

fn failure(error: anyhow::Error) -> Failure {
    Failure::new("webrtc crate", format!("{error:#}"))
}
