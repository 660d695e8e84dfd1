//! `ptt-stop {channelId}`: give the floor back. Never an error: from who does not hold it, it changes nothing.

use serde_json::json;
use voiceping_state::{ChannelId, Floor, FloorCause, State};

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;
use crate::state::within;
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
            release(session, &self.channel).await
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
    match within(gateway.store.release_floor(channel, owner, None, FloorCause::Released)).await {
        Ok((floor, freed)) => {
            gateway.floors.released(channel, &owner.connection);
            if freed {
                // The bus brings it too, but in a cluster only after a while.
                gateway.gate.close(channel, floor.epoch);
            }
            floor
        }
        Err(error) => {
            tracing::warn!(%channel, %error, "a floor could not be given back yet");
            gateway.floors.release_later(channel, owner, FloorCause::Released);
            // To this client it is free.
            let known = gateway.hub.known(channel).map(|known| known.floor).unwrap_or_default();
            let own = known.holder.as_ref().is_some_and(|holder| holder.owner.connection == owner.connection);
            if own { Floor { holder: None, ..known } } else { known }
        }
    }
}
