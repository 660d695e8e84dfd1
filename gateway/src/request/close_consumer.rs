//! `close-consumer {consumerId}`: stop hearing a channel. An extension for our own client.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::CloseConsumerRequest;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct CloseConsumer {
    consumer: String,
}

impl CloseConsumer {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { consumer: data.id("consumerId")?.to_owned() })
    }

    /// The node checks that it is this connection's.
    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let request = CloseConsumerRequest {
            connection_id: session.connection().to_string(),
            consumer_id: self.consumer.clone(),
        };
        let closed = session.ask_media_nodes(|mut node| {
            let request = request.clone();
            async move { node.close_consumer(request).await }
        });
        closed.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::ConsumerNotFound(self.consumer),
            _ => status.into(),
        })?;
        reply.success(json!({"success": true}));
        Ok(())
    }
}
