//! Start and end of the process: what it says when it cannot start, how it drains, and what its port serves besides.

use std::net::UdpSocket;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::{DtlsRole, soon};

use crate::phone::{hears_of, join, open_to_send, press};
use crate::process::{Process, SECRET, voiceping};

const CHANNEL: &str = "lobby";

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_in_order() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let mut server = Process::start(&[]).await?;
        let mut bob = server.member("bob", CHANNEL).await?;
        let mut alice = server.member("alice", CHANNEL).await?;
        bob.push_of("channel-state").await?;
        let mut send = open_to_send(&mut alice, CHANNEL, DtlsRole::Client).await?;
        let (_, microphone) = send.produce(&mut alice, CHANNEL, 1).await?;
        press(&mut alice, CHANNEL).await?;
        let _speaking = microphone.keep_speaking();
        hears_of(&mut bob, CHANNEL, "alice").await?;
        server.signal(signal).await?;
        for socket in [&mut alice, &mut bob] {
            assert_eq!(socket.closed().await?.map(|(code, _)| code), Some(1012), "SIG{signal}");
        }
        let status = server.ended().await?;
        assert_eq!(status.code(), Some(0), "SIG{signal}: {status}\n{}", server.log());
        ensure!(server.log().contains(&format!("SIG{signal}")), "the log tells why: {}", server.log());
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_ignores_the_end_does_not_hold_it_up() -> Result<()> {
    let mut server = Process::start(&["--drain-deadline", "2s"]).await?;
    // It reads nothing, so it answers no close.
    let deaf = server.member("alice", CHANNEL).await?;
    let half_open = tokio::net::TcpStream::connect(server.address()).await?;
    server.signal("TERM").await?;
    assert_eq!(server.ended().await?.code(), Some(0), "{}", server.log());
    drop((deaf, half_open));
    Ok(())
}

/// The command has ended by itself, with an error in one line that says this.
fn assert_one_line(output: &Output, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains(says), "{says}: {error}");
    assert!(!error.contains("panicked") && !error.contains("backtrace"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() -> Result<()> {
    let server = Process::start(&[]).await?;
    let address = server.address().to_string();
    let second = ["--listen", &address, "--media-listen", "127.0.0.1:0", "--jwt-secret", SECRET];
    let output = soon("the second process", voiceping(&second).output()).await??;
    assert_one_line(&output, &address);
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen"), "{output:?}");
    // The first one has not noticed.
    server.socket("alice", &[CHANNEL]).await?;

    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let media = taken.local_addr()?.to_string();
    let third = ["--listen", "127.0.0.1:0", "--media-listen", &media, "--media-workers", "1", "--jwt-secret", SECRET];
    assert_one_line(&soon("the third process", voiceping(&third).output()).await??, &media);
    Ok(())
}

#[tokio::test]
async fn a_bad_value_is_named_and_ends_the_start() -> Result<()> {
    for (flags, says) in [
        (vec!["--listen", "here"], "--listen"),
        (vec!["--media-listen", "127.0.0.1"], "--media-listen"),
        (vec!["--media-workers", "0"], "--media-workers"),
        (vec!["--media-announce", "nowhere"], "--media-announce"),
        (vec!["--floor-lease", "0s"], "--floor-lease"),
        (vec!["--ping-interval", "0s"], "--ping-interval"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--jwt-secret", "short"], "--jwt-secret"),
        (vec!["--media-announce", "0.0.0.0"], "--media-announce"),
        (vec!["--log", "voiceping=loud"], "--log"),
        (vec!["no-such-command"], "no-such-command"),
        (vec!["token"], "--user"),
    ] {
        let mut arguments = flags.clone();
        if flags[0].starts_with("--") {
            for (flag, value) in [("--listen", "127.0.0.1:0"), ("--media-listen", "127.0.0.1:0")] {
                if !flags.contains(&flag) {
                    arguments.extend([flag, value]);
                }
            }
        }
        let output = soon("its end", voiceping(&arguments).output()).await??;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{flags:?}: {error}");
        assert!(error.contains(says), "{flags:?}: {error}");
        assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{flags:?}: {error}");
        assert!(!error.contains("panicked"), "{flags:?}: {error}");
        assert!(flags[0] != "--jwt-secret" || !error.contains("short"), "a secret is not shown: {error}");
    }
    // The same from the environment.
    let output = soon("its end", voiceping(&[]).env("VOICEPING_LISTEN", "here").output()).await??;
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("here"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn the_port_tells_how_it_is() -> Result<()> {
    let server = Process::start(&["--media-workers", "3"]).await?;
    let _socket = server.socket("alice", &[CHANNEL]).await?;
    server.until_connections(1).await?;
    let health: Value = serde_json::from_str(&server.get("/health").await?.1)?;
    assert!(health["uptime"].is_u64(), "{health}");
    let said = (&health["status"], &health["workers"], &health["connections"]);
    assert_eq!(said, (&json!("ok"), &json!(3), &json!(1)));
    for path in ["/live", "/ready"] {
        assert_eq!(server.get(path).await?.0, 200, "{path}");
    }
    assert_eq!(server.get("/no-such-page").await?.0, 404);
    // With a secret of its own nobody signs in without a token.
    assert_eq!(server.get("/dev/token").await?.0, 404);
    ensure!(!server.log().contains(SECRET), "a secret is not logged");
    Ok(())
}

#[tokio::test]
async fn without_a_secret_anybody_may_sign_in_by_name() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Process::without_secret().await?;
    assert_eq!(server.get("/dev/token").await?.0, 204);
    let body = json!({"userName": "Alice", "channels": [CHANNEL]}).to_string();
    let mut stream = tokio::net::TcpStream::connect(server.address()).await?;
    let head = "POST /dev/token HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    soon("the token", stream.read_to_string(&mut response)).await??;
    let signed: Value = serde_json::from_str(response.split_once("\r\n\r\n").context("a body")?.1)?;
    let token = signed["token"].as_str().context("a token")?;
    let mut socket = Signaling::connect(&server.url(), token).await?;
    join(&mut socket, CHANNEL).await?;
    let state = press(&mut socket, CHANNEL).await?;
    assert_eq!((&state["currentSpeaker"], &state["speakerName"]), (&signed["userId"], &json!("Alice")));
    ensure!(server.log().contains("no --jwt-secret"), "and the log says so: {}", server.log());
    // A secret of another run opens nothing.
    ensure!(server.socket("alice", &[CHANNEL]).await.is_err());
    Ok(())
}
