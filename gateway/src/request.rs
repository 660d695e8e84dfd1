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
mod refresh_token;
mod restart_ice;
mod session;

use tokio::time::Instant;
use tracing::{Instrument, Span};
use voiceping_signals::{span, trace};

use crate::error::Refusal;
use crate::message::{Data, Kind, Reply, Request, refuse};
use crate::metrics;
use crate::session::Session;

/// Handles one text frame.
pub(crate) async fn handle(session: &mut Session, text: &str) {
    let began = Instant::now();
    let request = Request::parse(text);
    if !session.allows_message() {
        let id = request.as_ref().map_or_else(|error| error.id.as_deref(), |request| request.id.as_deref());
        metrics::message(
            request.as_ref().map_or("unknown", |request| request.kind.as_str()),
            "rate-limited",
            began.elapsed(),
        );
        return refuse(session.outbox(), id, &Refusal::RateLimited);
    }
    match request {
        Ok(Request { kind, id, data }) => {
            let reply = Reply::new(kind, id, session.outbox().clone());
            let span = trace_of(kind);
            let outcome = match apply(session, kind, &data, &reply).instrument(span.clone()).await {
                Ok(()) if reply.was_denied() => "denied",
                Ok(()) => "ok",
                Err(refusal) => {
                    reply.refused(&refusal);
                    trace::failed(&span);
                    refusal.code()
                }
            };
            metrics::message(kind.as_str(), outcome, began.elapsed());
        }
        Err(error) => {
            metrics::message("unknown", error.refusal.code(), began.elapsed());
            refuse(session.outbox(), error.id.as_deref(), &error.refusal);
        }
    }
}

/// A press is a trace, and so is its end.
fn trace_of(kind: Kind) -> Span {
    match kind {
        Kind::PttStart | Kind::PttStop => trace::begin(span!(kind.as_str(), kind = "server")),
        _ => Span::none(),
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
        Kind::RestartIce => restart_ice::RestartIce::parse(data)?.apply(session, reply).await,
        Kind::Session => session::BeginSession::parse(data)?.apply(session, reply).await,
        Kind::RefreshToken => refresh_token::RefreshToken::parse(data)?.apply(session, reply).await,
    }
}

/// Whether the fields of a request can be read: for the fuzz targets.
#[cfg(any(test, fuzzing))]
pub(crate) fn parses(kind: Kind, data: &Data) -> Result<(), Refusal> {
    match kind {
        Kind::JoinChannel => join_channel::JoinChannel::parse(data).map(drop),
        Kind::LeaveChannel => leave_channel::LeaveChannel::parse(data).map(drop),
        Kind::GetRouterCapabilities => get_router_capabilities::GetRouterCapabilities::parse(data).map(drop),
        Kind::CreateTransport => create_transport::CreateTransport::parse(data).map(drop),
        Kind::ConnectTransport => connect_transport::ConnectTransport::parse(data).map(drop),
        Kind::Produce => produce::Produce::parse(data).map(drop),
        Kind::Consume => consume::Consume::parse(data).map(drop),
        Kind::PttStart => ptt_start::PttStart::parse(data).map(drop),
        Kind::PttStop => ptt_stop::PttStop::parse(data).map(drop),
        Kind::Ping => Ok(()),
        Kind::Members => members::Members::parse(data).map(drop),
        Kind::CloseProducer => close_producer::CloseProducer::parse(data).map(drop),
        Kind::CloseConsumer => close_consumer::CloseConsumer::parse(data).map(drop),
        Kind::PauseConsumer => pause_consumer::PauseConsumer::parse(data).map(drop),
        Kind::RestartIce => restart_ice::RestartIce::parse(data).map(drop),
        Kind::Session => session::BeginSession::parse(data).map(drop),
        Kind::RefreshToken => refresh_token::RefreshToken::parse(data).map(drop),
    }
}
