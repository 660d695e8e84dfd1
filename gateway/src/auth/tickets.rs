//! The keys of session tickets. Derived from a secret of the deployment, and no use for tokens: a token is no ticket, and a
//! ticket no token.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Map, Value};

use super::unix_now;
use crate::session::ticket::Ticket;

const AUDIENCE: &str = "voiceping-session";

/// Signs and verifies tickets. While a secret is being replaced there are several; the first signs.
#[derive(Clone)]
pub(super) struct TicketKeys(Vec<(EncodingKey, DecodingKey)>);

impl TicketKeys {
    /// HMAC-SHA256 of a label under each secret, as text: 256 bits that tell nothing of the secret (RFC 2104, RFC 5869
    /// section 2.3 with one block).
    pub(super) fn derive(secrets: &[SecretSlice<u8>]) -> Self {
        let derived = secrets.iter().map(|secret| {
            let secret = EncodingKey::from_secret(secret.expose_secret());
            let derived = jsonwebtoken::crypto::sign(AUDIENCE.as_bytes(), &secret, Algorithm::HS256);
            let derived = derived.expect("HMAC takes every key and every message");
            (EncodingKey::from_secret(derived.as_bytes()), DecodingKey::from_secret(derived.as_bytes()))
        });
        Self(derived.collect())
    }

    pub(super) fn sign(&self, ticket: &Ticket, ttl: Duration) -> anyhow::Result<String> {
        let (encoding, _) = self.0.first().ok_or_else(|| anyhow::anyhow!("there is no secret to sign tickets with"))?;
        let mut claims = serde_json::to_value(ticket)?;
        claims["aud"] = AUDIENCE.into();
        claims["exp"] = unix_now().saturating_add(ttl).as_secs().into();
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, encoding)?)
    }

    pub(super) fn verify(&self, ticket: &str) -> Option<Ticket> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "aud"]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let verified = |(_, key): &(_, DecodingKey)| {
            let token = jsonwebtoken::decode::<Map<String, Value>>(ticket, key, &validation);
            token.inspect_err(|error| tracing::debug!(%error, "a ticket was refused")).ok()
        };
        serde_json::from_value(Value::Object(self.0.iter().find_map(verified)?.claims)).ok()
    }
}
