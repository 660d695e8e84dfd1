//! A media node for one test, and the members of its channels: translates between the gRPC contract and the test kit.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};
use voiceping_media_node::{Config, MediaNode, Service};
use voiceping_proto::media::v1::media_node_client::MediaNodeClient;
use voiceping_proto::media::v1::media_node_server::MediaNodeServer;
use voiceping_proto::media::v1::node_event::{Event, Ready};
use voiceping_proto::media::v1::{self as proto, NodeEvent};
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sdp::{Server, Stream};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::{DtlsRole, Options, soon};

/// The gateway that all members are on.
pub(crate) const GATEWAY: &str = "gateway";

/// The usual channel.
pub(crate) const CHANNEL: &str = "lobby";

pub(crate) type Client = MediaNodeClient<MediaNodeServer<Service>>;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// A node with everything that a gateway has of it.
pub(crate) struct Node {
    pub(crate) node: MediaNode,
    pub(crate) client: Client,
    events: Streaming<NodeEvent>,
}

impl Node {
    /// A node with this many workers, watched by [`GATEWAY`].
    pub(crate) async fn start(workers: u16) -> Result<Self> {
        Self::start_with(&["--media-listen", "127.0.0.1:0", "--media-workers", &workers.to_string()]).await
    }

    /// A node with these flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Result<Self> {
        let flags = Flags::try_parse_from(std::iter::once("test").chain(flags.iter().copied()))?;
        let node = MediaNode::bind(flags.config)?;
        let client = MediaNodeClient::new(node.service());
        let (_, events) = watch(&client, GATEWAY).await?;
        Ok(Self { node, client, events })
    }

    /// The next event of a connection; those of the node as a whole may come before it.
    pub(crate) async fn event(&mut self) -> Result<Event> {
        self.until(|event| !matches!(event, Event::Tick(_) | Event::ChannelCarried(_))).await
    }

    /// Waits until this event comes; others may come before it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            let event = soon("an event", self.events.next()).await?.context("the events have ended")??;
            let event = event.event.context("an event without content")?;
            if wanted(&event) {
                return Ok(event);
            }
        }
    }

    /// Gives the floor of a channel to a member, or to nobody.
    pub(crate) async fn set_floor(&self, channel: &str, epoch: u64, holder: Option<&Member>) -> Result<(), Status> {
        self.set_floor_until(channel, epoch, holder, u64::MAX).await.map(drop)
    }

    /// The same until the node's clock shows this. Answers what it showed.
    pub(crate) async fn set_floor_until(
        &self,
        channel: &str,
        epoch: u64,
        holder: Option<&Member>,
        valid_until_ms: u64,
    ) -> Result<u64, Status> {
        let request = proto::SetFloorRequest {
            channel_id: channel.to_owned(),
            epoch,
            holder_connection_id: holder.map(|member| member.connection.clone()).unwrap_or_default(),
            holder_gateway_id: holder.map(|member| member.gateway.clone()).unwrap_or_default(),
            valid_until_ms,
            hear_out: false,
        };
        Ok(self.client.clone().set_floor(request).await?.into_inner().clock_ms)
    }

    /// A connection without anything yet.
    pub(crate) fn member(&self, connection: &str) -> Member {
        self.member_of(GATEWAY, connection)
    }

    /// The same of another gateway.
    pub(crate) fn member_of(&self, gateway: &str, connection: &str) -> Member {
        let (gateway, connection) = (gateway.to_owned(), connection.to_owned());
        Member { gateway, connection, client: self.client.clone() }
    }

    /// How many transports, producers and consumers the node has.
    pub(crate) async fn usage(&self) -> Result<(u32, u32, u32)> {
        let node = self.client.clone().get_node(proto::GetNodeRequest {}).await?.into_inner();
        Ok((node.transports, node.producers, node.consumers))
    }

    pub(crate) async fn shutdown(self) -> Streaming<NodeEvent> {
        self.node.shutdown().await;
        self.events
    }
}

/// Begins to watch for a gateway. Answers what the node says of itself, and the events that follow.
pub(crate) async fn watch(client: &Client, gateway: &str) -> Result<(Ready, Streaming<NodeEvent>)> {
    let request = proto::WatchEventsRequest { gateway_id: gateway.to_owned() };
    let mut events = client.clone().watch_events(request).await?.into_inner();
    match events.next().await.context("an event")??.event {
        Some(Event::Ready(ready)) => Ok((ready, events)),
        other => anyhow::bail!("events begin with ready: {other:?}"),
    }
}

/// A client's connection, as its gateway sees it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    gateway: String,
    pub(crate) connection: String,
    client: Client,
}

/// A member's voice: its transport, its producer, its microphone.
pub(crate) struct Speaker {
    pub(crate) transport_id: String,
    pub(crate) transport: SendTransport,
    pub(crate) producer_id: String,
    pub(crate) microphone: Microphone,
}

/// A member's ear: its transport, its consumer.
pub(crate) struct Listener {
    pub(crate) transport_id: String,
    pub(crate) transport: RecvTransport,
    pub(crate) consumer_id: String,
    pub(crate) stream: Stream,
    pub(crate) ear: Ear,
}

impl Member {
    pub(crate) async fn create_transport(&self, direction: proto::Direction) -> Result<(String, Server), Status> {
        let (id, server, _) = self.create_transport_with_tcp(direction).await?;
        Ok((id, server))
    }

    /// The same, with the candidates for TCP.
    pub(crate) async fn create_transport_with_tcp(
        &self,
        direction: proto::Direction,
    ) -> Result<(String, Server, Vec<SocketAddr>), Status> {
        let request = proto::CreateTransportRequest {
            gateway_id: self.gateway.clone(),
            connection_id: self.connection.clone(),
            direction: direction.into(),
        };
        let created = self.client.clone().create_transport(request).await?.into_inner();
        let ice = created.ice_parameters.expect("ICE parameters");
        let candidate = |candidate: &proto::IceCandidate| {
            SocketAddr::new(candidate.address.parse().expect("an address"), candidate.port as u16)
        };
        let of = |protocol: &str| -> Vec<SocketAddr> {
            let candidates = created.ice_candidates.iter().filter(|candidate| candidate.protocol == protocol);
            candidates.map(candidate).collect()
        };
        let fingerprint = &created.dtls_fingerprints[0];
        assert_eq!(fingerprint.algorithm, "sha-256");
        let server = Server {
            ufrag: ice.username_fragment,
            password: ice.password,
            candidates: of("udp"),
            fingerprint: fingerprint.value.clone(),
        };
        Ok((created.transport_id.clone(), server, of("tcp")))
    }

    pub(crate) async fn connect(&self, transport: &str, role: DtlsRole, fingerprint: &str) -> Result<(), Status> {
        let request = proto::ConnectTransportRequest {
            connection_id: self.connection.clone(),
            transport_id: transport.to_owned(),
            dtls_role: match role {
                DtlsRole::Client => proto::DtlsRole::Client.into(),
                DtlsRole::Server => proto::DtlsRole::Server.into(),
            },
            dtls_fingerprints: vec![proto::DtlsFingerprint {
                algorithm: "sha-256".to_owned(),
                value: fingerprint.to_owned(),
            }],
        };
        self.client.clone().connect_transport(request).await.map(drop)
    }

    pub(crate) async fn produce(
        &self,
        transport: &str,
        channel: &str,
        microphone: &Microphone,
    ) -> Result<String, Status> {
        self.produce_with(transport, channel, rtp_parameters(microphone)).await
    }

    pub(crate) async fn produce_with(
        &self,
        transport: &str,
        channel: &str,
        rtp_parameters: proto::RtpParameters,
    ) -> Result<String, Status> {
        let request = proto::ProduceRequest {
            connection_id: self.connection.clone(),
            transport_id: transport.to_owned(),
            channel_id: channel.to_owned(),
            rtp_parameters: Some(rtp_parameters),
        };
        Ok(self.client.clone().produce(request).await?.into_inner().producer_id)
    }

    /// Consumes a producer or, with an empty id, the floor output.
    pub(crate) async fn consume(
        &self,
        transport: &str,
        channel: &str,
        producer: &str,
        options: &Options,
    ) -> Result<(String, Stream), Status> {
        self.consume_as(transport, channel, producer, options, true).await
    }

    /// The floor output as existing clients do, for the talk that they have been told of.
    pub(crate) async fn consume_for_talk(&self, transport: &str, channel: &str) -> Result<(String, Stream), Status> {
        self.consume_as(transport, channel, "", &Options::default(), false).await
    }

    async fn consume_as(
        &self,
        transport: &str,
        channel: &str,
        producer: &str,
        options: &Options,
        kept: bool,
    ) -> Result<(String, Stream), Status> {
        let request = proto::ConsumeRequest {
            connection_id: self.connection.clone(),
            transport_id: transport.to_owned(),
            channel_id: channel.to_owned(),
            producer_id: producer.to_owned(),
            rtp_capabilities: Some(rtp_capabilities(options.payload_type.unwrap_or(111))),
            kept,
        };
        let consumed = self.client.clone().consume(request).await?.into_inner();
        let rtp = consumed.rtp_parameters.expect("RTP parameters");
        let codec = rtp.codec.expect("a codec");
        let stream = Stream {
            mid: rtp.mid,
            payload_type: codec.payload_type as u8,
            parameters: codec.parameters.into_iter().collect(),
            nack: codec.rtcp_feedback.iter().any(|feedback| feedback == "nack"),
            extensions: rtp.header_extensions.into_iter().map(|known| (known.uri, known.id as u8)).collect(),
            ssrc: rtp.ssrc,
            cname: rtp.cname,
        };
        Ok((consumed.consumer_id, stream))
    }

    /// A transport to send, connected, with a producer for a channel.
    pub(crate) async fn speaker(&self, channel: &str, number: u32, options: Options) -> Result<Speaker> {
        let (transport_id, server) = self.create_transport(proto::Direction::Send).await?;
        self.speaker_over(transport_id, server, channel, number, options).await
    }

    /// The same over a transport that exists, perhaps with another way to the server.
    pub(crate) async fn speaker_over(
        &self,
        transport_id: String,
        server: Server,
        channel: &str,
        number: u32,
        options: Options,
    ) -> Result<Speaker> {
        let mut transport = SendTransport::new(server, options).await?;
        self.connect(&transport_id, transport.role(), transport.fingerprint()).await?;
        let microphone = transport.add_microphone(number).await?;
        let producer_id = self.produce(&transport_id, channel, &microphone).await?;
        transport.connected().await?;
        Ok(Speaker { transport_id, transport, producer_id, microphone })
    }

    /// A transport to receive, connected, with a consumer of a channel's floor output.
    pub(crate) async fn listener(&self, channel: &str, options: Options) -> Result<Listener> {
        let (transport_id, server) = self.create_transport(proto::Direction::Recv).await?;
        self.listener_over(transport_id, server, channel, "", options).await
    }

    /// The same over a transport that exists, of one producer if it is not empty.
    pub(crate) async fn listener_over(
        &self,
        transport_id: String,
        server: Server,
        channel: &str,
        producer: &str,
        options: Options,
    ) -> Result<Listener> {
        let mut transport = RecvTransport::new(server, options.clone()).await?;
        self.connect(&transport_id, transport.role(), transport.fingerprint()).await?;
        let (consumer_id, stream) = self.consume(&transport_id, channel, producer, &options).await?;
        let ear = transport.receive(stream.clone()).await?;
        transport.connected().await?;
        Ok(Listener { transport_id, transport, consumer_id, stream, ear })
    }

    pub(crate) async fn close_transport(&self, transport: &str) -> Result<(), Status> {
        let (connection_id, transport_id) = (self.connection.clone(), transport.to_owned());
        let request = proto::CloseTransportRequest { connection_id, transport_id };
        self.client.clone().close_transport(request).await.map(drop)
    }

    pub(crate) async fn close_producer(&self, producer: &str) -> Result<(), Status> {
        let (connection_id, producer_id) = (self.connection.clone(), producer.to_owned());
        let request = proto::CloseProducerRequest { connection_id, producer_id };
        self.client.clone().close_producer(request).await.map(drop)
    }

    pub(crate) async fn pause_consumer(&self, consumer: &str, paused: bool) -> Result<(), Status> {
        let (connection_id, consumer_id) = (self.connection.clone(), consumer.to_owned());
        let request = proto::PauseConsumerRequest { connection_id, consumer_id, paused };
        self.client.clone().pause_consumer(request).await.map(drop)
    }

    /// Leaves a channel or, with an empty one, goes.
    pub(crate) async fn close_connection(&self, channel: &str) -> Result<(), Status> {
        let (connection_id, channel_id) = (self.connection.clone(), channel.to_owned());
        let request = proto::CloseConnectionRequest { connection_id, channel_id, ..Default::default() };
        self.client.clone().close_connection(request).await.map(drop)
    }
}

/// What `produce` says of a microphone, with its SSRC.
pub(crate) fn rtp_parameters(microphone: &Microphone) -> proto::RtpParameters {
    let offered = &microphone.offered;
    let extension = |(uri, id): &(String, u8)| proto::RtpHeaderExtension { uri: uri.clone(), id: u32::from(*id) };
    proto::RtpParameters {
        mid: offered.mid.clone(),
        codec: Some(opus(offered.payload_type)),
        header_extensions: offered.extensions.iter().map(extension).collect(),
        ssrc: microphone.ssrc,
        cname: "test".to_owned(),
    }
}

fn rtp_capabilities(payload_type: u8) -> proto::RtpCapabilities {
    let extension = |(uri, id): (&str, u32)| proto::RtpHeaderExtension { uri: uri.to_owned(), id };
    let extensions = [
        ("urn:ietf:params:rtp-hdrext:sdes:mid", 1),
        ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
        ("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", 13),
    ];
    proto::RtpCapabilities { codecs: vec![opus(payload_type)], header_extensions: extensions.map(extension).to_vec() }
}

fn opus(payload_type: u8) -> proto::RtpCodec {
    let parameter = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    proto::RtpCodec {
        mime_type: "audio/opus".to_owned(),
        payload_type: u32::from(payload_type),
        clock_rate: 48_000,
        channels: 2,
        parameters: [("minptime", "10"), ("useinbandfec", "1")].map(parameter).into(),
        rtcp_feedback: vec!["nack".to_owned(), "transport-cc".to_owned()],
    }
}

/// Checks that a call was refused with this code.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) {
    assert_eq!(result.map_err(|status| status.code()).expect_err("refused"), code);
}
