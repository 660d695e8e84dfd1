//! The gRPC service: checks what gateways send, hands it to the right worker, answers.
//!
//! A connection lives on one worker, found from its id alone: nothing here has to remember who is where.

pub(crate) mod check;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Request, Response, Status};
use voiceping_engine::id::{ChannelId, ConnectionId, ConsumerId, GatewayId, ProducerId, TransportId};
use voiceping_engine::rtp::{ExtensionIds, extension};
use voiceping_engine::{
    Adopted, Direction, Error, Fingerprint, NewConsumer, NewHolder, NewProducer, NewTransport, Role,
};
use voiceping_proto::media::v1 as proto;
use voiceping_proto::media::v1::adopt_connection_response::{Stream, Transport};
use voiceping_proto::media::v1::media_node_server::MediaNode;
use voiceping_signals::{span, trace};

use crate::clock::Clock;
use crate::events::Events;
use crate::metrics;
use crate::worker::{self, Answers, Worker};

use check::{check_opus, extension_id, find_opus, id, optional_id, refused, stopped};

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
    clock: Clock,
    workers: Vec<Worker>,
    /// Of each worker.
    candidates: Vec<Vec<proto::IceCandidate>>,
    fingerprint: proto::DtlsFingerprint,
    events: Arc<Events>,
    /// Held while a change of a floor is queued on all workers: two changes come to each of them in the same order.
    floor_order: Mutex<()>,
}

/// What becomes of a floor.
#[derive(Debug, Clone)]
pub(crate) enum FloorChange {
    /// Somebody may speak.
    Open(NewHolder),
    /// Nobody may; with a gateway, only if the floor is one of its connections'.
    Close(Option<GatewayId>),
    /// The same, but what the holder has sent until now is still heard.
    Release(Option<GatewayId>),
}

impl Service {
    /// Over running workers.
    pub(crate) fn new(
        node_id: String,
        clock: Clock,
        workers: Vec<Worker>,
        candidates: Vec<Vec<proto::IceCandidate>>,
        fingerprint: Fingerprint,
        events: Arc<Events>,
    ) -> Self {
        let fingerprint = proto::DtlsFingerprint { algorithm: fingerprint.algorithm, value: fingerprint.value };
        let floor_order = Mutex::default();
        Self { inner: Arc::new(Inner { node_id, clock, workers, candidates, fingerprint, events, floor_order }) }
    }

    fn worker_index(&self, connection: &ConnectionId) -> usize {
        worker::home(connection, self.inner.workers.len())
    }

    fn worker(&self, connection: &ConnectionId) -> &Worker {
        &self.inner.workers[self.worker_index(connection)]
    }

    /// Queues a change of a floor on all workers. Each answers whether a gate that was to be closed is kept.
    pub(crate) fn change_floor(
        &self,
        channel: ChannelId,
        epoch: u64,
        change: FloorChange,
    ) -> Answers<Result<bool, Error>> {
        let workers = &self.inner.workers;
        // The holder's worker is told last: when its first packet is relayed, the floor is in the others' queues.
        let last = match &change {
            FloorChange::Open(holder) => self.worker_index(&holder.connection),
            FloorChange::Close(_) | FloorChange::Release(_) => 0,
        };
        let others = workers.iter().enumerate().filter(|(index, _)| *index != last).map(|(_, worker)| worker);
        let _order = self.inner.floor_order.lock().unwrap_or_else(PoisonError::into_inner);
        Answers::of(others.chain([&workers[last]]).map(|worker| {
            let (id, change) = (channel.clone(), change.clone());
            match change {
                FloorChange::Open(holder) => {
                    worker.ask(move |engine, now, _| engine.set_floor(now, &id, epoch, Some(holder)).map(|()| false))
                }
                FloorChange::Close(gateway) => worker.ask(move |engine, now, _| {
                    engine.close_floor(now, &id, epoch, gateway.as_ref()).map(|closed| !closed)
                }),
                FloorChange::Release(gateway) => worker.ask_heard_out(channel.clone(), move |engine, now, _| {
                    engine.release_floor(now, &id, epoch, gateway.as_ref()).map(|closed| !closed)
                }),
            }
        }))
    }

    /// Queues on all workers that a connection is another gateway's.
    fn change_gateway(&self, connection: ConnectionId, gateway: GatewayId) -> Answers<Option<Adopted>> {
        let _order = self.inner.floor_order.lock().unwrap_or_else(PoisonError::into_inner);
        Answers::ask(&self.inner.workers, move |engine, _| engine.adopt_connection(&connection, gateway))
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
    type WatchEventsStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::NodeEvent, Status>> + Send>>;

    async fn create_transport(
        &self,
        request: Request<proto::CreateTransportRequest>,
    ) -> Result<Response<proto::CreateTransportResponse>, Status> {
        let request = request.into_inner();
        let direction = match request.direction() {
            proto::Direction::Send => Direction::Send,
            proto::Direction::Recv => Direction::Recv,
            proto::Direction::Unspecified => return Err(Status::invalid_argument("direction is missing")),
        };
        let gateway = GatewayId::from(id(&request.gateway_id, "gateway_id")?);
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let index = self.worker_index(&connection);
        let draining = self.inner.events.is_draining();
        let new = NewTransport { gateway: gateway.clone(), connection, direction };
        let parameters = self.inner.workers[index]
            .call(move |engine, now, _| {
                let refused = draining && !engine.has_connection(&new.connection);
                (!refused).then(|| engine.create_transport(now, new))
            })
            .await
            .map_err(stopped)?
            .ok_or_else(|| Status::unavailable("draining"))?
            .map_err(refused)?;
        self.inner.events.met(&gateway);
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

    async fn restart_ice(
        &self,
        request: Request<proto::RestartIceRequest>,
    ) -> Result<Response<proto::RestartIceResponse>, Status> {
        let request = request.into_inner();
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let transport = TransportId::from(id(&request.transport_id, "transport_id")?);
        let parameters = self
            .worker(&connection)
            .call(move |engine, _, _| engine.restart_ice(&connection, &transport))
            .await
            .map_err(stopped)?
            .map_err(refused)?;
        let ice_parameters =
            proto::IceParameters { username_fragment: parameters.ufrag, password: parameters.password };
        Ok(Response::new(proto::RestartIceResponse { ice_parameters: Some(ice_parameters) }))
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
        let codec = find_opus(&capabilities.codecs)?;
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
            kept: request.kept,
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
            .call(move |engine, now, _| engine.pause_consumer(now, &connection, &consumer, request.paused))
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
        let channel = optional_id(&request.channel_id, "channel_id")?.map(ChannelId::from);
        let gateway = optional_id(&request.gateway_id, "gateway_id")?.map(GatewayId::from);
        self.worker(&connection.clone())
            .call(move |engine, now, batch| {
                engine.close_connection(now, &connection, channel.as_ref(), gateway.as_ref(), batch)
            })
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::CloseConnectionResponse {}))
    }

    async fn adopt_connection(
        &self,
        request: Request<proto::AdoptConnectionRequest>,
    ) -> Result<Response<proto::AdoptConnectionResponse>, Status> {
        let request = request.into_inner();
        let gateway = GatewayId::from(id(&request.gateway_id, "gateway_id")?);
        let connection = ConnectionId::from(id(&request.connection_id, "connection_id")?);
        let of_workers = self.change_gateway(connection, gateway.clone()).all().await.map_err(stopped)?;
        let adopted = of_workers.into_iter().flatten().next();
        let adopted = adopted.ok_or_else(|| Status::not_found("the connection has no transport here"))?;
        self.inner.events.met(&gateway);
        Ok(Response::new(answer(adopted)))
    }

    async fn set_floor(
        &self,
        request: Request<proto::SetFloorRequest>,
    ) -> Result<Response<proto::SetFloorResponse>, Status> {
        let request = request.into_inner();
        let channel = ChannelId::from(id(&request.channel_id, "channel_id")?);
        let connection = optional_id(&request.holder_connection_id, "holder_connection_id")?.map(ConnectionId::from);
        let gateway = optional_id(&request.holder_gateway_id, "holder_gateway_id")?.map(GatewayId::from);
        let valid_until = self.inner.clock.at_ms(request.valid_until_ms);
        let change = match (connection, gateway) {
            (None, gateway) if request.hear_out => FloorChange::Release(gateway),
            (None, gateway) => FloorChange::Close(gateway),
            (Some(_), None) => return Err(Status::invalid_argument("holder_gateway_id is missing")),
            (Some(connection), Some(gateway)) => FloorChange::Open(NewHolder { connection, gateway, valid_until }),
        };
        let opens = matches!(change, FloorChange::Open(_));
        let span = if opens { "gate opens" } else { "gate closes" };
        let talks = &self.inner.events.vitals.talks;
        let changed = trace::within(|| span!(span, kind = "internal"), async {
            if opens {
                talks.begins(&channel, request.epoch);
            }
            self.change_floor(channel.clone(), request.epoch, change).all().await
        });
        let mut kept = false;
        for outcome in changed.await.map_err(stopped)? {
            kept |= outcome
                .inspect_err(|error| {
                    if opens {
                        metrics::refused(error);
                        talks.closed(&channel, request.epoch);
                    }
                })
                .map_err(refused)?;
        }
        Ok(Response::new(proto::SetFloorResponse { clock_ms: self.inner.clock.now_ms(), kept }))
    }

    async fn get_floor_activity(
        &self,
        request: Request<proto::GetFloorActivityRequest>,
    ) -> Result<Response<proto::GetFloorActivityResponse>, Status> {
        let channel = ChannelId::from(id(&request.into_inner().channel_id, "channel_id")?);
        let answers = Answers::ask(&self.inner.workers, move |engine, now| engine.floor_activity(now, &channel));
        let of_workers = answers.all().await.map_err(stopped)?;
        let silent_for = of_workers.iter().filter_map(|activity| activity.silent_for).min();
        Ok(Response::new(proto::GetFloorActivityResponse {
            epoch: of_workers.iter().map(|activity| activity.epoch).max().unwrap_or_default(),
            silent_for_ms: silent_for.map(|silent_for| silent_for.as_millis() as u64),
        }))
    }

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let gateway = GatewayId::from(id(&request.gateway_id, "gateway_id")?);
        Ok(Response::new(Box::pin(self.inner.events.watch(gateway))))
    }

    async fn get_node(
        &self,
        _request: Request<proto::GetNodeRequest>,
    ) -> Result<Response<proto::GetNodeResponse>, Status> {
        let usage = worker::usage(&self.inner.workers).await.map_err(stopped)?;
        Ok(Response::new(proto::GetNodeResponse {
            node_id: self.inner.node_id.clone(),
            workers: self.inner.workers.len() as u32,
            transports: usage.transports as u32,
            producers: usage.producers as u32,
            consumers: usage.consumers as u32,
            connections: usage.connections as u32,
        }))
    }
}

/// What a connection has here, as its new gateway is told.
fn answer(adopted: Adopted) -> proto::AdoptConnectionResponse {
    let stream = |id: String, channel: ChannelId| Stream { id, channel_id: channel.to_string() };
    let transport = |(id, direction): (TransportId, Direction)| Transport {
        transport_id: id.to_string(),
        direction: match direction {
            Direction::Send => proto::Direction::Send,
            Direction::Recv => proto::Direction::Recv,
        }
        .into(),
    };
    proto::AdoptConnectionResponse {
        transports: adopted.transports.into_iter().map(transport).collect(),
        producers: adopted.producers.into_iter().map(|(id, channel)| stream(id.to_string(), channel)).collect(),
        consumers: adopted.consumers.into_iter().map(|(id, channel)| stream(id.to_string(), channel)).collect(),
    }
}
