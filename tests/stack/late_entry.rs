//! Late entry: a client that comes while somebody speaks is told when it can listen, and again until it does
//! (section 6, rule 3).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::phone::{create_transport, hears_of, hears_of_the_end, load_device, open_to_receive, press, release};
use crate::process::Process;

const CHANNEL: &str = "lobby";

#[tokio::test]
async fn who_comes_late_is_told_after_the_transport_to_receive_and_reminded_twice() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    press(&mut alice, CHANNEL).await?;

    let mut bob = server.member("bob", CHANNEL).await?;
    load_device(&mut bob, CHANNEL).await?;
    create_transport(&mut bob, CHANNEL, "send").await?;
    ensure!(bob.pushes_until_now().await?.is_empty(), "not before it can listen");
    let asked = Instant::now();
    create_transport(&mut bob, CHANNEL, "recv").await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    for reminder in [Duration::from_millis(400), Duration::from_secs(1)] {
        hears_of(&mut bob, CHANNEL, "alice").await?;
        assert!(asked.elapsed() >= reminder, "reminded after {:?}", asked.elapsed());
    }
    // And then no more: the end of the talk is next.
    alice.pushes_until_now().await?;
    release(&mut alice, CHANNEL).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    Ok(())
}

#[tokio::test]
async fn who_listens_is_not_reminded() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    press(&mut alice, CHANNEL).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    let capabilities = load_device(&mut bob, CHANNEL).await?;
    let mut recv = open_to_receive(&mut bob, CHANNEL).await?;
    let producer = hears_of(&mut bob, CHANNEL, "alice").await?;
    recv.consume(&mut bob, CHANNEL, &producer, &capabilities).await?;
    // On a slow machine he was reminded before he listened.
    bob.pushes_until_now().await?;
    // Carol comes after him and does not listen. When she has been reminded, Bob would have been.
    let mut carol = server.member("carol", CHANNEL).await?;
    create_transport(&mut carol, CHANNEL, "recv").await?;
    for _ in 0..3 {
        hears_of(&mut carol, CHANNEL, "alice").await?;
    }
    let pushes = bob.pushes_until_now().await?;
    ensure!(pushes.iter().all(|push| push["type"] == "channel-state"), "{pushes:?}");
    Ok(())
}

#[tokio::test]
async fn who_comes_to_a_silent_channel_is_told_nothing_and_a_speaker_nothing_of_himself() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    create_transport(&mut alice, CHANNEL, "recv").await?;
    ensure!(alice.pushes_until_now().await?.is_empty());
    press(&mut alice, CHANNEL).await?;
    create_transport(&mut alice, CHANNEL, "recv").await?;
    // A late listener's reminders are the fence.
    let mut bob = server.member("bob", CHANNEL).await?;
    create_transport(&mut bob, CHANNEL, "recv").await?;
    for _ in 0..3 {
        hears_of(&mut bob, CHANNEL, "alice").await?;
    }
    let pushes = alice.pushes_until_now().await?;
    ensure!(pushes.iter().all(|push| push["type"] == "channel-state"), "{pushes:?}");
    // A talk that ends takes its reminders with it.
    release(&mut alice, CHANNEL).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    press(&mut alice, CHANNEL).await?;
    create_transport(&mut bob, CHANNEL, "recv").await?;
    hears_of(&mut bob, CHANNEL, "alice").await?; // as everybody
    hears_of(&mut bob, CHANNEL, "alice").await?; // after the transport
    release(&mut alice, CHANNEL).await?;
    // Reminders come before the end, if the release was slow.
    while bob.push_of("speaker-changed").await?["isBusy"] == true {}
    // By the time that one who comes late elsewhere has been reminded, Bob would have been.
    let mut dave = server.member("dave", "stage").await?;
    press(&mut dave, "stage").await?;
    let mut erin = server.member("erin", "stage").await?;
    create_transport(&mut erin, "stage", "recv").await?;
    for _ in 0..3 {
        hears_of(&mut erin, "stage", "dave").await?;
    }
    ensure!(bob.pushes_until_now().await?.is_empty(), "nobody is reminded of a talk that is over");
    Ok(())
}
