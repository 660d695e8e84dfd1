//! The floor: one speaker, told to everybody else exactly once (sections 3, 4 and 6).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::{DtlsRole, soon};

use crate::phone::{
    assert_busy, assert_free, hears_of, hears_of_the_end, hears_that, join, open_to_send, press, release,
};
use crate::process::Process;

const CHANNEL: &str = "lobby";

/// A socket of each user, on the channel, with the news of their joining taken.
async fn members<const N: usize>(server: &Process, users: [&str; N]) -> Result<[Signaling; N]> {
    let mut sockets: Vec<Signaling> = Vec::new();
    for (before, user) in users.into_iter().enumerate() {
        let socket = server.member(user, CHANNEL).await?;
        for socket in &mut sockets {
            hears_that(socket, user, "user-joined", before as u64 + 1).await?;
        }
        sockets.push(socket);
    }
    Ok(sockets.try_into().expect("one socket for each user"))
}

#[tokio::test]
async fn a_change_is_told_once_to_everybody_but_the_speaker() -> Result<()> {
    let server = Process::start(&[]).await?;
    let [mut alice, mut bob, mut carol] = members(&server, ["alice", "bob", "carol"]).await?;
    for _ in 0..3 {
        assert_busy(&press(&mut alice, CHANNEL).await?, CHANNEL, "alice");
        for listener in [&mut bob, &mut carol] {
            assert_eq!(hears_of(listener, CHANNEL, "alice").await?, "floor:lobby");
        }
        assert_free(&release(&mut alice, CHANNEL).await?, CHANNEL);
        for listener in [&mut bob, &mut carol] {
            hears_of_the_end(listener, CHANNEL).await?;
        }
    }
    // Bob's talk is the fence: whatever had been queued twice would come before it.
    press(&mut bob, CHANNEL).await?;
    for listener in [&mut alice, &mut carol] {
        hears_of(listener, CHANNEL, "bob").await?;
    }
    ensure!(bob.pushes_until_now().await?.is_empty(), "a speaker is not told of himself");
    Ok(())
}

#[tokio::test]
async fn a_second_press_is_denied_with_the_speakers_name() -> Result<()> {
    let server = Process::start(&[]).await?;
    let [mut alice, mut bob] = members(&server, ["alice", "bob"]).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    let mut denied = bob.request("ptt-start", json!({"channelId": CHANNEL})).await?;
    let fields = denied.as_object_mut().expect("an object");
    assert!(fields.remove("id").is_some_and(|id| id.is_string()));
    assert!(fields.remove("code").is_some_and(|code| code.is_string()), "a stable code");
    let data = json!({
        "success": false,
        "denied": true,
        "channelId": CHANNEL,
        "currentSpeaker": "alice",
        "currentSpeakerName": "Alice",
        "message": "Alice is speaking",
    });
    assert_eq!(denied, json!({"type": "ptt-denied", "error": "Alice is speaking", "data": data}));
    // The denied press has changed nothing and told nobody.
    assert_busy(&press(&mut alice, CHANNEL).await?, CHANNEL, "alice");
    release(&mut alice, CHANNEL).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    press(&mut bob, CHANNEL).await?;
    hears_of(&mut alice, CHANNEL, "bob").await?;
    Ok(())
}

#[tokio::test]
async fn pressing_again_is_success_and_no_news() -> Result<()> {
    let server = Process::start(&[]).await?;
    let [mut alice, mut bob] = members(&server, ["alice", "bob"]).await?;
    let first = press(&mut alice, CHANNEL).await?;
    let second = press(&mut alice, CHANNEL).await?;
    assert_eq!(first["lockTimestamp"], second["lockTimestamp"], "the same talk");
    release(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    Ok(())
}

#[tokio::test]
async fn a_release_by_who_does_not_speak_changes_nothing() -> Result<()> {
    let server = Process::start(&[]).await?;
    let [mut alice, mut bob] = members(&server, ["alice", "bob"]).await?;
    assert_free(&release(&mut bob, CHANNEL).await?, CHANNEL);
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    assert_busy(&release(&mut bob, CHANNEL).await?, CHANNEL, "alice");
    // Not even by another device of the speaker.
    let mut tablet = server.member("alice", CHANNEL).await?;
    assert_busy(&release(&mut tablet, CHANNEL).await?, CHANNEL, "alice");
    tablet.close().await?;
    assert_busy(&press(&mut alice, CHANNEL).await?, CHANNEL, "alice");
    release(&mut alice, CHANNEL).await?;
    assert_free(&release(&mut alice, CHANNEL).await?, CHANNEL);
    hears_of_the_end(&mut bob, CHANNEL).await?;
    Ok(())
}

#[tokio::test]
async fn of_many_who_press_at_once_one_speaks() -> Result<()> {
    const CROWD: usize = 12;
    let server = Process::start(&[]).await?;
    let mut sockets = Vec::new();
    for number in 0..CROWD {
        sockets.push(server.member(&format!("user-{number}"), CHANNEL).await?);
    }
    for socket in &mut sockets {
        socket.pushes_until_now().await?;
    }
    let mut talks = 0;
    for _ in 0..10 {
        let mut ids = Vec::new();
        for socket in &mut sockets {
            ids.push(socket.ask("ptt-start", json!({"channelId": CHANNEL})).await?);
        }
        let mut granted = Vec::new();
        let mut named = BTreeMap::new();
        for (number, (socket, id)) in sockets.iter_mut().zip(&ids).enumerate() {
            let answer = socket.answer(id).await?;
            if answer["type"] == "ptt-start" {
                granted.push(number);
            } else {
                assert_eq!(answer["data"]["denied"], true, "{answer}");
                *named.entry(answer["data"]["currentSpeaker"].as_str().expect("a name").to_owned()).or_insert(0) += 1;
            }
        }
        assert_eq!(granted.len(), 1, "{granted:?}");
        assert_eq!(named, BTreeMap::from([(format!("user-{}", granted[0]), CROWD - 1)]));
        release(&mut sockets[granted[0]], CHANNEL).await?;
        talks += 1;
        for (number, socket) in sockets.iter_mut().enumerate() {
            if number != granted[0] {
                hears_of(socket, CHANNEL, &format!("user-{}", granted[0])).await?;
                hears_of_the_end(socket, CHANNEL).await?;
            }
        }
    }
    assert_eq!(talks, 10);
    for socket in &mut sockets {
        ensure!(socket.pushes_until_now().await?.is_empty(), "everything was told once");
    }
    Ok(())
}

#[tokio::test]
async fn floors_of_two_channels_do_not_meet() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut bob = server.socket("bob", &["red", "blue"]).await?;
    for channel in ["red", "blue"] {
        join(&mut bob, channel).await?;
    }
    let mut alice = server.socket("alice", &["red", "blue"]).await?;
    for channel in ["red", "blue"] {
        join(&mut alice, channel).await?;
        hears_that(&mut bob, "alice", "user-joined", 2).await?;
    }
    press(&mut alice, "red").await?;
    hears_of(&mut bob, "red", "alice").await?;
    press(&mut bob, "blue").await?;
    hears_of(&mut alice, "blue", "bob").await?;
    press(&mut alice, "red").await?;
    release(&mut alice, "red").await?;
    hears_of_the_end(&mut bob, "red").await?;
    assert_busy(&press(&mut bob, "blue").await?, "blue", "bob");
    // One may speak on both.
    press(&mut bob, "red").await?;
    hears_of(&mut alice, "red", "bob").await?;
    Ok(())
}

#[tokio::test]
async fn a_talk_goes_on_beyond_its_lease_and_ends_at_its_limit() -> Result<()> {
    let server = Process::start(&["--floor-lease", "4s", "--talk-limit", "9s"]).await?;
    let [mut alice, mut bob] = members(&server, ["alice", "bob"]).await?;
    let mut send = open_to_send(&mut alice, CHANNEL, DtlsRole::Client).await?;
    let (_, microphone) = send.produce(&mut alice, CHANNEL, 1).await?;
    let pressed = Instant::now();
    press(&mut alice, CHANNEL).await?;
    let _speaking = microphone.keep_speaking();
    hears_of(&mut bob, CHANNEL, "alice").await?;
    // The speaker hears of it too: it was not his doing.
    for socket in [&mut bob, &mut alice] {
        let ended = socket.push_of("speaker-changed").await?;
        assert_free(&ended, CHANNEL);
        assert_eq!(ended["reason"], "talk-limit", "{ended}");
    }
    let lasted = pressed.elapsed();
    assert!(lasted > Duration::from_millis(8900), "it lasted {lasted:?}");
    press(&mut bob, CHANNEL).await?;
    hears_of(&mut alice, CHANNEL, "bob").await?;
    Ok(())
}

/// Rule 4 of section 6: the floor belongs to a connection, and a silent one's user may go on with a new one.
#[tokio::test]
async fn a_user_who_reconnects_takes_over_from_the_connection_that_fell_silent() -> Result<()> {
    let server = Process::start(&[]).await?;
    let [mut old, mut bob] = members(&server, ["alice", "bob"]).await?;
    let mut send = open_to_send(&mut old, CHANNEL, DtlsRole::Client).await?;
    let (_, microphone) = send.produce(&mut old, CHANNEL, 1).await?;
    press(&mut old, CHANNEL).await?;
    let speaking = microphone.keep_speaking();
    hears_of(&mut bob, CHANNEL, "alice").await?;
    let mut new = server.socket("alice", &[CHANNEL]).await?;
    assert_busy(&join(&mut new, CHANNEL).await?["state"], CHANNEL, "alice");

    // While the old one speaks, and until it has been silent for a second, the user is busy to himself.
    let denied = new.request("ptt-start", json!({"channelId": CHANNEL})).await?;
    assert_eq!((&denied["type"], &denied["error"]), (&json!("ptt-denied"), &json!("Alice is speaking")));
    drop(speaking);
    let silent = Instant::now();
    let taken_over = async {
        loop {
            let answer = new.request("ptt-start", json!({"channelId": CHANNEL})).await?;
            if answer["type"] == "ptt-start" {
                return anyhow::Ok(answer["data"]["state"].clone());
            }
            assert_eq!(answer["data"]["currentSpeaker"], "alice", "{answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let state = soon("the old connection's silence", taken_over).await??;
    let after = silent.elapsed();
    assert_busy(&state, CHANNEL, "alice");
    assert!(after > Duration::from_millis(500), "taken over after {after:?}");
    // The old one has lost it, and can neither release nor speak.
    let told = old.push_of("speaker-changed").await?;
    assert_busy(&told, CHANNEL, "alice");
    assert_busy(&release(&mut old, CHANNEL).await?, CHANNEL, "alice");
    let denied = old.request("ptt-start", json!({"channelId": CHANNEL})).await?;
    assert_eq!(denied["type"], "ptt-denied");
    release(&mut new, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?; // the take-over is a change
    hears_of_the_end(&mut bob, CHANNEL).await?;
    // Another user takes over nothing.
    let mut carol = server.member("carol", CHANNEL).await?;
    press(&mut new, CHANNEL).await?;
    let denied: Value = carol.request("ptt-start", json!({"channelId": CHANNEL})).await?;
    assert_eq!(denied["type"], "ptt-denied");
    Ok(())
}
