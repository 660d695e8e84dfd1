//! Keys that are replaced while tokens come: none that is valid is refused.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::asymmetric::{Signer, claims};
use super::*;

/// An identity provider.
#[derive(Default)]
struct Provider {
    set: Mutex<Value>,
    away: AtomicBool,
    asked: AtomicUsize,
}

impl Provider {
    async fn start(set: Value) -> (Arc<Self>, String) {
        let provider = Arc::new(Self { set: Mutex::new(set), ..Self::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = format!("http://{}/keys?x=1", listener.local_addr().expect("an address"));
        let router = Router::new().route("/keys", get(Self::keys)).with_state(Arc::clone(&provider));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (provider, address)
    }

    async fn keys(State(provider): State<Arc<Self>>) -> (StatusCode, String) {
        provider.asked.fetch_add(1, Ordering::Relaxed);
        let away = provider.away.load(Ordering::Relaxed);
        let status = if away { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        (status, provider.set.lock().expect("not poisoned").to_string())
    }

    fn set(&self, set: Value) {
        *self.set.lock().expect("not poisoned") = set;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn config(jwks: &str) -> AuthConfig {
    AuthConfig { jwks: Some(jwks.to_owned()), jwks_refresh: Duration::from_secs(3600), ..AuthConfig::default() }
}

/// Keys that follow their provider until the test ends.
async fn follow(address: &str) -> Keys {
    let keys = Keys::from_config(&config(address)).expect("is good").expect("keys");
    let kept = keys.clone();
    tokio::spawn(async move { kept.keep(CancellationToken::new()).await });
    keys.asked().await;
    keys
}

#[tokio::test]
async fn a_new_key_is_fetched_when_the_first_token_names_it_and_all_valid_tokens_pass() {
    let (old, new) = (Signer::ec(), Signer::rsa());
    let (provider, address) = Provider::start(json!({"keys": [old.jwk("old")]})).await;
    let keys = follow(&address).await;
    assert!(keys.are_there() && !keys.can_sign() && !keys.can_sign_tickets());
    assert!(keys.verify(&old.token(Some("old"), &claims())).await.is_ok());
    assert_eq!(provider.asked(), 1);
    // The provider signs with a new key from now on; tokens of the old one are good until they end. Beside them comes junk.
    provider.set(json!({"keys": [old.jwk("old"), new.jwk("new")]}));
    let (good_old, good_new) = (old.token(Some("old"), &claims()), new.token(Some("new"), &claims()));
    let junk = new.token(Some("nobody's"), &claims());
    let verified = (0..200).map(|turn| {
        let (token, valid) = match turn % 3 {
            0 => (&good_old, true),
            1 => (&good_new, true),
            _ => (&junk, false),
        };
        let keys = keys.clone();
        async move { keys.verify(token).await.is_ok() == valid }
    });
    assert!(futures_util::future::join_all(verified).await.into_iter().all(|right| right));
    // However many asked for it: once while they came, or twice if some came after the answer.
    assert!((2..=3).contains(&provider.asked()), "{}", provider.asked());
    // The old key is withdrawn.
    provider.set(json!({"keys": [new.jwk("new")]}));
    assert!(keys.verify(&junk).await.is_err());
    assert!(keys.verify(&good_old).await.is_err());
    assert!(keys.verify(&good_new).await.is_ok());
}

#[tokio::test]
async fn the_last_good_set_is_kept_while_the_provider_is_away_or_talks_nonsense() {
    let signer = Signer::ec();
    let (provider, address) = Provider::start(json!({"keys": [signer.jwk("k1")]})).await;
    let keys = follow(&address).await;
    let (good, junk) = (signer.token(Some("k1"), &claims()), signer.token(Some("k2"), &claims()));
    provider.away.store(true, Ordering::Relaxed);
    assert_eq!(keys.verify(&junk).await, Err(TokenError::Invalid));
    assert!(keys.verify(&good).await.is_ok());
    provider.away.store(false, Ordering::Relaxed);
    provider.set(json!("x".repeat(2 * 1024 * 1024)));
    assert_eq!(keys.verify(&junk).await, Err(TokenError::Invalid));
    assert!(keys.verify(&good).await.is_ok());
    assert!(provider.asked() >= 3);
}

#[tokio::test]
async fn a_gateway_whose_provider_is_away_at_the_start_has_its_keys_later() {
    let signer = Signer::ec();
    let (provider, address) = Provider::start(json!({"keys": [signer.jwk("k1")]})).await;
    provider.away.store(true, Ordering::Relaxed);
    let keys = follow(&address).await;
    assert!(!keys.are_there());
    provider.away.store(false, Ordering::Relaxed);
    assert!(keys.verify(&signer.token(Some("k1"), &claims())).await.is_ok());
    assert!(keys.are_there());
}

#[test]
fn secrets_and_keys_of_files_are_replaced_when_the_files_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let (secret, set) = (folder.path().join("secret"), folder.path().join("keys.json"));
    let (old_key, new_key) = (Signer::ec(), Signer::ec());
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    fs::write(&secret, &old).expect("writes");
    fs::write(&set, json!({"keys": [old_key.jwk("old")]}).to_string()).expect("writes");
    let mut config = config(&set.display().to_string());
    config.secret.jwt_secret_file = Some(secret.clone());
    let keys = Keys::from_config(&config).expect("is good").expect("keys");
    let of_old = keys.sign(&alice(), Duration::from_secs(60)).expect("signs");
    let ticket = keys.sign_ticket(&super::ticket(), Duration::from_secs(60)).expect("signs");
    let valid = |token: &str| verify(&keys, token).is_ok();
    assert!(valid(&of_old) && valid(&old_key.token(Some("old"), &claims())));
    // Both secrets for a while: the new one signs, both are accepted.
    fs::write(&secret, format!("{new}\n{old}\n")).expect("writes");
    fs::write(&set, json!({"keys": [old_key.jwk("old"), new_key.jwk("new")]}).to_string()).expect("writes");
    keys.look_at_files();
    let of_new = keys.sign(&alice(), Duration::from_secs(60)).expect("signs");
    assert!(valid(&of_old) && valid(&of_new));
    assert!(valid(&old_key.token(Some("old"), &claims())) && valid(&new_key.token(Some("new"), &claims())));
    assert!(keys.verify_ticket(&ticket).is_some());
    // Then the new ones alone.
    fs::write(&secret, &new).expect("writes");
    fs::write(&set, json!({"keys": [new_key.jwk("new")]}).to_string()).expect("writes");
    keys.look_at_files();
    assert!(!valid(&of_old) && valid(&of_new) && !valid(&old_key.token(Some("old"), &claims())));
    assert!(keys.verify_ticket(&ticket).is_none());
    // What is no good changes nothing.
    fs::write(&secret, "short").expect("writes");
    fs::write(&set, "{}").expect("writes");
    keys.look_at_files();
    assert!(valid(&of_new) && valid(&new_key.token(Some("new"), &claims())));
}

#[test]
fn a_secret_that_was_replaced_is_accepted_and_does_not_sign() {
    let mut config = AuthConfig::default();
    config.secret.jwt_secret = Some("n".repeat(32).into());
    let alone = Keys::from_config(&config).expect("is good").expect("keys");
    let old = keys().sign(&alice(), Duration::from_secs(60)).expect("signs");
    assert_eq!(verify(&alone, &old), Err(TokenError::Invalid));
    config.jwt_previous_secret = Some(String::from_utf8(SECRET.to_vec()).expect("text").into());
    let both = Keys::from_config(&config).expect("is good").expect("keys");
    assert!(verify(&both, &old).is_ok());
    assert!(verify(&alone, &both.sign(&alice(), Duration::from_secs(60)).expect("signs")).is_ok());
}

#[test]
fn tickets_have_a_secret_of_their_own_where_tokens_have_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("keys.json");
    fs::write(&set, json!({"keys": [Signer::ec().jwk("k1")]}).to_string()).expect("writes");
    let mut config = config(&set.display().to_string());
    config.session_secret = Some("t".repeat(32).into());
    let gateway = || Keys::from_config(&config).expect("is good").expect("keys");
    let ticket = gateway().sign_ticket(&super::ticket(), Duration::from_secs(60)).expect("signs");
    assert!(gateway().can_sign_tickets() && gateway().verify_ticket(&ticket).is_some());
    assert!(gateway().sign(&alice(), Duration::from_secs(60)).is_err());
}

#[test]
fn an_address_that_is_no_good_stops_the_start() {
    for address in
        ["ftp://example.org/keys", "https:///keys", "https://user:password@example.org/keys", "/no/such/file"]
    {
        let error = Keys::from_config(&config(address)).expect_err("refused");
        assert!(format!("{error:#}").contains("--jwks"), "{error:#}");
    }
}
