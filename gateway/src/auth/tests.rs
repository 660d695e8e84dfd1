mod asymmetric;
mod rotation;

use serde_json::json;

use super::*;

fn keys() -> Keys {
    keys_of(SECRET, None, None)
}

fn keys_of(secret: &[u8], issuer: Option<&str>, audience: Option<&str>) -> Keys {
    Keys::hs256(&SecretSlice::from(secret.to_vec()), issuer.map(str::to_owned), audience.map(str::to_owned))
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn signed(claims: &Value) -> String {
    signed_as(Algorithm::HS256, claims)
}

fn signed_as(algorithm: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(SECRET)).expect("signs")
}

/// Without waiting for a provider.
fn verify(keys: &Keys, token: &str) -> Result<Identity, TokenError> {
    keys.0.verify(token).map_err(|refused| match refused {
        Refused::Token(error) => error,
        Refused::UnknownKey => TokenError::Invalid,
    })
}

fn in_seconds(seconds: i64) -> i64 {
    i64::try_from(unix_now().as_secs()).expect("a time") + seconds
}

fn alice() -> Claims {
    Claims {
        user_id: "alice".into(),
        user_name: "Alice".into(),
        channel_ids: Some(vec!["lobby".into()]),
        ..Claims::default()
    }
}

#[test]
fn a_signed_token_speaks_for_its_user() {
    let token = keys().sign(&alice(), Duration::from_secs(60)).expect("signs");
    let identity = verify(&keys(), &token).expect("valid");
    assert_eq!((identity.user.as_str(), identity.user_name.as_str()), ("alice", "Alice"));
    assert_eq!((identity.role, identity.global_role.as_str()), (Role::General, "NONE"));
    assert_eq!(identity.channels, Some(vec!["lobby".into()]));
    assert!(identity.expires_in() <= Duration::from_secs(60) && identity.expires_in() > Duration::from_secs(50));
}

#[test]
fn a_token_of_another_key_algorithm_or_time_is_invalid() {
    let claims = |exp: Value| json!({"userId": "alice", "userName": "Alice", "exp": exp});
    let good = claims(in_seconds(60).into());
    let other = keys_of(b"another secret of 32 bytes or so", None, None);
    assert_eq!(verify(&other, &signed(&good)), Err(TokenError::Invalid));
    let hs512 = signed_as(Algorithm::HS512, &good);
    assert_eq!(verify(&keys(), &hs512), Err(TokenError::Invalid));
    // {"alg":"none"}, the oldest trick.
    let body = signed(&good).split('.').nth(1).expect("three parts").to_owned();
    assert_eq!(verify(&keys(), &format!("eyJhbGciOiJub25lIn0.{body}.")), Err(TokenError::Invalid));
    for token in ["", "x", "a.b.c", "....."] {
        assert_eq!(verify(&keys(), token), Err(TokenError::Invalid), "{token}");
    }
    for exp in [in_seconds(-1).into(), Value::Null, json!("tomorrow"), json!(-1), json!(1e300), json!({})] {
        assert_eq!(verify(&keys(), &signed(&claims(exp.clone()))), Err(TokenError::Invalid), "{exp}");
    }
    assert_eq!(verify(&keys(), &signed(&json!({"userId": "a", "userName": "A"}))), Err(TokenError::Invalid));
    let mut early = good;
    early["nbf"] = in_seconds(600).into();
    assert_eq!(verify(&keys(), &signed(&early)), Err(TokenError::Invalid));
}

#[test]
fn a_token_without_a_user_has_an_invalid_payload() {
    let exp = in_seconds(60);
    for claims in [
        json!({"userName": "Alice", "exp": exp}),
        json!({"userId": "alice", "exp": exp}),
        json!({"userId": "", "userName": "Alice", "exp": exp}),
        json!({"userId": 7, "userName": "Alice", "exp": exp}),
        json!({"userId": "alice", "userName": "A".repeat(300), "exp": exp}),
        json!({"userId": "alice", "userName": "Alice", "channelIds": "lobby", "exp": exp}),
        json!({"userId": "alice", "userName": "Alice", "channelIds": [1], "exp": exp}),
    ] {
        assert_eq!(verify(&keys(), &signed(&claims)), Err(TokenError::Payload), "{claims}");
    }
}

#[test]
fn issuer_and_audience_are_checked_only_where_they_are_set() {
    let secret = SECRET;
    let strict = keys_of(secret, Some("control"), Some("voice"));
    let token = strict.sign(&alice(), Duration::from_secs(60)).expect("signs");
    assert!(verify(&strict, &token).is_ok());
    assert!(verify(&keys(), &token).is_ok());
    let plain = keys().sign(&alice(), Duration::from_secs(60)).expect("signs");
    assert_eq!(verify(&strict, &plain), Err(TokenError::Invalid));
    assert_eq!(verify(&keys_of(secret, Some("other"), None), &token), Err(TokenError::Invalid));
    assert_eq!(verify(&keys_of(secret, None, Some("other")), &token), Err(TokenError::Invalid));
}

#[test]
fn roles_follow_the_claims() {
    let role = |roles: Value| {
        let mut claims = json!({"userId": "a", "userName": "A", "exp": in_seconds(60)});
        claims.as_object_mut().expect("an object").extend(roles.as_object().expect("an object").clone());
        verify(&keys(), &signed(&claims)).expect("valid").role
    };
    assert_eq!(role(json!({})), Role::General);
    assert_eq!(role(json!({"role": "USER"})), Role::General);
    assert_eq!(role(json!({"role": "DISPATCH"})), Role::Dispatch);
    assert_eq!(role(json!({"eventRole": "DISPATCH", "role": "USER"})), Role::Dispatch);
    assert_eq!(role(json!({"eventRole": "USER", "role": "DISPATCH"})), Role::General);
    assert_eq!(role(json!({"eventRole": "", "role": "DISPATCH"})), Role::Dispatch);
    assert_eq!(role(json!({"globalRole": "ADMIN", "role": "DISPATCH"})), Role::Admin);
    assert_eq!(role(json!({"role": "ADMIN"})), Role::General);
    for (wanted, claims) in [Role::Admin, Role::Dispatch, Role::General].map(|role| (role, alice().with_role(role))) {
        let token = keys().sign(&claims, Duration::from_secs(60)).expect("signs");
        assert_eq!(verify(&keys(), &token).expect("valid").role, wanted);
    }
}

#[test]
fn channels_are_joined_as_listed_or_as_set() {
    let identity = |claims: &Claims| {
        let token = keys().sign(claims, Duration::from_secs(60)).expect("signs");
        verify(&keys(), &token).expect("valid")
    };
    let listed = identity(&alice());
    assert!(listed.may_join(&"lobby".into(), false));
    assert!(!listed.may_join(&"other".into(), true));
    let unlisted = identity(&Claims { channel_ids: None, ..alice() });
    assert!(unlisted.may_join(&"lobby".into(), true));
    assert!(!unlisted.may_join(&"lobby".into(), false));
    let admin = identity(&alice().with_role(Role::Admin));
    assert!(admin.may_join(&"other".into(), false));
}

#[test]
fn a_short_secret_is_refused_and_a_secret_is_never_shown() {
    let config = |length: usize| AuthConfig {
        secret: SecretConfig { jwt_secret: Some("s".repeat(length).into()), ..SecretConfig::default() },
        ..AuthConfig::default()
    };
    let error = Keys::from_config(&config(31)).expect_err("refused").to_string();
    assert!(error.contains("31 bytes") && !error.contains("sss"), "{error}");
    let keys = Keys::from_config(&config(32)).expect("long enough").expect("keys");
    assert!(!format!("{:?} {keys:?}", config(32)).contains("sss"));
    assert!(Keys::from_config(&AuthConfig::default()).expect("nothing is wrong").is_none());
}

pub(super) fn ticket() -> Ticket {
    let (sid, sub, gateway) = ("x1".to_owned(), "alice".to_owned(), "g1".to_owned());
    Ticket { sid, sub, gateway, node: Some("n1".to_owned()), jti: "j1".to_owned() }
}

#[test]
fn a_ticket_is_read_back_by_every_gateway_with_the_same_secret() {
    let signed = keys().sign_ticket(&ticket(), Duration::from_secs(60)).expect("signs");
    let other_settings = keys_of(b"0123456789abcdef0123456789abcdef", Some("control"), Some("voice"));
    assert_eq!(other_settings.verify_ticket(&signed), Some(ticket()));
    let placed_nowhere = Ticket { node: None, ..ticket() };
    let signed = keys().sign_ticket(&placed_nowhere, Duration::from_secs(60)).expect("signs");
    assert_eq!(keys().verify_ticket(&signed), Some(placed_nowhere));
}

#[test]
fn what_is_no_ticket_of_ours_or_over_is_refused() {
    let other = keys_of(b"another secret of 32 bytes or so", None, None);
    let signed = other.sign_ticket(&ticket(), Duration::from_secs(60)).expect("signs");
    assert_eq!(keys().verify_ticket(&signed), None);
    // Over at once: the time is in whole seconds, and the past is over.
    let over = keys().sign_ticket(&ticket(), Duration::ZERO).expect("signs");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(keys().verify_ticket(&over), None);
    for text in ["", "x", "a.b.c"] {
        assert_eq!(keys().verify_ticket(text), None, "{text}");
    }
}

#[test]
fn a_token_is_no_ticket_and_a_ticket_no_token() {
    let token = keys().sign(&alice(), Duration::from_secs(60)).expect("signs");
    assert_eq!(keys().verify_ticket(&token), None);
    // Signed with the tokens' own key, whatever it says.
    let mut claims = serde_json::to_value(ticket()).expect("JSON");
    claims["aud"] = "voiceping-session".into();
    claims["exp"] = in_seconds(60).into();
    assert_eq!(keys().verify_ticket(&signed(&claims)), None);
    let ticket = keys().sign_ticket(&ticket(), Duration::from_secs(60)).expect("signs");
    assert_eq!(verify(&keys(), &ticket), Err(TokenError::Invalid));
}
