//! Public keys, and every way to use a key as what it is not. Signed by hand with the cryptography alone, so that what is
//! tested is not judged by its own library.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

/// A provider's key.
pub(super) enum Signer {
    Rsa(aws_lc_rs::rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa() -> Self {
        Self::Rsa(aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    pub(super) fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().expect("a key"))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    /// As it is in the provider's set.
    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": base64(n), "e": base64(e)})
            }
            Self::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64(key.public_key().as_ref())})
            }
        }
    }

    pub(super) fn token(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(id) = id {
            header["kid"] = id.into();
        }
        self.sign(&header, claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let (random, message) = (SystemRandom::new(), signed.as_bytes());
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signs");
                signature
            }
            Self::Ec(key) => key.sign(&random, message).expect("signs").as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64(&signature))
    }
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn claims() -> Value {
    json!({"userId": "alice", "userName": "Alice", "exp": in_seconds(60), "iss": "control", "aud": ["voice", "other"]})
}

/// Keys of a set of public keys, beside the secret of the other tests.
pub(super) fn keys_with(set: &Value) -> Keys {
    let keys = Keys::of_secrets(
        &[SecretSlice::from(SECRET.to_vec())],
        Rules { issuer: Some("control".into()), audience: Some("voice".into()), leeway: NOT_BEFORE_LEEWAY },
    );
    keys.0.set_public(jwks::parse(set.to_string().as_bytes()).expect("keys"));
    keys
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithm() {
    for signer in [Signer::rsa(), Signer::ec(), Signer::ed()] {
        let keys = keys_with(&json!({"keys": [Signer::ec().jwk("other"), signer.jwk("k1")]}));
        for id in [Some("k1"), None] {
            let identity = verify(&keys, &signer.token(id, &claims())).expect("valid");
            assert_eq!(identity.user.as_str(), "alice");
        }
        assert!(verify(&keys, &signed(&claims())).is_ok(), "the secret goes on beside it");
        assert_eq!(verify(&keys, &signer.token(Some("other"), &claims())), Err(TokenError::Invalid));
        assert_eq!(verify(&keys, &signer.token(Some("unknown"), &claims())), Err(TokenError::Invalid));
    }
}

/// All of them are answered with the same words, whatever is wrong.
#[test]
fn no_key_is_good_for_anything_else() {
    let (rsa, ec, ed) = (Signer::rsa(), Signer::ec(), Signer::ed());
    let keys = keys_with(&json!({"keys": [rsa.jwk("rsa"), ec.jwk("ec"), ed.jwk("ed")]}));
    let Signer::Rsa(pair) = &rsa else { panic!("it is RSA") };
    let body = base64(claims().to_string().as_bytes());
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    // The public key, which everybody knows, as a secret: as it is sent, in DER and in PEM.
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("encodes");
    let der = der.as_ref().to_vec();
    let text = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    let public_as_secret = [rsa.jwk("rsa")["n"].to_string().into_bytes(), der, pem.into_bytes()].map(|secret| {
        let header = Header { kid: Some("rsa".into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).expect("signs")
    });
    let mut forged = rsa.token(Some("rsa"), &claims());
    forged.truncate(forged.rfind('.').expect("three parts") + 1);
    let unsigned = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "rsa"});
        format!("{}.{body}.", base64(header.to_string().as_bytes()))
    };
    let header = |header: Value| rsa.sign(&header, &claims());
    let tokens = [
        ("of a stranger", Signer::rsa().token(Some("rsa"), &claims())),
        ("without a signature", forged),
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no algorithm", unsigned("")),
        ("another's key", ec.token(Some("rsa"), &claims())),
        ("an EdDSA key as EC", ed.token(Some("ec"), &claims())),
        ("RSA, said to be ES256", header(json!({"alg": "ES256", "kid": "ec"}))),
        ("RSA, said to be PS256", header(json!({"alg": "PS256", "kid": "rsa"}))),
        ("RSA, said to be RS512", header(json!({"alg": "RS512", "kid": "rsa"}))),
        ("RSA, said to be HS256", header(json!({"alg": "HS256", "kid": "rsa"}))),
        ("something that must be understood", header(json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}))),
        ("a key that it brings itself", {
            let stranger = Signer::rsa();
            stranger.sign(&json!({"alg": "RS256", "kid": "x", "jwk": stranger.jwk("x")}), &claims())
        }),
        ("the public key as a secret", public_as_secret[0].clone()),
        ("the public key as a secret, DER", public_as_secret[1].clone()),
        ("the public key as a secret, PEM", public_as_secret[2].clone()),
        ("wrong audience", rsa.token(Some("rsa"), &with("aud", json!("video")))),
        ("no audience", rsa.token(Some("rsa"), &with("aud", Value::Null))),
        ("wrong issuer", rsa.token(Some("rsa"), &with("iss", json!("else")))),
        ("over", rsa.token(Some("rsa"), &with("exp", json!(in_seconds(-1))))),
        ("not yet", rsa.token(Some("rsa"), &with("nbf", json!(in_seconds(60))))),
        ("oversized", rsa.token(Some("rsa"), &with("channelIds", json!(["c".repeat(MAX_TOKEN)])))),
        ("an oversized header", header(json!({"alg": "RS256", "kid": "k".repeat(MAX_TOKEN)}))),
    ];
    assert!(verify(&keys, &rsa.token(Some("rsa"), &claims())).is_ok());
    for (what, token) in tokens {
        assert_eq!(verify(&keys, &token), Err(TokenError::Invalid), "{what}");
    }
}

#[test]
fn of_a_set_only_what_is_for_signatures_is_taken() {
    let good = Signer::ec();
    let altered = |name: &str, value: Value| {
        let mut key = Signer::rsa().jwk("x");
        key[name] = value;
        key
    };
    let odd = [
        json!({"kty": "oct", "kid": "x", "k": base64(SECRET), "alg": "HS256"}),
        json!({"kty": "something new", "kid": "x"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "x", "x": base64(&[1; 48]), "y": base64(&[1; 48])}),
        json!("no key"),
        altered("use", json!("enc")),
        altered("alg", json!("PS256")),
        altered("alg", json!("RSA-OAEP")),
        altered("n", json!("***")),
        altered("n", json!(7)),
    ];
    let mut set: Vec<_> = odd.to_vec();
    let parse = |set: &[Value]| jwks::parse(json!({"keys": set}).to_string().as_bytes());
    assert!(parse(&set).is_err(), "none of them is good");
    set.push(good.jwk("good"));
    let keys = parse(&set).expect("one is good");
    assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("good")]);
    assert!(parse(&vec![good.jwk("good"); 33]).is_err(), "nobody has so many");
    for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        assert!(jwks::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_key_that_is_too_short_verifies_nothing() {
    // 512 bits: a set may name it, the cryptography refuses it.
    let mut weak = Signer::rsa().jwk("weak");
    weak["n"] = base64(&[0xc1; 64]).into();
    let set = json!({"keys": [weak, Signer::ec().jwk("good")]});
    let keys = keys_with(&set);
    let token = Signer::rsa().token(Some("weak"), &claims());
    assert_eq!(verify(&keys, &token), Err(TokenError::Invalid));
}
