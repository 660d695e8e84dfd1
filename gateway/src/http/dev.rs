//! The development sign-in: a name and channels for a token, without proof of anything. Only where it was asked for, or
//! where the all-in-one runs on a secret of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::retry_after;
use crate::auth::Claims;
use crate::shared::Shared;

const TTL: Duration = Duration::from_secs(12 * 3600);
const MAX_NAME: usize = 64;
const MAX_CHANNELS: usize = 256;

/// What a person signs in with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignIn {
    user_name: String,
    /// None: whatever the gateway allows to a token that lists none.
    #[serde(default)]
    channels: Vec<String>,
    /// The id of an earlier sign-in, to stay the same user.
    #[serde(default)]
    user_id: Option<String>,
}

/// Tells the page whether to offer it.
pub(super) async fn is_enabled(State(gateway): State<Arc<Shared>>) -> StatusCode {
    if gateway.dev_sign_in { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

pub(super) async fn sign_in(
    State(gateway): State<Arc<Shared>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    body: Result<Json<SignIn>, axum::extract::rejection::JsonRejection>,
) -> Response {
    if !gateway.dev_sign_in {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Err(wait) = gateway.attempts.check(address.ip()) {
        return retry_after(StatusCode::TOO_MANY_REQUESTS.into_response(), wait.as_secs() + 1);
    }
    let sign_in = match body {
        Ok(Json(sign_in)) => sign_in,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(claims) = claims(sign_in) else {
        return (StatusCode::BAD_REQUEST, "A name of 1 to 64 characters, and at most 256 channels").into_response();
    };
    match gateway.keys.sign(&claims, TTL) {
        Ok(token) => Json(json!({"token": token, "userId": claims.user_id})).into_response(),
        Err(error) => {
            tracing::error!(%error, "a token could not be signed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn claims(sign_in: SignIn) -> Option<Claims> {
    let fits = |text: &str| (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let user_name = sign_in.user_name.trim();
    let channels: Vec<_> = sign_in.channels.iter().map(|channel| channel.trim().to_owned()).collect();
    let user_id = sign_in.user_id.unwrap_or_else(|| format!("dev-{:016x}", rand::random::<u64>()));
    let all_fit = fits(user_name) && fits(&user_id) && channels.iter().all(|channel| fits(channel));
    (all_fit && channels.len() <= MAX_CHANNELS).then(|| Claims {
        user_id,
        user_name: user_name.to_owned(),
        channel_ids: Some(channels).filter(|channels| !channels.is_empty()),
        ..Claims::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_in(user_name: &str, channels: &[&str], user_id: Option<&str>) -> Option<Claims> {
        claims(SignIn {
            user_name: user_name.into(),
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
            user_id: user_id.map(str::to_owned),
        })
    }

    #[test]
    fn a_name_becomes_a_user() {
        let alice = signed_in(" Alice ", &["lobby"], None).expect("signed in");
        assert_eq!((alice.user_name.as_str(), alice.channel_ids), ("Alice", Some(vec!["lobby".into()])));
        assert_eq!((alice.global_role, alice.role), (None, None));
        let again = signed_in("Alice", &[], None).expect("signed in");
        assert_ne!(again.user_id, alice.user_id);
        assert_eq!(again.channel_ids, None);
        assert_eq!(signed_in("Alice", &[], Some("a1")).expect("signed in").user_id, "a1");
    }

    #[test]
    fn what_cannot_be_shown_is_no_name() {
        for name in ["", " ", "a\nb", &"x".repeat(65)] {
            assert_eq!(signed_in(name, &[], None), None, "{name:?}");
        }
        assert_eq!(signed_in("Alice", &[""], None), None);
        assert_eq!(signed_in("Alice", &["lobby"; 257], None), None);
        assert_eq!(signed_in("Alice", &[], Some("")), None);
    }
}
