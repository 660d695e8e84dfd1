//! See `crate::fuzzing`.

use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderMap;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::SecretSlice;
use serde_json::{Map, Value};

use super::{Keys, find_token, jwks};

/// Known to nobody who writes an input: what verifies was signed here.
static SECRET: LazyLock<[u8; 32]> = LazyLock::new(rand::random);

/// A provider's keys; the points of RFC 7515 appendix A.3 and RFC 8037 appendix A.2.
const PROVIDER: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","kid":"ec","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
     "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let keys = Keys::hs256(&SecretSlice::from(SECRET.to_vec()), None, None);
    keys.0.set_public(jwks::parse(PROVIDER.as_bytes()).expect("two keys"));
    keys
});

pub(crate) fn token(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match kind % 4 {
        0 => {
            assert!(KEYS.0.verify(&text).is_err(), "nobody signs without a key");
            assert!(KEYS.verify_ticket(&text).is_none());
        }
        1 => {
            let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
            let key = EncodingKey::from_secret(&*SECRET);
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signs");
            if let Ok(identity) = KEYS.0.verify(&token) {
                assert!(identity.expires_in() > Duration::ZERO);
            }
            assert!(KEYS.verify_ticket(&token).is_none(), "a token is no ticket");
        }
        2 => {
            // What it makes of a provider's broken answer.
            let _ = jwks::parse(data);
        }
        _ => {
            let Ok(value) = http::HeaderValue::from_bytes(data) else { return };
            let headers = HeaderMap::from_iter([(http::header::SEC_WEBSOCKET_PROTOCOL, value)]);
            let uri = format!("/ws?{text}").parse().unwrap_or_default();
            if let Some(token) = find_token(&uri, &headers) {
                assert!(KEYS.0.verify(&token).is_err());
            }
        }
    }
}
