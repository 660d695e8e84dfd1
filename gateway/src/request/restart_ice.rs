//! `restart-ice {transportId}`: new ICE credentials for a client that has to look for a way to its transport again, because its
//! network has changed. An extension for our own client; what flows goes on until the new way is found.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::RestartIceRequest;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct RestartIce {
    transport: String,
}

impl RestartIce {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { transport: data.id("transportId")?.to_owned() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let node = session.transports().node_of(&self.transport)?;
        let request =
            RestartIceRequest { connection_id: session.connection().to_string(), transport_id: self.transport.clone() };
        let restarted = node.call(|mut node| async move { node.restart_ice(request).await });
        let restarted = restarted.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::TransportNotFound(self.transport),
            _ => status.into(),
        })?;
        let ice = restarted.ice_parameters.unwrap_or_default();
        let ice = json!({"usernameFragment": ice.username_fragment, "password": ice.password, "iceLite": true});
        reply.success(json!({"iceParameters": ice}));
        Ok(())
    }
}
