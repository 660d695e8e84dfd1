//! `session {ticket?}`: this client can resume, and be moved to another media node. An extension for our own client, and
//! the first that it asks.
//!
//! Without a ticket, or with one that is not good any more, everything begins anew. With a good one this socket goes on
//! with the connection that the ticket names: its transports, producers and consumers, and what it holds. The client then
//! joins its channels again, which changes nothing for the others.

use crate::error::Refusal;
use crate::message::{Data, Reply};
use crate::session::Session;

pub(super) struct BeginSession {
    ticket: Option<String>,
}

impl BeginSession {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { ticket: data.optional_text("ticket")?.filter(|ticket| !ticket.is_empty()).map(str::to_owned) })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let resumed = match &self.ticket {
            Some(ticket) => session.resume(ticket).await?,
            None => false,
        };
        session.set_resumable();
        reply.success(session.described(resumed));
        Ok(())
    }
}
