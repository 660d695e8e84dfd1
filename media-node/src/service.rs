//! The gRPC service: checks what gateways send, hands it to the right worker, answers.
//!
//! A connection lives on one worker, found from its id alone: nothing here has to remember who is where.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use voiceping_engine::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId, TransportId};
use voiceping_engine::rtp::{ExtensionIds, extension};
use voiceping_engine::{Error, Fingerprint, NewConsumer, NewProducer, NewTransport, Role};
use voiceping_proto::media::v1 as proto;
use voiceping_proto::media::v1::media_node_server::MediaNode;

use crate::events::Watchers;
use crate::worker::{Stopped, Worker};

/// The longest id that a gateway may use.
const MAX_ID: usize = 256;

/// Format parameters that one producer may have.
const MAX_PARAMETERS: usize = 32;

/// What every consumer of a floor output is told, whoever speaks: in-band FEC may be there, 10 ms frames may come
/// (RFC 7587 section 6.1).
const FLOOR_OUTPUT_PARAMETERS: [(&str, &str); 2] = [("minptime", "10"), ("useinbandfec", "1")];

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node_id: String,
    workers: Vec<Worker>,
    /// Of each worker.
    candidates: Vec<Vec<proto::IceCandidate>>,
    fingerprint: proto::DtlsFingerprint,
    watchers: Arc<Watchers>,
}

impl Service {
    /// Over running workers.
    pub(crate) fn new(
        node_id: String,
        workers: Vec<Worker>,
        candidates: Vec<Vec<proto::IceCandidate>>,
        fingerprint: Fingerprint,
        watchers: Arc<Watchers>,
    ) -> Self {
        let fingerprint = proto::DtlsFingerprint { algorithm: fingerprint.algorithm, value: fingerprint.value };
        Self { inner: Arc::new(Inner { node_id, workers, candidates, fingerprint, watchers }) }
    }

    pub(crate) fn node_id(&self) -> &str {
        &self.inner.node_id
    }

    fn worker_index(&self, connection: &ConnectionId) -> usize {
        let mut hasher = DefaultHasher::new();
        connection.hash(&mut hasher);
        (hasher.finish() % self.inner.workers.len() as u64) as usize
    }

    fn worker(&self, connection: &ConnectionId) -> &Worker {
        &self.inner.workers[self.worker_index(connection)]
    }

    /// The producer with this id, wherever it is.
    async fn find_producer(&self, id: ProducerId) -> Result<voiceping_engine::ProducerParameters, Status> {
        for worker in &self.inner.workers {
            let id = id.clone();
            if let Some(found) = worker.call(move |engine, _, _| engine.producer(&id)).await.map_err(stopped)? {
                return Ok(found);
            }
        }
        Err(Status::not_found("unknown producer"))
    }
}

#[tonic::async_trait]
impl MediaNode for Service {
    type WatchEventsStream = ReceiverStream<Result<proto::NodeEvent, Status>>;

    async fn create_transport(
        &self,
        request: Request<proto::CreateTransportRequest>,
    ) -> Result<Response<proto::CreateTransportResponse>, Status> {
        let request = request.into_inner();
        if !matches!(request.direction(), proto::Direction::Send | proto::Direction::Recv) {
            return Err(Status::invalid_argument("direction is missing"));
        }
        let gateway = GatewayId::from(id(&request.gateway_id, "gateway_id")?);
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let index = self.worker_index(&connection);
        let new = NewTransport { gateway, connection };
        let parameters = self.inner.workers[index]
            .call(move |engine, now, _| engine.create_transport(now, new))
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        Ok(Response::new(proto::CreateTransportResponse {
            transport_id: parameters.id.to_string(),
            ice_parameters: Some(proto::IceParameters {
                username_fragment: parameters.ufrag,
                password: parameters.password,
            }),
            ice_candidates: self.inner.candidates[index].clone(),
            dtls_fingerprints: vec![self.inner.fingerprint.clone()],
        }))
    }

    async fn connect_transport(
        &self,
        request: Request<proto::ConnectTransportRequest>,
    ) -> Result<Response<proto::ConnectTransportResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let transport = TransportId::from(id(&request.transport_id, "transport_id")?);
        let role = match request.dtls_role() {
            proto::DtlsRole::Server => Role::Server,
            _ => Role::Client, // auto: the client starts (RFC 8842 section 5.3)
        };
        if request.dtls_fingerprints.len() > 8 {
            return Err(Status::invalid_argument("too many fingerprints"));
        }
        let fingerprints = request
            .dtls_fingerprints
            .into_iter()
            .map(|fingerprint| Fingerprint { algorithm: fingerprint.algorithm, value: fingerprint.value })
            .collect();
        self.worker(&connection)
            .call(move |engine, now, batch| {
                engine.connect_transport(now, &connection, &transport, role, fingerprints, batch)
            })
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        Ok(Response::new(proto::ConnectTransportResponse {}))
    }

    async fn produce(
        &self,
        request: Request<proto::ProduceRequest>,
    ) -> Result<Response<proto::ProduceResponse>, Status> {
        let request = request.into_inner();
        let rtp = request.rtp_parameters.ok_or_else(|| Status::invalid_argument("rtp_parameters are missing"))?;
        let codec = rtp.codec.ok_or_else(|| Status::invalid_argument("codec is missing"))?;
        check_opus(&codec)?;
        if codec.parameters.len() > MAX_PARAMETERS || rtp.mid.len() > 32 {
            return Err(Status::invalid_argument("too many or too long parameters"));
        }
        let new = NewProducer {
            connection: ConnectionId::from(id(&request.connection_id, "connection_id")?),
            transport: TransportId::from(id(&request.transport_id, "transport_id")?),
            channel: ChannelId::from(id(&request.channel_id, "channel_id")?),
            mid: Some(rtp.mid).filter(|mid| !mid.is_empty()),
            ssrc: Some(rtp.ssrc).filter(|ssrc| *ssrc != 0),
            extension_ids: ExtensionIds {
                mid: extension_id(&rtp.header_extensions, extension::MID_URI),
                audio_level: extension_id(&rtp.header_extensions, extension::AUDIO_LEVEL_URI),
                abs_capture_time: extension_id(&rtp.header_extensions, extension::ABS_CAPTURE_TIME_URI),
            },
            parameters: codec.parameters.into_iter().collect(),
            nack: codec.rtcp_feedback.iter().any(|feedback| feedback == "nack"),
        };
        let producer = self
            .worker(&new.connection.clone())
            .call(move |engine, now, _| engine.produce(now, new))
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        Ok(Response::new(proto::ProduceResponse { producer_id: producer.to_string() }))
    }

    async fn consume(
        &self,
        request: Request<proto::ConsumeRequest>,
    ) -> Result<Response<proto::ConsumeResponse>, Status> {
        let request = request.into_inner();
        let channel = ChannelId::from(id(&request.channel_id, "channel_id")?);
        let capabilities = request.rtp_capabilities.unwrap_or_default();
        let codec = capabilities.codecs.iter().find(|codec| check_opus(codec).is_ok());
        let codec = codec.ok_or_else(|| Status::invalid_argument("the client cannot receive Opus"))?;
        let (member, parameters) = if request.producer_id.is_empty() {
            let parameters = FLOOR_OUTPUT_PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (None, parameters.into_iter().collect())
        } else {
            let producer = self.find_producer(id(&request.producer_id, "producer_id")?.into()).await?;
            if producer.channel != channel {
                return Err(Status::not_found("unknown producer"));
            }
            (Some(producer.connection), producer.parameters.into_iter().collect())
        };
        let new = NewConsumer {
            connection: ConnectionId::from(id(&request.connection_id, "connection_id")?),
            transport: TransportId::from(id(&request.transport_id, "transport_id")?),
            channel,
            member,
            payload_type: codec.payload_type as u8,
        };
        let consumer = self
            .worker(&new.connection.clone())
            .call(move |engine, now, _| engine.consume(now, new))
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        let extensions = [
            (extension::AUDIO_LEVEL_URI, extension::AUDIO_LEVEL),
            (extension::ABS_CAPTURE_TIME_URI, extension::ABS_CAPTURE_TIME),
        ];
        let wanted = |uri: &str| capabilities.header_extensions.iter().any(|extension| extension.uri == uri);
        let nack = codec.rtcp_feedback.iter().any(|feedback| feedback == "nack");
        Ok(Response::new(proto::ConsumeResponse {
            rtp_parameters: Some(proto::RtpParameters {
                mid: consumer.mid.to_string(),
                codec: Some(proto::RtpCodec {
                    mime_type: "audio/opus".into(),
                    payload_type: codec.payload_type,
                    clock_rate: 48_000,
                    channels: 2,
                    parameters,
                    rtcp_feedback: if nack { vec!["nack".into()] } else { Vec::new() },
                }),
                header_extensions: extensions
                    .into_iter()
                    .filter(|(uri, _)| wanted(uri))
                    .map(|(uri, id)| proto::RtpHeaderExtension { uri: uri.into(), id: id.into() })
                    .collect(),
                ssrc: consumer.ssrc,
                cname: consumer.id.to_string(),
            }),
            consumer_id: consumer.id.to_string(),
        }))
    }

    async fn close_transport(
        &self,
        request: Request<proto::CloseTransportRequest>,
    ) -> Result<Response<proto::CloseTransportResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let transport = TransportId::from(id(&request.transport_id, "transport_id")?);
        self.worker(&connection.clone())
            .call(move |engine, now, batch| engine.close_transport(now, &connection, &transport, batch))
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::CloseTransportResponse {}))
    }

    async fn close_producer(
        &self,
        request: Request<proto::CloseProducerRequest>,
    ) -> Result<Response<proto::CloseProducerResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let producer = ProducerId::from(id(&request.producer_id, "producer_id")?);
        self.worker(&connection.clone())
            .call(move |engine, now, _| engine.close_producer(now, &connection, &producer))
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::CloseProducerResponse {}))
    }

    async fn close_consumer(
        &self,
        request: Request<proto::CloseConsumerRequest>,
    ) -> Result<Response<proto::CloseConsumerResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let consumer = ConsumerId::from(id(&request.consumer_id, "consumer_id")?);
        self.worker(&connection.clone())
            .call(move |engine, now, _| engine.close_consumer(now, &connection, &consumer))
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::CloseConsumerResponse {}))
    }

    async fn pause_consumer(
        &self,
        request: Request<proto::PauseConsumerRequest>,
    ) -> Result<Response<proto::PauseConsumerResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let consumer = ConsumerId::from(id(&request.consumer_id, "consumer_id")?);
        self.worker(&connection.clone())
            .call(move |engine, _, _| engine.pause_consumer(&connection, &consumer, request.paused))
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        Ok(Response::new(proto::PauseConsumerResponse {}))
    }

    async fn close_connection(
        &self,
        request: Request<proto::CloseConnectionRequest>,
    ) -> Result<Response<proto::CloseConnectionResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let channel = match request.channel_id.as_str() {
            "" => None,
            channel => Some(ChannelId::from(id(channel, "channel_id")?)),
        };
        self.worker(&connection.clone())
            .call(move |engine, now, batch| engine.close_connection(now, &connection, channel.as_ref(), batch))
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::CloseConnectionResponse {}))
    }

    async fn adopt_connection(
        &self,
        _request: Request<proto::AdoptConnectionRequest>,
    ) -> Result<Response<proto::AdoptConnectionResponse>, Status> {
        Err(Status::unimplemented("connections stay with their gateway"))
    }

    async fn set_floor(
        &self,
        request: Request<proto::SetFloorRequest>,
    ) -> Result<Response<proto::SetFloorResponse>, Status> {
        let request = request.into_inner();
        let channel = ChannelId::from(id(&request.channel_id, "channel_id")?);
        let holder = match request.holder_connection_id.as_str() {
            "" => None,
            connection => Some((
                ConnectionId::from(id(connection, "holder_connection_id")?),
                GatewayId::from(id(&request.holder_gateway_id, "holder_gateway_id")?),
            )),
        };
        // The holder's worker is told last: when its first packet is relayed, the floor is in the others' queues.
        let speaker = holder.as_ref().map_or(0, |(connection, _)| self.worker_index(connection));
        let others = (0..self.inner.workers.len()).filter(|index| *index != speaker);
        let mut answers = Vec::with_capacity(self.inner.workers.len());
        for index in others.chain(std::iter::once(speaker)) {
            let (channel, holder) = (channel.clone(), holder.clone());
            let worker = &self.inner.workers[index];
            let answer = worker.ask(move |engine, now, _| engine.set_floor(now, &channel, request.epoch, holder));
            answers.push(answer.map_err(stopped)?);
        }
        for answer in answers {
            answer.await.map_err(|_| stopped(Stopped))?.map_err(refused)?;
        }
        Ok(Response::new(proto::SetFloorResponse::default()))
    }

    async fn get_floor_activity(
        &self,
        request: Request<proto::GetFloorActivityRequest>,
    ) -> Result<Response<proto::GetFloorActivityResponse>, Status> {
        let channel = ChannelId::from(id(&request.into_inner().channel_id, "channel_id")?);
        let mut response = proto::GetFloorActivityResponse::default();
        for worker in &self.inner.workers {
            let channel = channel.clone();
            let activity =
                worker.call(move |engine, now, _| engine.floor_activity(now, &channel)).await.map_err(stopped)?;
            response.epoch = response.epoch.max(activity.epoch);
            if let Some(silent_for) = activity.silent_for {
                let silent_for = silent_for.as_millis() as u64;
                response.silent_for_ms = Some(response.silent_for_ms.map_or(silent_for, |least| least.min(silent_for)));
            }
        }
        Ok(Response::new(response))
    }

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let gateway = id(&request.gateway_id, "gateway_id")?;
        let events = self.inner.watchers.watch(gateway.to_owned(), &self.inner.node_id);
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn get_node(
        &self,
        _request: Request<proto::GetNodeRequest>,
    ) -> Result<Response<proto::GetNodeResponse>, Status> {
        let mut response = proto::GetNodeResponse {
            node_id: self.inner.node_id.clone(),
            workers: self.inner.workers.len() as u32,
            ..Default::default()
        };
        for worker in &self.inner.workers {
            let usage = worker.call(|engine, _, _| engine.usage()).await.map_err(stopped)?;
            response.transports += usage.transports as u32;
            response.producers += usage.producers as u32;
            response.consumers += usage.consumers as u32;
        }
        Ok(Response::new(response))
    }
}

/// An id that is there and not absurdly long.
fn id<'a>(text: &'a str, name: &str) -> Result<&'a str, Status> {
    if text.is_empty() || text.len() > MAX_ID {
        return Err(Status::invalid_argument(format!("{name} is missing or longer than {MAX_ID} bytes")));
    }
    Ok(text)
}

fn check_opus(codec: &proto::RtpCodec) -> Result<(), Status> {
    if !codec.mime_type.eq_ignore_ascii_case("audio/opus") || codec.clock_rate != 48_000 || codec.payload_type > 127 {
        return Err(Status::invalid_argument("only Opus at 48 kHz is carried (RFC 7587)"));
    }
    Ok(())
}

/// The id of an extension. Ids beyond one byte do not exist on the wire (RFC 8285).
fn extension_id(extensions: &[proto::RtpHeaderExtension], uri: &str) -> Option<u8> {
    let found = extensions.iter().find(|extension| extension.uri == uri)?;
    u8::try_from(found.id).ok().filter(|id| *id != 0)
}

fn refused(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NotFound(_) => Status::not_found(text),
        Error::Conflict(_) => Status::failed_precondition(text),
        Error::Invalid(_) => Status::invalid_argument(text),
        Error::Exhausted(_) => Status::resource_exhausted(text),
    }
}

fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}
