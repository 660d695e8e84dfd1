//! Who is at the other end: keys, claims and roles (PROTOCOL section 1).
//!
//! [`Keys`] turns a token into an [`Identity`]; the handshake calls it once per socket, the development sign-in and the
//! `token` command sign with it. Never logs a token, a secret, or why exactly a token was refused to the outside.

mod claims;
mod place;
mod tickets;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Map, Value};
use voiceping_state::{ChannelId, UserId};

use crate::session::ticket::Ticket;

pub use claims::{Claims, Role};
pub(crate) use place::{SUBPROTOCOL, find_token};
use tickets::TicketKeys;

/// The shortest secret that is accepted: RFC 7518 section 3.2 asks for a key as long as the hash's output.
pub const MIN_SECRET_BYTES: usize = 32;

/// Clocks of machines differ a little; a token from a clock slightly ahead is not a forgery.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(5);

/// Settings of the keys.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Tokens")]
pub struct AuthConfig {
    /// Secret that signs tokens (HS256), at least 32 bytes
    #[arg(long, env = "VOICEPING_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<SecretString>,

    /// Issuer (`iss`) that tokens must name; without it any will do
    #[arg(long, env = "VOICEPING_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,

    /// Audience (`aud`) that tokens must name; without it any will do
    #[arg(long, env = "VOICEPING_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
}

/// The keys that tokens are verified and signed with.
#[derive(Clone)]
pub struct Keys {
    hs256: Hs256,
    tickets: TicketKeys,
    issuer: Option<String>,
    audience: Option<String>,
}

/// A symmetric secret, in the two shapes that the library wants. Asymmetric keys (JWKS) become a second field of
/// [`Keys`], chosen by the `kid` of a token, with their own pinned algorithms.
#[derive(Clone)]
struct Hs256 {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

/// A secret that nobody has seen, for one run.
pub fn random_secret() -> SecretSlice<u8> {
    SecretSlice::from(rand::random::<[u8; MIN_SECRET_BYTES]>().to_vec())
}

impl Keys {
    /// Keys of a symmetric secret.
    pub fn hs256(secret: &SecretSlice<u8>, issuer: Option<String>, audience: Option<String>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = NOT_BEFORE_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = audience.is_some();
        if let Some(audience) = &audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        if let Some(issuer) = &issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        let secret = secret.expose_secret();
        let decoding = DecodingKey::from_secret(secret);
        let encoding = EncodingKey::from_secret(secret);
        let tickets = TicketKeys::derive(&encoding);
        Self { hs256: Hs256 { decoding, encoding, validation }, tickets, issuer, audience }
    }

    /// Keys by configuration; `None` without a secret. A secret that is too short is refused here and not where the
    /// setting is read, because such an error would show it.
    pub fn from_config(config: &AuthConfig) -> anyhow::Result<Option<Self>> {
        let Some(secret) = &config.jwt_secret else { return Ok(None) };
        let secret = SecretSlice::from(secret.expose_secret().as_bytes().to_vec());
        let bytes = secret.expose_secret().len();
        ensure!(
            bytes >= MIN_SECRET_BYTES,
            "--jwt-secret (VOICEPING_JWT_SECRET) has {bytes} bytes; at least {MIN_SECRET_BYTES} are needed"
        );
        Ok(Some(Self::hs256(&secret, config.jwt_issuer.clone(), config.jwt_audience.clone())))
    }

    /// Who a token speaks for.
    pub(crate) fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let Hs256 { decoding, validation, .. } = &self.hs256;
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, decoding, validation).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            TokenError::Invalid
        })?;
        let identity = Identity::from_claims(token.claims)?;
        // The library's leeway is for `nbf`: a token is over when it says so, as it is on a live socket.
        if identity.expires_in().is_zero() {
            return Err(TokenError::Invalid);
        }
        Ok(identity)
    }

    /// Signs a token that is valid for `ttl` from now.
    pub fn sign(&self, claims: &Claims, ttl: Duration) -> anyhow::Result<String> {
        let mut claims = serde_json::to_value(claims)?;
        let now = unix_now();
        claims["iat"] = now.as_secs().into();
        claims["exp"] = now.saturating_add(ttl).as_secs().into();
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims[name] = value.as_str().into();
            }
        }
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.hs256.encoding)?)
    }

    /// Signs the ticket of a session.
    pub(crate) fn sign_ticket(&self, ticket: &Ticket, ttl: Duration) -> anyhow::Result<String> {
        self.tickets.sign(ticket, ttl)
    }

    /// What a ticket says, if it is one of this deployment's and not over.
    pub(crate) fn verify_ticket(&self, ticket: &str) -> Option<Ticket> {
        self.tickets.verify(ticket)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("issuer", &self.issuer).field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// Why a token opens no socket. The text is the body of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Unauthorized: Missing token")]
    Missing,
    #[error("Unauthorized: Invalid token payload")]
    Payload,
    #[error("Unauthorized: Invalid or expired token")]
    Invalid,
}

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) user_name: String,
    /// `None`: the deployment has no control plane that would list them.
    pub(crate) channels: Option<Vec<ChannelId>>,
    pub(crate) role: Role,
    pub(crate) global_role: String,
    /// Seconds since the Unix epoch.
    expires_at: Duration,
}

impl Identity {
    /// How long the token is still good for; zero when it is over.
    pub(crate) fn expires_in(&self) -> Duration {
        self.expires_at.saturating_sub(unix_now())
    }

    /// May this user join the channel? `open`: also with a token that lists none.
    pub(crate) fn may_join(&self, channel: &ChannelId, open: bool) -> bool {
        self.role == Role::Admin
            || match &self.channels {
                Some(channels) => channels.contains(channel),
                None => open,
            }
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
