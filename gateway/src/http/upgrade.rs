//! `GET /ws`: the handshake, with every refusal before the upgrade (PROTOCOL section 1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::guesses::Guesser;
use super::retry_after;
use crate::auth::{Identity, SUBPROTOCOL, TokenError, find_token};
use crate::message::push;
use crate::metrics;
use crate::session::Session;
use crate::shared::Shared;
use crate::socket::{self, Outbox};

/// Another gateway, or this one after its restart, is there in a moment.
const RETRY: Duration = Duration::from_secs(2);

/// Why a handshake is refused.
enum Refused {
    Token(TokenError),
    Origin,
    TooMany(Duration),
    Unavailable,
    NoUpgrade(WebSocketUpgradeRejection),
}

impl Refused {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Token(_) => "unauthorized",
            Self::Origin => "forbidden",
            Self::TooMany(_) => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::NoUpgrade(_) => "invalid",
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Token(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
            Self::Origin => (StatusCode::FORBIDDEN, "Origin not allowed").into_response(),
            Self::TooMany(wait) => {
                let response = (StatusCode::TOO_MANY_REQUESTS, "Too many connection attempts").into_response();
                // In whole seconds, and never too early.
                retry_after(response, wait.as_secs() + 1)
            }
            Self::Unavailable => {
                let response = (StatusCode::SERVICE_UNAVAILABLE, "Service unavailable").into_response();
                retry_after(response, RETRY.as_secs())
            }
            Self::NoUpgrade(rejection) => rejection.into_response(),
        }
    }
}

pub(super) async fn upgrade(
    State(gateway): State<Arc<Shared>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let (identity, room) = match Box::pin(admit(&gateway, address, &uri, &headers)).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            metrics::handshake(refused.as_str());
            return refused.into_response();
        }
    };
    let upgrade = match upgrade {
        Ok(upgrade) => socket::limit(upgrade).protocols([SUBPROTOCOL]),
        Err(rejection) => {
            let refused = Refused::NoUpgrade(rejection);
            metrics::handshake(refused.as_str());
            return refused.into_response();
        }
    };
    metrics::handshake("accepted");
    upgrade.on_upgrade(move |socket| {
        let (outbox, queue) = Outbox::new();
        outbox.send(channel_list(&identity));
        let session = Session::new(Arc::clone(&gateway), identity, outbox, room);
        tracing::debug!(user = %session.owner().user, connection = %session.connection(), "a socket is open");
        gateway.tasks.track_future(socket::serve(socket, session, queue))
    })
}

/// The cheap questions first.
async fn admit(
    gateway: &Shared,
    address: SocketAddr,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(Identity, OwnedSemaphorePermit), Refused> {
    if gateway.draining.is_cancelled() {
        return Err(Refused::Unavailable);
    }
    gateway.attempts.check(address.ip()).map_err(Refused::TooMany)?;
    if !gateway.config.pages.allows(headers) {
        return Err(Refused::Origin);
    }
    let token = find_token(uri, headers).ok_or(Refused::Token(TokenError::Missing))?;
    let identity = verified(gateway, address, &token).await?;
    gateway.attempts.check_user(&identity.user).map_err(Refused::TooMany)?;
    let room = Arc::clone(&gateway.room).try_acquire_owned().map_err(|_| {
        tracing::warn!("a socket was refused: this gateway has as many as it may");
        Refused::Unavailable
    })?;
    Ok((identity, room))
}

async fn verified(gateway: &Shared, address: SocketAddr, token: &str) -> Result<Identity, Refused> {
    let (guesser, guesses) = (Guesser::of(address.ip(), token), gateway.attempts.guesses());
    guesses.check(guesser).map_err(Refused::TooMany)?;
    let verified = gateway.keys.verify(token).await;
    verified.map_err(|error| {
        guesses.wrong(guesser);
        Refused::Token(error)
    })
}

/// The first push: what the token allows.
fn channel_list(identity: &Identity) -> axum::extract::ws::Utf8Bytes {
    let channels: Vec<_> = identity.channels.iter().flatten().map(|channel| channel.as_str()).collect();
    push(
        "channel-list",
        json!({"channels": channels, "role": identity.role.as_str(), "globalRole": identity.global_role}),
    )
}
