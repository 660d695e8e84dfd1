//! `consume {channelId, producerId, rtpCapabilities}`: hear a channel's floor output, or one member's own stream. It
//! flows at once, and replaces what the connection consumed on the channel before.
//!
//! Extensions: the floor output, whose id is known, may be consumed right after the join, while nobody speaks; and one
//! transport may receive several channels. `transportId` names it; without it, it is the one that was opened for the
//! channel, or the only one of the connection.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::{ConsumeRequest, RtpCapabilities};
use voiceping_state::ChannelId;

use crate::error::Refusal;
use crate::media::json::{consumer_rtp_parameters, rtp_capabilities};
use crate::message::{Data, Reply};
use crate::session::Session;
use crate::view::floor_output;

#[derive(Debug)]
pub(super) struct Consume {
    channel: String,
    producer: String,
    transport: Option<String>,
    rtp_capabilities: RtpCapabilities,
}

impl Consume {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self {
            channel: data.id("channelId")?.to_owned(),
            producer: data.id("producerId")?.to_owned(),
            transport: data.optional_id("transportId")?.map(str::to_owned),
            rtp_capabilities: rtp_capabilities(data.object("rtpCapabilities")?)?,
        })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let channel = session.member_of(&self.channel)?;
        let producer_id = node_producer(&channel, &self.producer)?;
        let is_floor_output = producer_id.is_empty();
        let (transport_id, node) = session.transports().receiving(self.transport.as_deref(), &channel)?;
        let request = ConsumeRequest {
            connection_id: session.connection().to_string(),
            transport_id,
            channel_id: self.channel,
            // Whether it is one of this channel is the node's to say: it may be another gateway's client's.
            producer_id,
            rtp_capabilities: Some(self.rtp_capabilities),
            kept: session.is_resumable(),
        };
        let consumed = node.call(|mut node| async move { node.consume(request).await });
        let consumed = match consumed.await {
            Ok(consumed) => consumed,
            // A floor output is always there: what is gone is the transport.
            Err(status) if status.code() == Code::NotFound && is_floor_output => {
                return Err(Refusal::NoReceiveTransport);
            }
            Err(status) if status.code() == Code::NotFound => return Err(Refusal::ProducerNotFound(self.producer)),
            Err(status) => return Err(status.into()),
        };
        session.end_late_entry(&channel);
        reply.success(json!({
            "id": consumed.consumer_id,
            "producerId": self.producer,
            "kind": "audio",
            "rtpParameters": consumer_rtp_parameters(consumed.rtp_parameters.unwrap_or_default()),
        }));
        Ok(())
    }
}

/// The producer as the node knows it: empty for the floor output of the channel. Another channel's is not found here.
fn node_producer(channel: &ChannelId, producer: &str) -> Result<String, Refusal> {
    if producer == floor_output(channel) {
        Ok(String::new())
    } else if producer.starts_with("floor:") {
        Err(Refusal::ProducerNotFound(producer.to_owned()))
    } else {
        Ok(producer.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_channels_own_floor_output_is_found() {
        let channel = ChannelId::from("c1");
        assert_eq!(node_producer(&channel, "floor:c1"), Ok(String::new()));
        assert_eq!(node_producer(&channel, "p7"), Ok("p7".into()));
        let other = Err(Refusal::ProducerNotFound("floor:c2".into()));
        assert_eq!(node_producer(&channel, "floor:c2"), other);
    }
}
