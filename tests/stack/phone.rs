//! A member with signaling and media: each step of an existing client as one function, so that a test can put them in
//! the order of the browser or of Android.

use anyhow::Result;
use serde_json::{Value, json};
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::{DtlsRole, Options, device};

use crate::process::{in_seconds, name};

/// A transport and whether the server knows the client's side of it.
pub(crate) struct Transport<T> {
    pub(crate) id: String,
    pub(crate) media: T,
    connected: bool,
}

/// `join-channel`.
pub(crate) async fn join(socket: &mut Signaling, channel: &str) -> Result<Value> {
    socket.ok("join-channel", json!({"channelId": channel})).await
}

/// `get-router-capabilities`: what the device can receive.
pub(crate) async fn load_device(socket: &mut Signaling, channel: &str) -> Result<Value> {
    let router = socket.ok("get-router-capabilities", json!({"channelId": channel})).await?;
    device::rtp_capabilities(&router["routerRtpCapabilities"])
}

/// `create-transport` to send.
pub(crate) async fn open_to_send(
    socket: &mut Signaling,
    channel: &str,
    role: DtlsRole,
) -> Result<Transport<SendTransport>> {
    let created = create_transport(socket, channel, "send").await?;
    let media = SendTransport::new(device::server(&created)?, Options { role, ..Options::default() }).await?;
    Ok(Transport { id: id_of(&created), media, connected: false })
}

/// `create-transport` to receive.
pub(crate) async fn open_to_receive(socket: &mut Signaling, channel: &str) -> Result<Transport<RecvTransport>> {
    let created = create_transport(socket, channel, "recv").await?;
    let media = RecvTransport::new(device::server(&created)?, Options::default()).await?;
    Ok(Transport { id: id_of(&created), media, connected: false })
}

pub(crate) async fn create_transport(socket: &mut Signaling, channel: &str, direction: &str) -> Result<Value> {
    socket.ok("create-transport", json!({"channelId": channel, "direction": direction})).await
}

impl Transport<SendTransport> {
    /// A new microphone: `connect-transport` before the first one, then `produce`. Answers its id too.
    pub(crate) async fn produce(
        &mut self,
        socket: &mut Signaling,
        channel: &str,
        speaker: u32,
    ) -> Result<(String, Microphone)> {
        if !std::mem::replace(&mut self.connected, true) {
            connect(socket, &self.id, self.media.role(), self.media.fingerprint()).await?;
        }
        let microphone = self.media.add_microphone(speaker).await?;
        let id = self.produce_again(socket, channel, &microphone).await?;
        self.media.connected().await?;
        Ok((id, microphone))
    }

    /// `produce` alone, of a microphone that was produced before.
    pub(crate) async fn produce_again(
        &self,
        socket: &mut Signaling,
        channel: &str,
        microphone: &Microphone,
    ) -> Result<String> {
        let produce = json!({
            "transportId": self.id,
            "kind": "audio",
            "rtpParameters": device::rtp_parameters(microphone),
            "channelId": channel,
        });
        Ok(id_of(&socket.ok("produce", produce).await?))
    }
}

impl Transport<RecvTransport> {
    /// `consume`, and `connect-transport` before the first stream is negotiated.
    pub(crate) async fn consume(
        &mut self,
        socket: &mut Signaling,
        channel: &str,
        producer: &str,
        capabilities: &Value,
    ) -> Result<Ear> {
        let consume = json!({"channelId": channel, "producerId": producer, "rtpCapabilities": capabilities});
        let consumed = socket.ok("consume", consume).await?;
        anyhow::ensure!(consumed["id"].is_string() && consumed["kind"] == "audio", "a consumer: {consumed}");
        anyhow::ensure!(consumed["producerId"] == producer, "of the producer that was asked for: {consumed}");
        if !std::mem::replace(&mut self.connected, true) {
            connect(socket, &self.id, self.media.role(), self.media.fingerprint()).await?;
        }
        let ear = self.media.receive(device::stream(&consumed)?).await?;
        self.media.connected().await?;
        Ok(ear)
    }
}

pub(crate) async fn connect(socket: &mut Signaling, id: &str, role: DtlsRole, fingerprint: &str) -> Result<()> {
    let dtls = device::dtls_parameters(role, fingerprint);
    let connected = socket.ok("connect-transport", json!({"transportId": id, "dtlsParameters": dtls})).await?;
    anyhow::ensure!(connected == json!({"success": true}), "connected: {connected}");
    Ok(())
}

/// `ptt-start`, granted: the channel's state.
pub(crate) async fn press(socket: &mut Signaling, channel: &str) -> Result<Value> {
    let granted = socket.ok("ptt-start", json!({"channelId": channel})).await?;
    anyhow::ensure!(granted["success"] == true && granted["state"]["isBusy"] == true, "granted: {granted}");
    Ok(granted["state"].clone())
}

/// `ptt-stop`: the channel's state.
pub(crate) async fn release(socket: &mut Signaling, channel: &str) -> Result<Value> {
    let released = socket.ok("ptt-stop", json!({"channelId": channel})).await?;
    anyhow::ensure!(released["success"] == true, "never refused: {released}");
    Ok(released["state"].clone())
}

fn id_of(created: &Value) -> String {
    created["id"].as_str().expect("an id").to_owned()
}

/// Checks a `ChannelState` that says that this user speaks.
#[track_caller]
pub(crate) fn assert_busy(state: &Value, channel: &str, user: &str) {
    let said = (&state["channelId"], &state["currentSpeaker"], &state["speakerName"], &state["isBusy"]);
    assert_eq!(said, (&json!(channel), &json!(user), &json!(name(user)), &json!(true)), "{state}");
    let taken = state["lockTimestamp"].as_i64().expect("since when");
    assert!((0..=60).contains(&(in_seconds(0) - taken / 1000)), "taken just now: {state}");
}

/// Checks a `ChannelState` that says that nobody speaks.
#[track_caller]
pub(crate) fn assert_free(state: &Value, channel: &str) {
    let said = (&state["channelId"], &state["isBusy"]);
    assert_eq!(said, (&json!(channel), &json!(false)), "{state}");
    for absent in ["currentSpeaker", "speakerName", "lockTimestamp"] {
        assert!(state.as_object().is_some_and(|state| state.get(absent) == Some(&Value::Null)), "{absent}: {state}");
    }
}

/// The next push says that this user speaks: the floor output's id, which is there exactly then.
pub(crate) async fn hears_of(socket: &mut Signaling, channel: &str, user: &str) -> Result<String> {
    let changed = socket.push_of("speaker-changed").await?;
    assert_busy(&changed, channel, user);
    Ok(changed["producerId"].as_str().expect("a producer").to_owned())
}

/// The next push says that nobody speaks.
pub(crate) async fn hears_of_the_end(socket: &mut Signaling, channel: &str) -> Result<()> {
    let changed = socket.push_of("speaker-changed").await?;
    assert_free(&changed, channel);
    anyhow::ensure!(changed.get("producerId").is_none(), "no producer while nobody speaks: {changed}");
    Ok(())
}

/// The next push says that a user came or went.
pub(crate) async fn hears_that(socket: &mut Signaling, user: &str, action: &str, count: u64) -> Result<Value> {
    let state = socket.push_of("channel-state").await?;
    let said = (&state["action"], &state["userId"], &state["userName"], &state["userCount"]);
    assert_eq!(said, (&json!(action), &json!(user), &json!(name(user)), &json!(count)), "{state}");
    Ok(state)
}
