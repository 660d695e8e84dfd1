//! `members {channelId}`: who is on the channel. An extension for our own client.
//!
//! Of a crowd it answers the number alone. So an answer has [`CROWD`] names at most, and costs the state as many, however
//! often a client asks.

use serde_json::json;
use voiceping_state::State;

use crate::error::Refusal;
use crate::hub::CROWD;
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
        let (mut users, mut members) = (session.gateway().hub.users(&channel), Vec::new());
        if users <= CROWD {
            members = within(session.gateway().store.members(&channel)).await?;
            // The state may know more than the bus has brought.
            users = members.len();
        }
        let complete = users <= CROWD;
        let told = members.iter().filter(|_| complete);
        let names: Vec<_> = told.map(|(id, name)| json!({"userId": id.as_str(), "userName": name})).collect();
        reply.success(
            json!({"channelId": channel.as_str(), "members": names, "userCount": users, "complete": complete}),
        );
        Ok(())
    }
}
