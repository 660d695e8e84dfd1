//! What somebody without a token can do: not much, and nothing to others.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::house::{House, PATIENCE};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_script_that_guesses_is_not_listened_to_and_its_neighbours_are() {
    let house = House::open("");
    let good = house.token("alice", &["c1"], HOUR);
    let (claims, _) = good.rsplit_once('.').expect("a token");
    let mut refusals = Vec::new();
    for guess in 0..15 {
        // It claims to be Alice, with a signature of its own.
        let forged = format!("{claims}.{guess:043}");
        refusals.push(house.knock(&forged, &[]).await.map(drop).expect_err("refused"));
    }
    assert_eq!(refusals[..10], [401; 10]);
    assert_eq!(refusals[10..], [429; 5]);
    // Not even what is right is looked at now: a guess would be as good.
    assert_eq!(house.knock(&good, &[]).await.map(drop), Err(429));
    for neighbour in 0..50 {
        house.client(&format!("u{neighbour}")).await;
    }
    house.close().await;
}

#[tokio::test]
async fn the_address_is_what_a_trusted_proxy_says_and_nobody_else() {
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let behind_a_proxy = House::open("--trusted-proxies 127.0.0.0/8 --connect-rate 1 --connect-burst 2");
    let token = behind_a_proxy.token("alice", &["c1"], HOUR);
    let mut open = Vec::new();
    for address in ["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2"] {
        open.push(behind_a_proxy.knock(&token, &from(address)).await.expect("let in"));
    }
    assert_eq!(behind_a_proxy.knock(&token, &from("203.0.113.1")).await.map(drop), Err(429));
    behind_a_proxy.close().await;
    let alone = House::open("--connect-rate 1 --connect-burst 2");
    for address in ["203.0.113.1", "203.0.113.2"] {
        open.push(alone.knock(&token, &from(address)).await.expect("let in"));
    }
    assert_eq!(alone.knock(&token, &from("203.0.113.3")).await.map(drop), Err(429), "it is one address all the same");
    alone.close().await;
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let house = House::open("");
    let token = house.token("alice", &["c1"], HOUR);
    let own = format!("http://{}", house.address);
    assert!(house.knock(&token, &[("origin", &own)]).await.is_ok());
    assert_eq!(house.knock(&token, &[("origin", "https://evil.example")]).await.map(drop), Err(403));
    house.close().await;
}

#[tokio::test]
async fn connections_that_say_nothing_have_a_limit_that_others_do_not_notice() {
    let house = House::open("--trusted-proxies 127.0.0.9");
    let mut client = house.client("alice").await;
    // As many as one address may have; both ends are files of this process.
    let silent = async |count: usize| {
        let mut silent = Vec::new();
        for _ in 0..count {
            silent.push(TcpStream::connect(house.address).await.expect("connects"));
        }
        silent
    };
    let room = rlimit::increase_nofile_limit(4096).expect("files");
    assert!(room >= 4096, "the test needs 4096 open files, and has {room}");
    let mut crowd = silent(1100).await;
    // The last ones are closed at once, the first ones have their time.
    let mut heard = [0; 1];
    let last = crowd.last_mut().expect("one");
    let end = timeout(PATIENCE, last.read(&mut heard)).await.expect("it ends at once");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(client.request("ping", json!({})).await["type"], "pong");
    drop(crowd);
    house.client("bob").await;
    house.close().await;
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let house = House::open("");
    for request in [
        format!("GET /ws HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024)),
        format!("GET /ws HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1000)),
    ] {
        let mut stream = TcpStream::connect(house.address).await.expect("connects");
        // It may be closed before all of it is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut heard = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it ends");
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&heard));
    }
    house.close().await;
}
