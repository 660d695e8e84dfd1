//! `get-router-capabilities {channelId}`: what this service receives and sends. The same for every channel, but only
//! told to its members, as existing clients expect.

use serde_json::json;
use voiceping_state::ChannelId;

use crate::error::Refusal;
use crate::media::json::router_rtp_capabilities;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct GetRouterCapabilities {
    channel: ChannelId,
}

impl GetRouterCapabilities {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.into() })
    }

    pub(super) fn apply(self, session: &Session, reply: &Reply) -> Result<(), Refusal> {
        if !session.has_joined(&self.channel) {
            return Err(Refusal::RouterNotFound(self.channel));
        }
        reply.success(json!({"routerRtpCapabilities": router_rtp_capabilities()}));
        Ok(())
    }
}
