//! The envelope: what a frame must be, what answers it, and that nothing short of a broken limit ends a socket
//! (section 2, and liveness in section 1).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use voiceping_testkit::signaling::{Signaling, error_of};

use crate::phone::{hears_that, join};
use crate::process::Process;

/// The next push is an error with this text, and the socket is as good as before.
async fn complains(socket: &mut Signaling, text: &str) -> Result<()> {
    let push = socket.push().await?;
    ensure!(error_of(&push)? == text, "{text}: {push}");
    ensure!(socket.pushes_until_now().await?.is_empty(), "one complaint for one frame");
    Ok(())
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_ends_nothing() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    for text in ["", "{", "null", "[]", "7", "\"ping\"", "{\"type\":\"ping\"} {}", "{\"type\":\"ping\",\"data\":[]}"] {
        socket.send(Message::text(text)).await?;
        complains(&mut socket, "Failed to process message").await?;
    }
    socket.send(Message::text("[".repeat(50_000))).await?;
    complains(&mut socket, "Failed to process message").await?;
    for message in [json!({}), json!({"type": "shout"}), json!({"type": "JOIN-CHANNEL"}), json!({"type": 7})] {
        socket.say(&message).await?;
        complains(&mut socket, "Invalid message type").await?;
    }
    join(&mut socket, "lobby").await?;
    Ok(())
}

#[tokio::test]
async fn an_error_answers_the_request_that_it_belongs_to() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    assert_eq!(socket.refused("shout", json!({})).await?, "Invalid message type");
    for kind in ["channel-list", "channel-state", "speaker-changed", "ptt-denied", "error", "pong"] {
        assert_eq!(socket.refused(kind, json!({})).await?, format!("Unhandled message type: {kind}"));
    }
    join(&mut socket, "lobby").await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_field_is_named() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    join(&mut socket, "lobby").await?;
    let requests = [
        ("join-channel", json!({"channelId": "lobby"})),
        ("leave-channel", json!({"channelId": "lobby"})),
        ("get-router-capabilities", json!({"channelId": "lobby"})),
        ("create-transport", json!({"channelId": "lobby", "direction": "send"})),
        ("connect-transport", json!({"transportId": "t", "dtlsParameters": {}})),
        ("produce", json!({"transportId": "t", "kind": "audio", "rtpParameters": {}, "channelId": "lobby"})),
        ("consume", json!({"channelId": "lobby", "producerId": "p", "rtpCapabilities": {}})),
        ("ptt-start", json!({"channelId": "lobby"})),
        ("ptt-stop", json!({"channelId": "lobby"})),
    ];
    for (kind, data) in &requests {
        let fields = data.as_object().expect("an object");
        for missing in fields.keys() {
            // A client checks in its own order; the other fields are right as far as they can be without media.
            let mut data = fields.clone();
            if *kind == "connect-transport" {
                data["dtlsParameters"] = json!({"fingerprints": [{"algorithm": "sha-256", "value": "00"}]});
            }
            if let Some(parameters) = data.get_mut("rtpParameters") {
                *parameters = json!({"mid": "0", "codecs": [opus()], "encodings": [{"ssrc": 1}]});
            }
            if let Some(capabilities) = data.get_mut("rtpCapabilities") {
                *capabilities = json!({"codecs": [opus()]});
            }
            data.remove(missing);
            let expected = match missing.as_str() {
                "direction" => "direction must be \"send\" or \"recv\"".to_owned(),
                field => format!("{field} is required"),
            };
            let data = Value::Object(data);
            assert_eq!(socket.refused(kind, data.clone()).await?, expected, "{kind} {data}");
        }
        // Without data at all it is a field that is missing, too.
        let response = socket.request(kind, Value::Null).await?;
        ensure!(error_of(&response)?.ends_with(" is required"), "{kind} without data: {response}");
    }
    assert_eq!(
        socket.refused("create-transport", json!({"channelId": "lobby", "direction": "both"})).await?,
        "direction must be \"send\" or \"recv\""
    );
    // Still on the channel: no `leave-channel` above was complete.
    socket.ok("get-router-capabilities", json!({"channelId": "lobby"})).await?;
    Ok(())
}

fn opus() -> Value {
    json!({"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48_000, "channels": 2})
}

#[tokio::test]
async fn a_frame_beyond_the_limits_ends_its_own_socket_only() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut other = server.member("bob", "lobby").await?;
    let big = format!("{{\"type\":\"ping\",\"data\":\"{}\"}}", "x".repeat(64 * 1024));
    for (frame, code) in [(Message::binary(vec![1, 2, 3]), 1003), (Message::text(big), 1009)] {
        let mut socket = server.member("alice", "lobby").await?;
        hears_that(&mut other, "alice", "user-joined", 2).await?;
        socket.send(frame).await?;
        assert_eq!(socket.closed().await?.map(|(code, _)| code), Some(code));
        hears_that(&mut other, "alice", "user-disconnected", 1).await?;
    }
    // Much too long a message ends it too, however early the server gives up reading.
    let mut socket = server.socket("alice", &["lobby"]).await?;
    let sent = socket.send(Message::text("x".repeat(4 << 20))).await;
    let closed = socket.closed().await?;
    ensure!(sent.is_err() || closed.is_none() || closed.is_some_and(|(code, _)| code == 1009));
    other.pushes_until_now().await?;
    Ok(())
}

#[tokio::test]
async fn without_an_id_success_stays_unsaid_and_failure_does_not() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    for (kind, data) in [
        ("ping", json!({})),
        ("join-channel", json!({"channelId": "lobby"})),
        ("get-router-capabilities", json!({"channelId": "lobby"})),
        ("create-transport", json!({"channelId": "lobby", "direction": "send"})),
        ("ptt-start", json!({"channelId": "lobby"})),
        ("ptt-stop", json!({"channelId": "lobby"})),
    ] {
        socket.say(&json!({"type": kind, "data": data})).await?;
        ensure!(socket.pushes_until_now().await?.is_empty(), "{kind} is done in silence");
    }
    // It was done, though.
    socket.ok("get-router-capabilities", json!({"channelId": "lobby"})).await?;
    socket.say(&json!({"type": "join-channel", "data": {"channelId": "elsewhere"}})).await?;
    complains(&mut socket, "Permission denied: Not authorized for this channel").await?;
    socket.say(&json!({"type": "join-channel"})).await?;
    complains(&mut socket, "channelId is required").await?;
    Ok(())
}

#[tokio::test]
async fn responses_keep_the_order_of_the_requests() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    let mut ids = vec![socket.ask("join-channel", json!({"channelId": "lobby"})).await?];
    // Some are answered from memory, some ask the media node, some fail.
    for _ in 0..5 {
        ids.push(socket.ask("create-transport", json!({"channelId": "lobby", "direction": "recv"})).await?);
        ids.push(socket.ask("ping", json!({})).await?);
        ids.push(socket.ask("ptt-start", json!({"channelId": "lobby"})).await?);
        ids.push(socket.ask("shout", json!({})).await?);
        ids.push(socket.ask("ptt-stop", json!({"channelId": "lobby"})).await?);
        ids.push(socket.ask("get-router-capabilities", json!({"channelId": "lobby"})).await?);
    }
    for id in ids {
        socket.answer(&id).await?; // an answer out of order is an error of this call
    }
    Ok(())
}

#[tokio::test]
async fn ping_needs_no_data() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &[]).await?;
    socket.say(&json!({"type": "ping", "id": "1"})).await?;
    assert_eq!(socket.answer("1").await?, json!({"type": "pong", "id": "1", "data": {"type": "pong"}}));
    // Android's keep-alive has no id and expects nothing.
    socket.say(&json!({"type": "ping"})).await?;
    ensure!(socket.pushes_until_now().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_flood_of_messages_is_refused_and_ends_nothing() -> Result<()> {
    let server = Process::start(&["--message-rate", "1", "--message-burst", "20"]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(socket.ask("ping", json!({})).await?);
    }
    let mut refused = 0;
    for id in ids {
        let response = socket.answer(&id).await?;
        if response["type"] != "pong" {
            assert_eq!(error_of(&response)?, "Too many messages");
            refused += 1;
        }
    }
    assert!((1..100).contains(&refused), "{refused} of 100 were refused");
    // A little later it may speak again.
    while socket.request("ping", json!({})).await?["type"] != "pong" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_removed_and_one_that_does_is_not() -> Result<()> {
    let server = Process::start(&["--ping-interval", "3s"]).await?;
    let mut alive = server.member("alice", "lobby").await?;
    let mut dead = server.member("bob", "lobby").await?;
    dead.ok("ptt-start", json!({"channelId": "lobby"})).await?;
    hears_that(&mut alive, "bob", "user-joined", 2).await?;
    // Bob reads no more. Alice, who waits for news of him, does, and so answers all pings.
    assert_eq!(alive.push_of("speaker-changed").await?["isBusy"], true);
    assert_eq!(alive.push_of("speaker-changed").await?["isBusy"], false);
    hears_that(&mut alive, "bob", "user-disconnected", 1).await?;
    server.until_connections(1).await?;
    alive.ok("ptt-start", json!({"channelId": "lobby"})).await?;
    Ok(())
}
