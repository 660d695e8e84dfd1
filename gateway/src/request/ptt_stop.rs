//! `ptt-stop {channelId}`: give the floor back. Never an error: from who does not hold it, it changes nothing.

use serde_json::json;
use voiceping_state::{ChannelId, Floor, FloorCause};

use crate::error::Refusal;
use crate::floors::{self, Ended};
use crate::message::{Data, Reply};
use crate::session::Session;
use crate::view;

pub(super) struct PttStop {
    channel: ChannelId,
}

impl PttStop {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.into() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let floor = if session.has_joined(&self.channel) {
            let floor = release(session, &self.channel).await;
            session.gateway().hub.catch_up(&self.channel, session.outbox());
            floor
        } else {
            // Nothing is told of a channel to who is not on it.
            Floor::default()
        };
        reply.success(json!({"success": true, "state": view::channel_state(&self.channel, &floor)}));
        Ok(())
    }
}

async fn release(session: &Session, channel: &ChannelId) -> Floor {
    let (gateway, owner) = (session.gateway(), session.owner());
    let why = match floors::end(gateway, channel, owner, FloorCause::Released).await {
        Ended::Freed(floor) => return floor,
        Ended::Nothing => return known(session, channel),
        Ended::GateUntil(_) => "the media node did not close its gate".to_owned(),
        Ended::StateAway(error) => error.to_string(),
    };
    tracing::warn!(%channel, why, "a floor could not be given back yet");
    let known = known(session, channel);
    // To this client it is free.
    let own = known.holder.as_ref().is_some_and(|holder| holder.owner.connection == owner.connection);
    if own { Floor { holder: None, ..known } } else { known }
}

fn known(session: &Session, channel: &ChannelId) -> Floor {
    session.gateway().hub.known(channel).map(|known| known.floor).unwrap_or_default()
}
