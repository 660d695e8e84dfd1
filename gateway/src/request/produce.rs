//! `produce {transportId, kind, rtpParameters, channelId}`: declare the stream that the client will send on a channel.
//! It is heard while the client holds the channel's floor, from the start if it holds it already.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::{ProduceRequest, RtpParameters};

use crate::error::Refusal;
use crate::floors;
use crate::media::json::rtp_parameters;
use crate::message::{Data, Reply};
use crate::session::Session;

#[derive(Debug)]
pub(super) struct Produce {
    transport: String,
    channel: String,
    rtp_parameters: RtpParameters,
}

impl Produce {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        let transport = data.id("transportId")?.to_owned();
        match data.optional_id("kind")? {
            Some("audio") => {}
            Some(_) => return Err(Refusal::Kind),
            None => return Err(Refusal::Required("kind")),
        }
        let rtp_parameters = rtp_parameters(data.object("rtpParameters")?)?;
        let channel = data.id("channelId")?.to_owned();
        Ok(Self { transport, channel, rtp_parameters })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let channel = session.member_of(&self.channel)?;
        let node = session.transports().sending(&self.transport)?;
        let request = ProduceRequest {
            connection_id: session.connection().to_string(),
            transport_id: self.transport.clone(),
            channel_id: self.channel,
            rtp_parameters: Some(self.rtp_parameters),
        };
        let produced = node.call(|mut node| async move { node.produce(request).await });
        let produced = produced.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::TransportNotFound(self.transport),
            _ => status.into(),
        })?;
        session.transports().produced(&channel, &node);
        // A client that has moved to another node in its talk is heard from there.
        floors::follow_to(session.gateway(), &channel, session.owner(), &node).await;
        reply.success(json!({"id": produced.producer_id}));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_audio_is_produced() {
        let rtp = json!({"codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000}], "mid": "0"});
        let parse = |kind| {
            Produce::parse(&json!({"transportId": "t", "kind": kind, "rtpParameters": rtp, "channelId": "c"}).into())
        };
        assert!(parse(json!("audio")).is_ok());
        assert_eq!(parse(json!("video")).expect_err("refused"), Refusal::Kind);
        assert_eq!(parse(json!(null)).expect_err("refused"), Refusal::Required("kind"));
    }
}
