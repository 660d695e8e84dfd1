//! Clients that are heard and that hear, over real media.

use serde_json::{Value, json};
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::{DtlsRole, Options, device};

use crate::client::Client;

/// A transport on which a channel is heard.
pub(crate) struct Listening {
    pub(crate) id: String,
    pub(crate) ear: Ear,
    transport: RecvTransport,
}

impl Listening {
    /// Says goodbye to the node.
    pub(crate) async fn close(self) {
        self.transport.close().await.expect("closes");
    }
}

/// A transport on which a client speaks.
pub(crate) struct Speaking {
    pub(crate) microphone: Microphone,
    _transport: SendTransport,
}

/// Opens a transport and consumes the channel's floor output, as our own client does.
pub(crate) async fn listen(client: &mut Client, channel: &str) -> Listening {
    let router = client.ok("get-router-capabilities", json!({"channelId": channel})).await;
    let capabilities = device::rtp_capabilities(&router["routerRtpCapabilities"]).expect("capabilities");
    let (id, created) = create_transport(client, channel, "recv").await;
    let server = device::server(&created).expect("a transport");
    let mut transport = RecvTransport::new(server, Options::default()).await.expect("a transport");
    let consume = json!({"channelId": channel, "producerId": format!("floor:{channel}"), "transportId": id,
                         "rtpCapabilities": capabilities});
    let consumed = client.ok("consume", consume).await;
    connect(client, &id, transport.role(), transport.fingerprint()).await;
    let ear = transport.receive(device::stream(&consumed).expect("a stream")).await.expect("negotiates");
    transport.connected().await.expect("connects");
    Listening { id, ear, transport }
}

/// Opens a transport and produces. What is said is heard while the client holds the floor.
pub(crate) async fn speak(client: &mut Client, channel: &str, speaker: u32) -> Speaking {
    let (id, created) = create_transport(client, channel, "send").await;
    let server = device::server(&created).expect("a transport");
    let mut transport = SendTransport::new(server, Options::default()).await.expect("a transport");
    connect(client, &id, transport.role(), transport.fingerprint()).await;
    let microphone = transport.add_microphone(speaker).await.expect("negotiates");
    let produce = json!({"transportId": id, "kind": "audio", "channelId": channel,
                         "rtpParameters": device::rtp_parameters(&microphone)});
    client.ok("produce", produce).await;
    transport.connected().await.expect("connects");
    Speaking { microphone, _transport: transport }
}

/// Hears this speaker from some frame on.
pub(crate) async fn hears(listening: &mut Listening, speaker: u32) {
    while listening.ear.next().await.expect("audio").speaker != speaker {}
}

async fn create_transport(client: &mut Client, channel: &str, direction: &str) -> (String, Value) {
    let created = client.ok("create-transport", json!({"channelId": channel, "direction": direction})).await;
    (created["id"].as_str().expect("an id").to_owned(), created)
}

async fn connect(client: &mut Client, id: &str, role: DtlsRole, fingerprint: &str) {
    let dtls = device::dtls_parameters(role, fingerprint);
    client.ok("connect-transport", json!({"transportId": id, "dtlsParameters": dtls})).await;
}
