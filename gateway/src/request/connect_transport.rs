//! `connect-transport {transportId, dtlsParameters}`: the client's side of the DTLS association.

use serde_json::json;
use tonic::Code;
use voiceping_proto::media::v1::{ConnectTransportRequest, DtlsFingerprint, DtlsRole};

use crate::error::Refusal;
use crate::media::json::dtls_parameters;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct ConnectTransport {
    transport: String,
    role: DtlsRole,
    fingerprints: Vec<DtlsFingerprint>,
}

impl ConnectTransport {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        let transport = data.id("transportId")?.to_owned();
        let (role, fingerprints) = dtls_parameters(data.object("dtlsParameters")?)?;
        Ok(Self { transport, role, fingerprints })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let node = session.transports().node_of(&self.transport)?;
        let request = ConnectTransportRequest {
            connection_id: session.connection().to_string(),
            transport_id: self.transport.clone(),
            dtls_role: self.role.into(),
            dtls_fingerprints: self.fingerprints,
        };
        let connected = node.call(|mut node| async move { node.connect_transport(request).await });
        connected.await.map_err(|status| match status.code() {
            Code::NotFound => Refusal::TransportNotFound(self.transport),
            _ => status.into(),
        })?;
        reply.success(json!({"success": true}));
        Ok(())
    }
}
