//! `create-transport {channelId, direction}`: open a transport at the connection's media node.

use voiceping_proto::media::v1::{CreateTransportRequest, Direction};

use crate::error::Refusal;
use crate::media::json;
use crate::message::{Data, Reply};
use crate::session::Session;

#[derive(Debug)]
pub(super) struct CreateTransport {
    channel: String,
    direction: Direction,
}

impl CreateTransport {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        let channel = data.id("channelId")?.to_owned();
        let direction = match data.optional_id("direction").map_err(|_| Refusal::Direction)? {
            Some("send") => Direction::Send,
            Some("recv") => Direction::Recv,
            _ => return Err(Refusal::Direction),
        };
        Ok(Self { channel, direction })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let channel = session.member_of(&self.channel)?;
        let joined = session.joined_count();
        session.transports().check_limit(joined)?;
        if !session.stays() {
            session.gateway().nodes.room().await;
        }
        let node = session.place(&channel)?;
        let request = CreateTransportRequest {
            gateway_id: session.gateway().id.clone(),
            connection_id: session.connection().to_string(),
            direction: self.direction.into(),
        };
        let transport = node.call(|mut node| async move { node.create_transport(request).await }).await?;
        session.transports().add(&transport.transport_id, self.direction, &node, Some(&channel));
        let ice_servers = session.gateway().turn.as_ref().map(|turn| turn.ice_servers(&session.owner().user));
        reply.success(json::transport(transport, ice_servers));
        session.begin_late_entry(&channel, self.direction);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_direction_is_one_of_two() {
        let parse = |data| CreateTransport::parse(&data);
        let send = parse(json!({"channelId": "c1", "direction": "send"}).into()).expect("valid");
        assert_eq!(send.direction, Direction::Send);
        for data in [
            json!({"channelId": "c1"}),
            json!({"channelId": "c1", "direction": "both"}),
            json!({"channelId": "c1", "direction": 1}),
        ] {
            assert_eq!(parse(data.into()).expect_err("refused"), Refusal::Direction);
        }
        let error = parse(json!({"direction": "send"}).into()).expect_err("refused");
        assert_eq!(error, Refusal::Required("channelId"));
    }
}
