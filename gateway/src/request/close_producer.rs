//! `close-producer {producerId}`: stop offering a stream. An extension for our own client; existing ones fall silent.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::CloseProducerRequest;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct CloseProducer {
    producer: String,
}

impl CloseProducer {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { producer: data.id("producerId")?.to_owned() })
    }

    /// The node checks that it is this connection's.
    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let request = CloseProducerRequest {
            connection_id: session.connection().to_string(),
            producer_id: self.producer.clone(),
        };
        let closed = session.ask_media_nodes(|mut node| {
            let request = request.clone();
            async move { node.close_producer(request).await }
        });
        closed.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::ProducerNotFound(self.producer),
            _ => status.into(),
        })?;
        reply.success(json!({"success": true}));
        Ok(())
    }
}
