//! Members: who hears of whom, and that the sockets of one user never disturb each other (section 4).

use anyhow::{Result, ensure};
use serde_json::json;
use voiceping_testkit::signaling::Signaling;

use crate::phone::{assert_busy, assert_free, hears_of, hears_of_the_end, hears_that, join, press, release};
use crate::process::Process;

const CHANNEL: &str = "lobby";

#[tokio::test]
async fn coming_and_going_is_told_with_the_floor_as_it_is() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.socket("alice", &[CHANNEL]).await?;
    let joined = join(&mut alice, CHANNEL).await?;
    assert_eq!((&joined["channelId"], &joined["userCount"]), (&json!(CHANNEL), &json!(1)));
    assert_free(&joined["state"], CHANNEL);
    assert_eq!(joined["state"], joined["channelState"]);

    let mut bob = server.socket("bob", &[CHANNEL]).await?;
    assert_eq!(join(&mut bob, CHANNEL).await?["userCount"], 2);
    assert_free(&hears_that(&mut alice, "bob", "user-joined", 2).await?, CHANNEL);

    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    let mut carol = server.socket("carol", &[CHANNEL]).await?;
    let joined = join(&mut carol, CHANNEL).await?;
    assert_busy(&joined["state"], CHANNEL, "alice");
    assert_busy(&joined["channelState"], CHANNEL, "alice");
    for socket in [&mut alice, &mut bob] {
        assert_busy(&hears_that(socket, "carol", "user-joined", 3).await?, CHANNEL, "alice");
    }
    carol.ok("leave-channel", json!({"channelId": CHANNEL})).await?;
    for socket in [&mut alice, &mut bob] {
        assert_busy(&hears_that(socket, "carol", "user-left", 2).await?, CHANNEL, "alice");
    }
    release(&mut alice, CHANNEL).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    bob.close().await?;
    assert_free(&hears_that(&mut alice, "bob", "user-disconnected", 1).await?, CHANNEL);
    // Who has left is told nothing any more, and a join that is repeated tells nobody.
    assert_eq!(join(&mut alice, CHANNEL).await?["userCount"], 1);
    ensure!(carol.pushes_until_now().await?.is_empty() && alice.pushes_until_now().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_disconnected_speaker_frees_the_floor_before_it_is_gone() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    hears_that(&mut bob, "alice", "user-joined", 2).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    drop(alice); // without a close, as when the battery is empty
    hears_of_the_end(&mut bob, CHANNEL).await?;
    assert_free(&hears_that(&mut bob, "alice", "user-disconnected", 1).await?, CHANNEL);
    press(&mut bob, CHANNEL).await?;
    Ok(())
}

#[tokio::test]
async fn a_leaving_speaker_frees_the_floor() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    hears_that(&mut bob, "alice", "user-joined", 2).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    alice.ok("leave-channel", json!({"channelId": CHANNEL})).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    assert_free(&hears_that(&mut bob, "alice", "user-left", 1).await?, CHANNEL);
    press(&mut bob, CHANNEL).await?;
    Ok(())
}

/// The existing browser client opens a socket for each channel, people have phones and tablets, and reconnects overlap.
#[tokio::test]
async fn twenty_sockets_of_one_user_close_in_any_order_and_disturb_nobody() -> Result<()> {
    const SOCKETS: usize = 20;
    let server = Process::start(&[]).await?;
    let mut witness = server.socket("bob", &[CHANNEL]).await?;
    join(&mut witness, CHANNEL).await?;
    let mut sockets: Vec<Option<Signaling>> = Vec::new();
    for _ in 0..SOCKETS {
        let mut socket = server.socket("alice", &[CHANNEL]).await?;
        assert_eq!(join(&mut socket, CHANNEL).await?["userCount"], 2);
        sockets.push(Some(socket));
    }
    hears_that(&mut witness, "alice", "user-joined", 2).await?;
    let speaker = SOCKETS / 2;
    let speaking = sockets[speaker].as_mut().expect("open");
    press(speaking, CHANNEL).await?;
    hears_of(&mut witness, CHANNEL, "alice").await?;

    // An order that is neither first to last nor last to first: 7 and 20 have no common factor.
    let order: Vec<usize> = (0..SOCKETS).map(|step| step * 7 % SOCKETS).filter(|at| *at != speaker).collect();
    for (step, at) in order.iter().enumerate() {
        let socket = sockets[*at].take().expect("open");
        if step % 3 == 0 {
            drop(socket);
        } else {
            socket.close().await?;
        }
        server.until_connections((SOCKETS - step) as u64).await?;
        // Alice speaks on, is counted once, and the speaking socket still has the floor.
        let speaking = sockets[speaker].as_mut().expect("open");
        assert_busy(&press(speaking, CHANNEL).await?, CHANNEL, "alice");
        let state = join(&mut witness, CHANNEL).await?;
        assert_eq!(state["userCount"], 2);
        assert_busy(&state["state"], CHANNEL, "alice");
    }
    ensure!(witness.pushes_until_now().await?.is_empty(), "none of it was news to others");
    let speaking = sockets[speaker].as_mut().expect("open");
    let among_themselves = speaking.pushes_until_now().await?;
    ensure!(
        among_themselves.iter().all(|push| push["type"] == "channel-state" && push["userId"] != "alice"),
        "its own user's other sockets are no news: {among_themselves:?}"
    );
    release(speaking, CHANNEL).await?;
    hears_of_the_end(&mut witness, CHANNEL).await?;
    sockets[speaker].take().expect("open").close().await?;
    hears_that(&mut witness, "alice", "user-disconnected", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_socket_closing_in_the_middle_of_everything_leaves_nothing_behind() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut witness = server.socket("bob", &[CHANNEL]).await?;
    join(&mut witness, CHANNEL).await?;
    for _ in 0..20 {
        let mut socket = server.socket("alice", &[CHANNEL]).await?;
        // Everything at once, and gone before any of it is answered.
        socket.ask("join-channel", json!({"channelId": CHANNEL})).await?;
        socket.ask("create-transport", json!({"channelId": CHANNEL, "direction": "recv"})).await?;
        socket.ask("ptt-start", json!({"channelId": CHANNEL})).await?;
        drop(socket);
    }
    server.until_connections(1).await?;
    // Whatever of it was done was undone: in the end the floor is free and Bob alone.
    loop {
        let state = join(&mut witness, CHANNEL).await?;
        if state["userCount"] == 1 && state["state"]["isBusy"] == false {
            break;
        }
        witness.push().await?; // news of Alice is still coming
    }
    press(&mut witness, CHANNEL).await?;
    Ok(())
}

/// A join is answered beside the bus that tells of others. However the two race, a member ends with the right number.
#[tokio::test]
async fn a_crowd_that_joins_at_once_agrees_on_its_number() -> Result<()> {
    const CROWD: u64 = 8;
    let server = Process::start(&["--message-rate", "10000", "--message-burst", "10000"]).await?;
    let mut witness = server.socket("bob", &[CHANNEL]).await?;
    join(&mut witness, CHANNEL).await?;
    let mut sockets = Vec::new();
    for number in 0..CROWD {
        sockets.push(server.socket(&format!("user-{number}"), &[CHANNEL]).await?);
    }
    for round in 0..30 {
        let mut ids = Vec::new();
        for socket in &mut sockets {
            ids.push(socket.ask("join-channel", json!({"channelId": CHANNEL})).await?);
        }
        let mut counts = Vec::new();
        for (socket, id) in sockets.iter_mut().zip(&ids) {
            counts.push(socket.answer(id).await?["data"]["userCount"].as_u64().expect("a number"));
        }
        // The witness' talk is the fence: it is told after all that happened before.
        press(&mut witness, CHANNEL).await?;
        release(&mut witness, CHANNEL).await?;
        for (socket, mut count) in sockets.iter_mut().zip(counts) {
            loop {
                let push = socket.push().await?;
                if push["type"] == "speaker-changed" {
                    break;
                }
                let told = push["data"]["userCount"].as_u64().expect("a number");
                assert_eq!(told, count + 1, "round {round}: after {count} users were told");
                count = told;
            }
            hears_of_the_end(socket, CHANNEL).await?;
            assert_eq!(count, CROWD + 1, "round {round}");
        }
        for socket in &mut sockets {
            socket.ok("leave-channel", json!({"channelId": CHANNEL})).await?;
        }
        // The last one's leave has been told when the witness has heard it.
        while witness.push().await?["data"]["userCount"] != 1 {}
        for socket in &mut sockets {
            socket.pushes_until_now().await?;
        }
    }
    Ok(())
}
