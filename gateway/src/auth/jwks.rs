//! The public keys of an identity provider: a JSON Web Key Set (RFC 7517), read with suspicion.
//!
//! Each key is good for one algorithm only, which follows from its type, whatever a token says; a key that names another
//! algorithm is left out. Symmetric keys are no public keys and are left out too.

use anyhow::{Context, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Providers have two or three. Without a `kid`, a token is tried with each.
const MAX_KEYS: usize = 32;

/// A key, and the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct PublicKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a set that tokens can be verified with. What is not understood is left out; a set without any good key is
/// an error, so that a broken answer does not replace a good one.
pub(super) fn parse(text: &[u8]) -> anyhow::Result<Vec<PublicKey>> {
    let set: Set = serde_json::from_slice(text).context("it is no JSON Web Key Set")?;
    ensure!(set.keys.len() <= MAX_KEYS, "it has {} keys; at most {MAX_KEYS} are read", set.keys.len());
    let keys: Vec<_> = set.keys.into_iter().filter_map(public_key).collect();
    ensure!(!keys.is_empty(), "it has no RS256, ES256 or EdDSA key for signatures");
    Ok(keys)
}

fn public_key(key: Value) -> Option<PublicKey> {
    let id = key.get("kid").and_then(Value::as_str).map(str::to_owned);
    let left_out = |why: &str| tracing::debug!(?id, why, "a key of the set is left out");
    // One that the library does not know, of which there are many kinds.
    let key: Jwk = serde_json::from_value(key).inspect_err(|error| left_out(&error.to_string())).ok()?;
    if key.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        left_out("it is not for signatures");
        return None;
    }
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => {
            left_out("its type is not used here");
            return None;
        }
    };
    if key.common.key_algorithm.is_some_and(|named| named != algorithm.1) {
        left_out("its algorithm is not used here");
        return None;
    }
    let decoding = DecodingKey::from_jwk(&key).inspect_err(|error| left_out(&error.to_string())).ok()?;
    Some(PublicKey { id, algorithm: algorithm.0, decoding })
}
