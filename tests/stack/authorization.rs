//! Every message is authorized: only channels that were joined, only what is one's own (sections 1 and 3).

use anyhow::{Result, ensure};
use serde_json::json;
use voiceping_testkit::signaling::{Signaling, error_of};
use voiceping_testkit::{DtlsRole, device};

use crate::phone::{create_transport, hears_that, join, load_device, open_to_receive, open_to_send, press, release};
use crate::process::Process;

/// An error, whatever its text.
async fn is_refused(socket: &mut Signaling, kind: &str, data: serde_json::Value) -> Result<()> {
    socket.refused(kind, data).await.map(drop)
}

#[tokio::test]
async fn a_channel_that_the_token_does_not_list_is_closed() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.socket("alice", &["lobby"]).await?;
    let mut mallory = server.socket("mallory", &["elsewhere"]).await?;
    join(&mut alice, "lobby").await?;
    let denied = mallory.refused("join-channel", json!({"channelId": "lobby"})).await?;
    assert_eq!(denied, "Permission denied: Not authorized for this channel");
    let router = mallory.refused("get-router-capabilities", json!({"channelId": "lobby"})).await?;
    assert_eq!(router, "Router not found for channel lobby");
    is_refused(&mut mallory, "create-transport", json!({"channelId": "lobby", "direction": "recv"})).await?;
    is_refused(&mut mallory, "ptt-start", json!({"channelId": "lobby"})).await?;
    // Stopping is never an error, but it tells nothing and changes nothing.
    press(&mut alice, "lobby").await?;
    let state = release(&mut mallory, "lobby").await?;
    assert_eq!((&state["isBusy"], &state["currentSpeaker"]), (&json!(false), &json!(null)));
    mallory.ok("leave-channel", json!({"channelId": "lobby"})).await?;
    // All of that has changed nothing, and told nobody.
    join(&mut mallory, "elsewhere").await?;
    ensure!(mallory.pushes_until_now().await?.is_empty());
    let again = join(&mut alice, "lobby").await?;
    assert_eq!((&again["userCount"], &again["state"]["currentSpeaker"]), (&json!(1), &json!("alice")));
    Ok(())
}

#[tokio::test]
async fn nothing_works_before_a_join_or_after_a_leave() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby", "stage"]).await?;
    join(&mut socket, "stage").await?;
    let capabilities = load_device(&mut socket, "stage").await?;
    let mut send = open_to_send(&mut socket, "stage", DtlsRole::Client).await?;
    let (_, microphone) = send.produce(&mut socket, "stage", 1).await?;
    open_to_receive(&mut socket, "stage").await?;
    let rtp = device::rtp_parameters(&microphone);
    let requests = [
        ("create-transport", json!({"channelId": "lobby", "direction": "send"})),
        ("produce", json!({"transportId": send.id, "kind": "audio", "rtpParameters": rtp, "channelId": "lobby"})),
        ("consume", json!({"channelId": "lobby", "producerId": "floor:lobby", "rtpCapabilities": capabilities})),
        ("ptt-start", json!({"channelId": "lobby"})),
    ];
    for joined_before in [false, true] {
        if joined_before {
            join(&mut socket, "lobby").await?;
            let left = socket.ok("leave-channel", json!({"channelId": "lobby"})).await?;
            assert_eq!(left, json!({"channelId": "lobby", "success": true}));
        }
        let router = socket.refused("get-router-capabilities", json!({"channelId": "lobby"})).await?;
        assert_eq!(router, "Router not found for channel lobby");
        for (kind, data) in &requests {
            is_refused(&mut socket, kind, data.clone()).await?;
        }
    }
    // What it has elsewhere is untouched.
    press(&mut socket, "stage").await?;
    Ok(())
}

#[tokio::test]
async fn a_token_without_channels_depends_on_the_setting() -> Result<()> {
    let claims = json!({"userId": "a", "userName": "A", "exp": crate::process::in_seconds(60)});
    for (access, open) in [("open", true), ("listed", false)] {
        let server = Process::start(&["--channel-access", access]).await?;
        let mut socket = Signaling::connect(&server.url(), &crate::process::sign(&claims)).await?;
        let joined = socket.request("join-channel", json!({"channelId": "anywhere"})).await?;
        assert_eq!(joined["type"] == "join-channel", open, "{access}: {joined}");
        if !open {
            assert_eq!(error_of(&joined)?, "Permission denied: Not authorized for this channel");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_joins_so_many_channels_and_no_more() -> Result<()> {
    let server = Process::start(&["--max-channels", "2"]).await?;
    let mut socket = server.socket("alice", &["a", "b", "c"]).await?;
    join(&mut socket, "a").await?;
    join(&mut socket, "b").await?;
    let refused = socket.refused("join-channel", json!({"channelId": "c"})).await?;
    assert_eq!(refused, "Cannot join more than 2 channels simultaneously");
    join(&mut socket, "a").await?; // joining twice is joining once
    socket.ok("leave-channel", json!({"channelId": "a"})).await?;
    join(&mut socket, "c").await?;
    Ok(())
}

#[tokio::test]
async fn a_full_channel_is_full_for_another_user_but_not_for_another_device() -> Result<()> {
    let server = Process::start(&["--max-users", "2"]).await?;
    let mut alice = server.member("alice", "lobby").await?;
    let bob = server.member("bob", "lobby").await?;
    let mut carol = server.socket("carol", &["lobby"]).await?;
    assert_eq!(carol.refused("join-channel", json!({"channelId": "lobby"})).await?, "Channel is full");
    let mut tablet = server.socket("alice", &["lobby"]).await?;
    assert_eq!(join(&mut tablet, "lobby").await?["userCount"], 2);
    hears_that(&mut alice, "bob", "user-joined", 2).await?;
    bob.close().await?;
    hears_that(&mut alice, "bob", "user-disconnected", 1).await?;
    join(&mut carol, "lobby").await?;
    Ok(())
}

#[tokio::test]
async fn transports_and_producers_are_their_owners() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.socket("alice", &["lobby", "stage"]).await?;
    let mut mallory = server.socket("mallory", &["lobby"]).await?;
    for channel in ["lobby", "stage"] {
        join(&mut alice, channel).await?;
    }
    join(&mut mallory, "lobby").await?;
    let capabilities = load_device(&mut mallory, "lobby").await?;
    let mut send = open_to_send(&mut alice, "lobby", DtlsRole::Client).await?;
    let (producer, microphone) = send.produce(&mut alice, "stage", 1).await?;
    let consume =
        |producer: &str| json!({"channelId": "lobby", "producerId": producer, "rtpCapabilities": capabilities});
    let produce = |transport: &str| {
        let rtp = device::rtp_parameters(&microphone);
        json!({"transportId": transport, "kind": "audio", "rtpParameters": rtp, "channelId": "lobby"})
    };
    let connect = |transport: &str| {
        let dtls = device::dtls_parameters(DtlsRole::Client, send.media.fingerprint());
        json!({"transportId": transport, "dtlsParameters": dtls})
    };

    for stranger in [send.id.as_str(), "nobody's"] {
        let not_found = format!("Transport {stranger} not found");
        assert_eq!(mallory.refused("connect-transport", connect(stranger)).await?, not_found);
        assert_eq!(mallory.refused("produce", produce(stranger)).await?, not_found);
        assert_eq!(mallory.refused("restart-ice", json!({"transportId": stranger})).await?, not_found);
    }
    let no_transport = "Receive transport not found for consume operation";
    assert_eq!(mallory.refused("consume", consume("floor:lobby")).await?, no_transport);
    create_transport(&mut mallory, "lobby", "send").await?;
    assert_eq!(mallory.refused("consume", consume("floor:lobby")).await?, no_transport, "one to send will not do");
    let recv = create_transport(&mut mallory, "lobby", "recv").await?;
    let recv = recv["id"].as_str().expect("an id");
    for stranger in ["nobody's", "floor:stage", producer.as_str()] {
        // Alice's producer is on the stage, where Mallory is not.
        let not_found = format!("Producer {stranger} not found");
        assert_eq!(mallory.refused("consume", consume(stranger)).await?, not_found);
    }
    let not_found = format!("Transport {recv} not found");
    assert_eq!(mallory.refused("produce", produce(recv)).await?, not_found, "one to receive will not do");

    // What a transport needs is checked, too.
    is_refused(&mut mallory, "connect-transport", json!({"transportId": recv, "dtlsParameters": {}})).await?;
    let md5 = json!({"role": "client", "fingerprints": [{"algorithm": "md5", "value": "00"}]});
    is_refused(&mut mallory, "connect-transport", json!({"transportId": recv, "dtlsParameters": md5})).await?;
    let mut video = produce(&send.id);
    video["kind"] = "video".into();
    is_refused(&mut alice, "produce", video).await?;

    // Who owns it gets new credentials, each time others.
    let mut restart = async || alice.ok("restart-ice", json!({"transportId": send.id})).await;
    let (first, second) = (restart().await?, restart().await?);
    for field in ["usernameFragment", "password"] {
        assert!(first["iceParameters"][field].is_string(), "{first}");
        assert_ne!(first["iceParameters"][field], second["iceParameters"][field]);
    }

    // Both are as they were.
    mallory.ok("consume", consume("floor:lobby")).await?;
    press(&mut alice, "stage").await?;
    microphone.say(1).await?;
    Ok(())
}

#[tokio::test]
async fn transports_are_limited_and_their_limit_ends_nothing() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut socket = server.socket("alice", &["lobby"]).await?;
    join(&mut socket, "lobby").await?;
    let mut opened = 0;
    let refused = loop {
        let response = socket.request("create-transport", json!({"channelId": "lobby", "direction": "recv"})).await?;
        if response["type"] == "error" {
            break error_of(&response)?;
        }
        opened += 1;
        assert!(opened < 1000, "there is a limit");
    };
    assert!(opened >= 2 && refused.contains("transports"), "{opened} opened, then: {refused}");
    press(&mut socket, "lobby").await?;
    Ok(())
}
