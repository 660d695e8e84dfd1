//! `leave-channel {channelId}`: stop being a member. Leaving what was not joined is success.

use serde_json::json;
use voiceping_state::{ChannelId, Leaving};

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::{Session, cleanup};

pub(super) struct LeaveChannel {
    channel: ChannelId,
}

impl LeaveChannel {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.into() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        if session.has_joined(&self.channel) {
            self.leave(session).await?;
        }
        reply.success(json!({"channelId": self.channel.as_str(), "success": true}));
        Ok(())
    }

    async fn leave(&self, session: &mut Session) -> Result<(), Refusal> {
        let (gateway, owner, nodes) = (session.gateway().clone(), session.owner().clone(), session.media_nodes());
        let (left, ()) = tokio::join!(
            cleanup::leave(&gateway, &self.channel, &owner, Leaving::Left),
            cleanup::close_media(&gateway, &nodes, &owner, Some(&self.channel)),
        );
        // A member whom the state would not let go may try again.
        left?;
        session.leave(&self.channel);
        Ok(())
    }
}
