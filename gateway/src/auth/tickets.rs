//! The keys of session tickets. Derived from the secret that signs tokens, and no use for those: a token is no ticket, and
//! a ticket no token.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::unix_now;
use crate::session::ticket::Ticket;

const AUDIENCE: &str = "voiceping-session";

/// Signs and verifies tickets.
#[derive(Clone)]
pub(super) struct TicketKeys {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

impl TicketKeys {
    /// HMAC-SHA256 of a label under the secret, as text: 256 bits that tell nothing of the secret (RFC 2104, RFC 5869
    /// section 2.3 with one block).
    pub(super) fn derive(secret: &EncodingKey) -> Self {
        let derived = jsonwebtoken::crypto::sign(AUDIENCE.as_bytes(), secret, Algorithm::HS256);
        let derived = derived.expect("HMAC takes every key and every message");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "aud"]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let (decoding, encoding) =
            (DecodingKey::from_secret(derived.as_bytes()), EncodingKey::from_secret(derived.as_bytes()));
        Self { decoding, encoding, validation }
    }

    pub(super) fn sign(&self, ticket: &Ticket, ttl: Duration) -> anyhow::Result<String> {
        let mut claims = serde_json::to_value(ticket)?;
        claims["aud"] = AUDIENCE.into();
        claims["exp"] = unix_now().saturating_add(ttl).as_secs().into();
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?)
    }

    pub(super) fn verify(&self, ticket: &str) -> Option<Ticket> {
        let token = jsonwebtoken::decode::<Map<String, Value>>(ticket, &self.decoding, &self.validation);
        let token = token.inspect_err(|error| tracing::debug!(%error, "a ticket was refused")).ok()?;
        serde_json::from_value(Value::Object(token.claims)).ok()
    }
}
