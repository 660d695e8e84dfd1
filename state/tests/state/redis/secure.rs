//! Servers that want a password: alone, in a Cluster, behind Sentinels; and over TLS with a private authority.

use tempfile::TempDir;
use voiceping_state::{Limits, Redis, Servers, State, StateError};

use super::config;
use super::servers::{self, NOTHING_KEPT, Server, free_port};
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

fn by_password(servers: Servers, password: Option<&str>) -> Redis {
    let mut config = config(servers);
    config.password = password.map(Into::into);
    Redis::new(&config, rules(None), Limits::default()).expect("good settings")
}

/// Opened with the right password, and with no other.
async fn opens(servers: &Servers, password: &str) {
    let state = by_password(servers.clone(), Some(password));
    let mut bus = state.listen().await;
    state.enter("alice.1").await.expect("available");
    let taken = state.granted("alice.1").await;
    let events = state.heard(&mut bus).await;
    assert_eq!(change(&events[1]).1, taken.epoch);
    for wrong in [None, Some("guessed")] {
        let looked = by_password(servers.clone(), wrong).floor(&lobby()).await;
        assert!(matches!(looked, Err(StateError::Unavailable(_))), "{looked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_password_beside_its_url() {
    let server = Server::start(&[NOTHING_KEPT.as_slice(), &["--requirepass", "sesame/@:?#"]].concat());
    opens(&Servers::Standalone(server.url()), "sesame/@:?#").await;
    let of_url = format!("redis://:sesame%2F%40%3A%3F%23@127.0.0.1:{}", server.port);
    by_password(Servers::Standalone(of_url), Some("another")).granted("bob.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_password() {
    let secret = ["--requirepass", "sesame", "--masterauth", "sesame"];
    let nodes = tokio::task::spawn_blocking(move || servers::cluster_with(&secret)).await.expect("no panic");
    opens(&Servers::Cluster(nodes[1..3].iter().map(Server::url).collect()), "sesame").await;
    // On each of the shards.
    let with_password = |node: &Server| format!("redis://:sesame@127.0.0.1:{}", node.port);
    let state = by_password(Servers::Cluster(nodes[..2].iter().map(with_password).collect()), None);
    for n in 0..12 {
        let floor = state.floor(&format!("channel-{n}").into()).await;
        assert_eq!(floor.expect("available").holder, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_a_password_behind_sentinels() {
    for of_sentinels in [None, Some("sesame"), Some("open")] {
        let watched = tokio::task::spawn_blocking(move || {
            let watched = servers::sentinels_with(Some("sesame"), of_sentinels);
            watched.fail_over();
            watched
        });
        let watched = watched.await.expect("no panic");
        let sentinel = |server: &Server| match of_sentinels {
            Some("open") => format!("redis://:open@127.0.0.1:{}", server.port),
            _ => server.url(),
        };
        let sentinels = watched.sentinels.iter().map(sentinel).collect();
        opens(&Servers::Sentinel { sentinels, master: "main".into() }, "sesame").await;
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
