//! Servers that want a password, over TLS with a private authority.

use tempfile::TempDir;
use voiceping_state::{Limits, Redis, Servers, State, StateError};

use super::config;
use super::servers::{NOTHING_KEPT, Server, free_port};
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_password_and_a_private_authority() {
    let folder = TempDir::new().expect("a folder");
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let certificate = write("certificate.pem", signed.cert.pem());
    let key = write("key.pem", signed.signing_key.serialize_pem());
    let port = free_port();
    let secure = ["--tls-port", &port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let secret = ["--tls-auth-clients", "no", "--requirepass", "open sesame"];
    let _server = Server::start(&[NOTHING_KEPT.as_slice(), &secure, &secret].concat());

    let open = |password: &str, ca: bool| {
        let mut config = config(Servers::Standalone(format!("rediss://:{password}@127.0.0.1:{port}")));
        config.ca = ca.then(|| signed.cert.pem().into_bytes());
        Redis::new(&config, rules(None), Limits::default()).expect("good settings")
    };
    let state = open("open%20sesame", true);
    let mut bus = state.listen().await;
    let taken = state.granted("alice.1").await;
    let events = state.heard(&mut bus).await;
    assert_eq!(change(&events[0]).1, taken.epoch);

    for state in [open("guessed", true), open("open%20sesame", false)] {
        let looked = state.floor(&lobby()).await;
        assert!(matches!(looked, Err(StateError::Unavailable(_))), "{looked:?}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_at_once() {
    let master = "main".to_owned();
    for servers in [
        Servers::Standalone("http://example".into()),
        Servers::Standalone(String::new()),
        Servers::Cluster(vec![]),
        Servers::Sentinel { sentinels: vec![], master },
    ] {
        let refused = Redis::new(&config(servers.clone()), rules(None), Limits::default());
        assert!(refused.is_err(), "{servers:?}");
    }
}
