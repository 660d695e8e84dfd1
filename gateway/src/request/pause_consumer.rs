//! `pause-consumer {consumerId, paused}`: mute a channel where it costs no traffic. An extension for our own client.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::PauseConsumerRequest;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct PauseConsumer {
    consumer: String,
    paused: bool,
}

impl PauseConsumer {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { consumer: data.id("consumerId")?.to_owned(), paused: data.flag("paused")? })
    }

    /// The node checks that it is this connection's.
    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let request = PauseConsumerRequest {
            connection_id: session.connection().to_string(),
            consumer_id: self.consumer.clone(),
            paused: self.paused,
        };
        let paused = session.ask_media_nodes(|mut node| {
            let request = request.clone();
            async move { node.pause_consumer(request).await }
        });
        paused.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::ConsumerNotFound(self.consumer),
            _ => status.into(),
        })?;
        reply.success(json!({"success": true, "paused": self.paused}));
        Ok(())
    }
}
