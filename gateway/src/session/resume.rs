//! How a client of ours comes back over another socket, to this gateway or to any other, and goes on where it was.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;
use voiceping_proto::media::v1::{AdoptConnectionRequest, AdoptConnectionResponse, CloseConnectionRequest, Direction};
use voiceping_state::{Leaving, State, StateError};

use super::ticket::{TTL, Ticket};
use super::{Session, cleanup};
use crate::message::push;
use crate::moving;
use crate::nodes::NodeHandle;
use crate::state::within;

/// Why a client begins anew instead.
#[derive(Debug, thiserror::Error)]
enum NotResumed {
    #[error("this connection has begun something of its own")]
    Begun,
    #[error("the ticket is not valid")]
    Invalid,
    #[error("the ticket is another user's")]
    Foreign,
    #[error("the ticket was used before")]
    Used,
    #[error("the connection is not here any more")]
    Ended,
    #[error("the connection's media is not there any more")]
    MediaLost,
}

impl Session {
    /// Is it a client that can come back, and move to another node?
    pub(crate) fn is_resumable(&self) -> bool {
        self.next_ticket.is_some()
    }

    /// It is from now on.
    pub(crate) fn set_resumable(&mut self) {
        self.gateway.connections.set_resumable(&self.owner.connection);
        self.next_ticket = Some(self.ticket_due());
        // A token that is over soon was not worth a word before.
        self.look_at_token_again();
    }

    /// When the next ticket is to be sent, if any.
    pub(crate) fn next_ticket(&self) -> Option<Instant> {
        self.next_ticket
    }

    /// Sends a new ticket, before the last one is over.
    pub(crate) fn send_ticket(&mut self) {
        self.next_ticket = Some(self.ticket_due());
        if let Some(ticket) = self.ticket() {
            self.outbox.send(push("session", json!({"ticket": ticket, "expiresIn": TTL.as_millis() as u64})));
        }
    }

    fn ticket_due(&self) -> Instant {
        Instant::now() + self.gateway.config.ping_interval.min(TTL / 2)
    }

    fn ticket(&self) -> Option<String> {
        let ticket = Ticket {
            sid: self.owner.connection.to_string(),
            sub: self.owner.user.to_string(),
            gateway: self.gateway.id.clone(),
            node: self.node().map(|node| node.id().to_string()),
            jti: format!("{:032x}", rand::random::<u128>()),
        };
        let signed = self.gateway.keys.sign_ticket(&ticket, TTL);
        signed.inspect_err(|error| tracing::error!(%error, "a ticket could not be signed")).ok()
    }

    /// What a client is told of its session.
    pub(crate) fn described(&mut self, resumed: bool) -> Value {
        let direction = |direction| if direction == Direction::Send { "send" } else { "recv" };
        let transports = self.transports().iter().map(|(id, way)| json!({"id": id, "direction": direction(way)}));
        let transports: Vec<_> = transports.collect();
        json!({
            "sessionId": self.owner.connection.as_str(),
            "ticket": self.ticket(),
            "expiresIn": TTL.as_millis() as u64,
            "resumed": resumed,
            "transports": transports,
        })
    }

    /// Goes on with the connection that the ticket names. `false`: that cannot be; this one stays as it is, and everything
    /// begins anew. An error only if the state is away: the ticket is good for another try.
    pub(crate) async fn resume(&mut self, ticket: &str) -> Result<bool, StateError> {
        let resumed = match self.check(ticket) {
            Ok(ticket) if !within(self.gateway.store.claim(&ticket.claim_key(), TTL)).await? => Err(NotResumed::Used),
            Ok(ticket) if ticket.gateway == self.gateway.id => self.resume_here(&ticket).await,
            Ok(ticket) => self.resume_from_elsewhere(&ticket).await,
            Err(error) => Err(error),
        };
        match resumed {
            Ok(()) => {
                tracing::debug!(connection = %self.owner.connection, "a client has resumed its session");
                Ok(true)
            }
            Err(why) => {
                tracing::info!(user = %self.owner.user, %why, "a session was not resumed");
                Ok(false)
            }
        }
    }

    fn check(&self, ticket: &str) -> Result<Ticket, NotResumed> {
        if !self.joined.is_empty() || !self.in_doubt.is_empty() || self.node.is_some() {
            return Err(NotResumed::Begun);
        }
        let ticket = self.gateway.keys.verify_ticket(ticket).ok_or(NotResumed::Invalid)?;
        if ticket.sub == self.owner.user.as_str() { Ok(ticket) } else { Err(NotResumed::Foreign) }
    }

    /// The session is parked here, or its former socket has not noticed its end.
    async fn resume_here(&mut self, ticket: &Ticket) -> Result<(), NotResumed> {
        let mut former = self.gateway.connections.take_parked(&ticket.sid.as_str().into()).await;
        let former = former.as_mut().ok_or(NotResumed::Ended)?;
        // This session becomes the former one. What this socket has brought stays: its outbox, its token, its place. The
        // fresh connection that it began with has nothing, and is cleaned up as that.
        std::mem::swap(self, former);
        std::mem::swap(&mut self.outbox, &mut former.outbox);
        std::mem::swap(&mut self.identity, &mut former.identity);
        std::mem::swap(&mut self.messages, &mut former.messages);
        std::mem::swap(&mut self.room, &mut former.room);
        self.gateway.connections.set_outbox(&self.owner.connection, &self.outbox);
        self.leave_what_is_not_allowed();
        self.tell_of_a_draining_node();
        Ok(())
    }

    /// Another gateway served the connection, and may not know yet that it is over there.
    async fn resume_from_elsewhere(&mut self, ticket: &Ticket) -> Result<(), NotResumed> {
        // It may have been here before that. What is left of it is older than what the client goes on with.
        let connection = ticket.sid.as_str().into();
        if let Some(former) = self.gateway.connections.take_parked(&connection).await {
            former.forget();
        } else if self.gateway.connections.contains(&connection) {
            return Err(NotResumed::Ended);
        }
        let node = ticket.node.as_deref().ok_or(NotResumed::MediaLost)?;
        let node = self.gateway.nodes.find(&node.into()).await.ok_or(NotResumed::MediaLost)?;
        let request = AdoptConnectionRequest { gateway_id: self.gateway.id.clone(), connection_id: ticket.sid.clone() };
        let adopted = node.call(|mut node| async move { node.adopt_connection(request).await }).await;
        let adopted = adopted.map_err(|status| {
            tracing::debug!(%status, "a connection could not be adopted");
            NotResumed::MediaLost
        })?;
        self.become_connection(&ticket.sid, &node, adopted);
        self.tell_of_a_draining_node();
        Ok(())
    }

    fn become_connection(&mut self, connection: &str, node: &Arc<NodeHandle>, adopted: AdoptConnectionResponse) {
        let gateway = &self.gateway;
        gateway.connections.remove(&self.owner.connection);
        self.owner.connection = connection.into();
        gateway.connections.add(&self.owner.connection, &self.outbox);
        gateway.connections.set_node(&self.owner.connection, Some(node));
        self.node = Some(Arc::clone(node));
        for transport in &adopted.transports {
            self.transports.add(&transport.transport_id, transport.direction(), node, None);
        }
        for stream in &adopted.producers {
            self.transports.produced(&stream.channel_id.as_str().into(), node);
        }
        // What the new token does not allow ends here; the rest is checked when the client joins again.
        let streams = adopted.producers.into_iter().chain(adopted.consumers).map(|stream| stream.channel_id);
        for channel_id in streams.filter(|channel| !self.identity.may_join(&channel.as_str().into(), gateway.open)) {
            let (node, gateway_id) = (Arc::clone(node), gateway.id.clone());
            let request = CloseConnectionRequest { connection_id: connection.to_owned(), channel_id, gateway_id };
            gateway.tasks.spawn(async move {
                if let Err(status) = node.call(|mut node| async move { node.close_connection(request).await }).await {
                    tracing::warn!(%status, "media that is not allowed any more was not closed");
                }
            });
        }
    }

    /// The token of the new socket may allow less than that of the former one.
    pub(super) fn leave_what_is_not_allowed(&mut self) {
        let allowed = |channel: &_| self.identity.may_join(channel, self.gateway.open);
        let lost: Vec<_> = self.joined.keys().filter(|channel| !allowed(channel)).cloned().collect();
        for channel in lost {
            let (gateway, owner, nodes) = (Arc::clone(&self.gateway), self.owner.clone(), self.media_nodes());
            self.leave(&channel);
            self.gateway.tasks.spawn(async move {
                let media = cleanup::close_media(&gateway, &nodes, &owner, Some(&channel));
                let membership = cleanup::leave(&gateway, &channel, &owner, Leaving::Left);
                if let ((), Err(error)) = tokio::join!(media, membership) {
                    tracing::warn!(%channel, %error, "a connection is still a member where it may not be");
                }
            });
        }
    }

    /// It was told while nobody listened.
    fn tell_of_a_draining_node(&self) {
        if self.node.as_ref().is_some_and(|node| node.is_draining()) {
            self.outbox.send(moving::moved("draining"));
        }
    }
}
