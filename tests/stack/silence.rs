//! A floor does not outlive its holder's media: silence and a lost transport free it.

use std::time::{Duration, Instant};

use anyhow::Result;
use voiceping_testkit::DtlsRole;

use crate::phone::{hears_of, hears_of_the_end, open_to_send, press, release};
use crate::process::Process;

const CHANNEL: &str = "lobby";

#[tokio::test]
async fn a_holder_who_never_sends_anything_loses_the_floor_after_four_seconds() -> Result<()> {
    let server = Process::start(&["--silence-limit", "4s"]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    alice.push_of("channel-state").await?;
    let pressed = Instant::now();
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    let after = pressed.elapsed();
    assert!(after > Duration::from_millis(3900), "after {after:?}");
    hears_of_the_end(&mut alice, CHANNEL).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    Ok(())
}

#[tokio::test]
async fn a_holder_who_falls_silent_loses_the_floor_after_four_seconds() -> Result<()> {
    let server = Process::start(&["--silence-limit", "4s"]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    alice.push_of("channel-state").await?;
    let mut send = open_to_send(&mut alice, CHANNEL, DtlsRole::Client).await?;
    let (_, microphone) = send.produce(&mut alice, CHANNEL, 1).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    microphone.say(50).await?;
    let silent = Instant::now();
    hears_of_the_end(&mut bob, CHANNEL).await?;
    let after = silent.elapsed();
    assert!(after > Duration::from_millis(3500), "after {after:?}");
    hears_of_the_end(&mut alice, CHANNEL).await?;
    // Not for good.
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    release(&mut alice, CHANNEL).await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    Ok(())
}

#[tokio::test]
async fn a_holder_whose_transport_says_goodbye_loses_the_floor_at_once() -> Result<()> {
    let server = Process::start(&["--silence-limit", "600s"]).await?;
    let mut alice = server.member("alice", CHANNEL).await?;
    let mut bob = server.member("bob", CHANNEL).await?;
    // Long before its silence would count.
    let mut send = open_to_send(&mut alice, CHANNEL, DtlsRole::Client).await?;
    let (_, microphone) = send.produce(&mut alice, CHANNEL, 1).await?;
    press(&mut alice, CHANNEL).await?;
    hears_of(&mut bob, CHANNEL, "alice").await?;
    microphone.say(5).await?;
    send.media.close().await?;
    hears_of_the_end(&mut bob, CHANNEL).await?;
    Ok(())
}
