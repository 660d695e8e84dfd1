//! `refresh-token {token}`: this socket goes on with a newer token of the same user. An extension for our own client, which
//! is told a minute before the last one is over.
//!
//! What the new token allows counts at once: channels that it does not are left.

use serde_json::json;

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct RefreshToken {
    token: String,
}

impl RefreshToken {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        let token = data.optional_text("token")?.filter(|token| !token.is_empty());
        Ok(Self { token: token.ok_or(Refusal::Required("token"))?.to_owned() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let identity = session.gateway().keys.verify(&self.token).await.map_err(|_| Refusal::Token)?;
        if identity.user != session.owner().user {
            return Err(Refusal::Token);
        }
        session.go_on_as(identity);
        let identity = session.identity();
        let channels: Vec<_> = identity.channels.iter().flatten().map(|channel| channel.as_str()).collect();
        let expires_in = u64::try_from(identity.expires_in().as_millis()).unwrap_or(u64::MAX);
        reply.success(json!({"expiresIn": expires_in, "channels": channels, "role": identity.role.as_str()}));
        Ok(())
    }
}
