//! `join-channel {channelId}`: become a member. Joining twice is joining once.

use serde_json::{Value, json};
use voiceping_state::{ChannelId, Floor, State};

use crate::bus;
use crate::error::Refusal;
use crate::floors;
use crate::message::{Data, Reply};
use crate::session::Session;
use crate::state::within;
use crate::view;

pub(super) struct JoinChannel {
    channel: ChannelId,
}

impl JoinChannel {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.into() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let channel = self.channel;
        authorize(session, &channel)?;
        let gateway = session.gateway().clone();
        // Watched before it is joined, and known before anybody is told: nothing is missed in between.
        let interest = gateway.hub.interest(&channel);
        bus::follow_channel(&gateway, &channel).await?;
        let roster = match within(gateway.store.join(&channel, session.owner())).await {
            Ok(roster) => roster,
            Err(error) => {
                let refusal = Refusal::from(error);
                if refusal == Refusal::StateUnavailable && !session.has_joined(&channel) {
                    session.join_in_doubt(channel, interest);
                }
                return Err(refusal);
            }
        };
        let node = session.node().filter(|_| !session.has_joined(&channel)).cloned();
        if let (Some(node), Some(known)) = (node, gateway.hub.known(&channel)) {
            // A client that came from another gateway goes on talking.
            floors::adopt(&gateway, &channel, session.owner(), &known.floor, &node).await;
        }
        gateway.hub.enter(&channel, session.connection(), session.outbox(), roster, |floor, users| {
            reply.success(joined(&channel, floor, users));
        });
        if !session.has_joined(&channel) {
            session.join(channel, interest);
        }
        Ok(())
    }
}

fn authorize(session: &Session, channel: &ChannelId) -> Result<(), Refusal> {
    let config = &session.gateway().config;
    if !session.identity().may_join(channel, session.gateway().open) {
        return Err(Refusal::NotAuthorized);
    }
    if !session.has_joined(channel) && session.joined_count() >= config.max_channels {
        return Err(Refusal::JoinLimit(config.max_channels));
    }
    Ok(())
}

/// Both `state` and `channelState` are in use by existing clients.
fn joined(channel: &ChannelId, floor: &Floor, users: usize) -> Value {
    let state = view::channel_state(channel, floor);
    json!({"channelId": channel.as_str(), "state": state, "channelState": state, "userCount": users})
}
