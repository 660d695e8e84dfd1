//! The claims of a token, as they are signed here and as they are read from anybody's.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use voiceping_state::ChannelId;

use super::{Identity, TokenError};

/// The longest user id or name, in bytes: they go into every message about a talk.
const MAX_NAME: usize = 256;

/// What a signed token says. `iat` and `exp` are added when it is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The user.
    pub user_id: String,
    /// The name shown to others.
    pub user_name: String,
    /// The channels that the user may join; `None`: it depends on the gateway's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_ids: Option<Vec<String>>,
    /// `ADMIN`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_role: Option<String>,
    /// `DISPATCH` or `USER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Joins any channel, removes users.
    Admin,
    /// Interrupts speakers of its own event.
    Dispatch,
    /// Talks and listens.
    General,
}

impl Role {
    /// The role on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Dispatch => "DISPATCH",
            Self::General => "GENERAL",
        }
    }

    /// `globalRole == "ADMIN"` is ADMIN; else `(eventRole || role || "USER") == "DISPATCH"` is DISPATCH; else GENERAL.
    fn from_claims(claims: &Map<String, Value>) -> Self {
        let text = |name| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("globalRole") == Some("ADMIN") {
            Self::Admin
        } else if text("eventRole").or_else(|| text("role")) == Some("DISPATCH") {
            Self::Dispatch
        } else {
            Self::General
        }
    }
}

impl Claims {
    /// The claims that make a user this role.
    pub fn with_role(mut self, role: Role) -> Self {
        (self.global_role, self.role) = match role {
            Role::Admin => (Some("ADMIN".into()), None),
            Role::Dispatch => (None, Some("DISPATCH".into())),
            Role::General => (None, None),
        };
        self
    }
}

impl Identity {
    /// Reads the claims of a token whose signature and times are right.
    pub(super) fn from_claims(claims: Map<String, Value>) -> Result<Self, TokenError> {
        let name = |field| match claims.get(field) {
            Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_NAME => Ok(text.as_str()),
            _ => Err(TokenError::Payload),
        };
        let channels = match claims.get("channelIds") {
            None | Some(Value::Null) => None,
            Some(Value::Array(ids)) => {
                let ids: Option<Vec<_>> = ids.iter().map(|id| id.as_str().map(ChannelId::from)).collect();
                Some(ids.ok_or(TokenError::Payload)?)
            }
            Some(_) => return Err(TokenError::Payload),
        };
        // A number with a fraction is allowed (RFC 7519 section 2); a float that is no time is no time to come.
        let expires_at =
            claims.get("exp").and_then(Value::as_f64).and_then(|exp| Duration::try_from_secs_f64(exp).ok());
        Ok(Self {
            user: name("userId")?.into(),
            user_name: name("userName")?.to_owned(),
            channels,
            role: Role::from_claims(&claims),
            global_role: claims.get("globalRole").and_then(Value::as_str).unwrap_or("NONE").to_owned(),
            expires_at: expires_at.ok_or(TokenError::Invalid)?,
        })
    }
}
