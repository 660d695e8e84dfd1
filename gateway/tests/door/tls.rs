//! TLS on the gateway's own port.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::house::{Client, House, PATIENCE};

/// A certificate for this gateway, written where it reads it. Answers what a client has to trust.
fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).expect("a certificate");
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("writes");
    fs::write(folder.join("tls.crt"), made.cert.pem()).expect("writes");
    made.cert.der().clone()
}

fn flags(folder: &Path) -> String {
    format!("--tls-cert {0}/tls.crt --tls-key {0}/tls.key", folder.display())
}

async fn connect(
    house: &House,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(house.address).await?;
    let name = ServerName::try_from("gateway.test").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn sockets_outlive_a_certificate_that_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = write_certificate(folder.path());
    let house = House::open(&flags(folder.path()));
    let token = house.token("alice", &["c1"], Duration::from_secs(3600));
    let mut clients = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = connect(&house, &first, version).await.expect("connects");
        let client = Client::over(stream, "wss://gateway.test/ws", &token, &[]).await;
        clients.push(client.expect("let in"));
    }
    // Half of a change is none: the old pair goes on until both files are there.
    let second = {
        let other = tempfile::tempdir().expect("a folder");
        let second = write_certificate(other.path());
        fs::copy(other.path().join("tls.crt"), folder.path().join("tls.crt")).expect("copies");
        assert!(connect(&house, &first, &rustls::version::TLS13).await.is_ok());
        fs::copy(other.path().join("tls.key"), folder.path().join("tls.key")).expect("copies");
        second
    };
    let replaced = async {
        while connect(&house, &second, &rustls::version::TLS13).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, replaced).await.expect("the new certificate is shown");
    assert!(connect(&house, &first, &rustls::version::TLS13).await.is_err(), "the old one is not any more");
    for client in &mut clients {
        assert_eq!(client.request("ping", json!({})).await["type"], "pong");
    }
    house.close().await;
}

#[tokio::test]
async fn who_speaks_no_tls_gets_no_answer_and_disturbs_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = write_certificate(folder.path());
    let house = House::open(&flags(folder.path()));
    let mut plain = TcpStream::connect(house.address).await.expect("connects");
    plain.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sends");
    let mut heard = Vec::new();
    // An alert, and the end.
    let _ = timeout(PATIENCE, plain.read_to_end(&mut heard)).await.expect("it ends");
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    let mut stream = connect(&house, &trusted, &rustls::version::TLS13).await.expect("connects");
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sends");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("answers");
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    house.close().await;
}
