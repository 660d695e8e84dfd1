//! `members {channelId}`: who is on the channel. An extension for our own client.

use serde_json::json;
use voiceping_state::State;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;
use crate::state::within;

pub(super) struct Members {
    channel: String,
}

impl Members {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.to_owned() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let channel = session.member_of(&self.channel)?;
        let members = within(session.gateway().store.members(&channel)).await?;
        let members: Vec<_> =
            members.iter().map(|(id, name)| json!({"userId": id.as_str(), "userName": name})).collect();
        reply.success(json!({"channelId": channel.as_str(), "members": members}));
        Ok(())
    }
}
