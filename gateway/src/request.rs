//! The requests of clients: one file for each type, which parses, authorizes and applies it (PROTOCOL section 3).
//!
//! Called by the socket's reading half, one at a time and in order. A request answers through its [`Reply`], or returns
//! the [`Refusal`] that is sent for it; none of them ends the socket.

mod close_consumer;
mod close_producer;
mod connect_transport;
mod consume;
mod create_transport;
mod get_router_capabilities;
mod join_channel;
mod leave_channel;
mod members;
mod pause_consumer;
mod ping;
mod produce;
mod ptt_start;
mod ptt_stop;
mod session;

use crate::error::Refusal;
use crate::message::{Data, Kind, Reply, Request, refuse};
use crate::session::Session;

/// Handles one text frame.
pub(crate) async fn handle(session: &mut Session, text: &str) {
    let request = Request::parse(text);
    if !session.allows_message() {
        let id = request.as_ref().map_or_else(|error| error.id.as_deref(), |request| request.id.as_deref());
        return refuse(session.outbox(), id, &Refusal::RateLimited);
    }
    match request {
        Ok(Request { kind, id, data }) => {
            let reply = Reply::new(kind, id, session.outbox().clone());
            if let Err(refusal) = apply(session, kind, &data, &reply).await {
                reply.refused(&refusal);
            }
        }
        Err(error) => refuse(session.outbox(), error.id.as_deref(), &error.refusal),
    }
}

async fn apply(session: &mut Session, kind: Kind, data: &Data, reply: &Reply) -> Result<(), Refusal> {
    match kind {
        Kind::JoinChannel => join_channel::JoinChannel::parse(data)?.apply(session, reply).await,
        Kind::LeaveChannel => leave_channel::LeaveChannel::parse(data)?.apply(session, reply).await,
        Kind::GetRouterCapabilities => {
            get_router_capabilities::GetRouterCapabilities::parse(data)?.apply(session, reply)
        }
        Kind::CreateTransport => create_transport::CreateTransport::parse(data)?.apply(session, reply).await,
        Kind::ConnectTransport => connect_transport::ConnectTransport::parse(data)?.apply(session, reply).await,
        Kind::Produce => produce::Produce::parse(data)?.apply(session, reply).await,
        Kind::Consume => consume::Consume::parse(data)?.apply(session, reply).await,
        Kind::PttStart => ptt_start::PttStart::parse(data)?.apply(session, reply).await,
        Kind::PttStop => ptt_stop::PttStop::parse(data)?.apply(session, reply).await,
        Kind::Ping => ping::Ping.apply(reply),
        Kind::Members => members::Members::parse(data)?.apply(session, reply).await,
        Kind::CloseProducer => close_producer::CloseProducer::parse(data)?.apply(session, reply).await,
        Kind::CloseConsumer => close_consumer::CloseConsumer::parse(data)?.apply(session, reply).await,
        Kind::PauseConsumer => pause_consumer::PauseConsumer::parse(data)?.apply(session, reply).await,
        Kind::Session => session::BeginSession::parse(data)?.apply(session, reply).await,
    }
}
