//! Faults of real processes, in the middle of a talk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use voiceping_testkit::soon;
use voiceping_testkit::voice::Heard;

use crate::cluster::{Cluster, Options};
use crate::phone::{hears_of, hears_of_the_end, join, press, release};
use crate::user::{User, until_speaks, user_name};

/// Short, so that the tests are; the shortest that a busy machine gets along with.
const LEASE: &str = "4s";

/// Two and two.
async fn cluster() -> Result<Cluster> {
    Cluster::with(2, 2, Options { gateway: &["--floor-lease", LEASE], ..Options::default() }).await
}

/// Packets without a gap.
#[track_caller]
fn assert_whole(heard: &[Heard], voice: u32) {
    assert!(heard.iter().all(|packet| packet.speaker == voice), "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "without a gap: {heard:?}");
}

/// The listener's gateway dies: the audio goes on, without its signaling. Its client comes to the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_listeners_gateway_is_killed() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    let before = bob.hear(20).await?;
    cluster.gateways[1].process.kill().await?;
    bob.socket.closed().await?;
    let after = bob.hear(100).await?;
    assert_whole(&[before, after].concat(), 1);
    // He comes back through the other gateway, and is told who speaks.
    let mut again = User::listening(&cluster, 0, 2, &channel).await?;
    again.hear_of(1).await?;
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    press(&mut again.socket, &channel).await?;
    Ok(())
}

/// The speaker's gateway dies: nobody else loses the channel for longer than the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_speakers_gateway_is_killed() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    hears_of(&mut bob.socket, &channel, &alice.name).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    cluster.gateways[0].process.kill().await?;
    hears_of_the_end(&mut bob.socket, &channel).await.context("the lease ends")?;
    press(&mut bob.socket, &channel).await?;
    // Her client goes on sending for a while; nobody hears it under somebody else's floor.
    bob.ear.rest();
    let mut carol = User::listening(&cluster, 1, 3, &channel).await?;
    voice.microphone.say(20).await?;
    carol.socket.pushes_until_now().await?;
    ensure!(carol.ear.rest().is_empty(), "the gate is closed");
    drop(speaking);
    // She comes to the other gateway and talks again.
    release(&mut bob.socket, &channel).await?;
    let mut again = User::listening(&cluster, 1, 1, &channel).await?;
    let voice = again.microphone(&channel).await?;
    press(&mut again.socket, &channel).await?;
    voice.microphone.say(10).await?;
    bob.hear_of(1).await?;
    Ok(())
}

/// A media node dies: existing clients are told to come again (1012), and are placed on the node that is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_is_killed() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    let killed = Instant::now();
    cluster.kill_media_node(1).await?;
    let close = bob.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "{close:?}");
    let mut again = User::listening(&cluster, 1, 2, &channel).await?;
    again.hear_of(1).await?;
    println!("heard again {:?} after the kill", killed.elapsed());
    drop(speaking);
    ensure!(
        alice.socket.pushes_until_now().await?.iter().all(|push| push["type"] == "channel-state"),
        "her talk goes on"
    );
    Ok(())
}

/// Redis is stopped for ten seconds: the talk goes on, presses are refused at once, and everything works after.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_stopped_for_a_while() -> Result<()> {
    // With the default lease: it is what outlives the outage.
    let cluster = Cluster::with(2, 2, Options::default()).await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    let mut heard = bob.hear(20).await?;
    let redis = cluster.redis();
    redis.signal("-STOP");
    let stopped = Instant::now();
    let mut refusals = 0;
    while stopped.elapsed() < Duration::from_secs(10) {
        let pressed = Instant::now();
        let answer = bob.socket.request("ptt-start", json!({"channelId": channel})).await?;
        assert_eq!(answer["type"], "ptt-denied", "{answer}");
        ensure!(pressed.elapsed() < Duration::from_secs(3), "a clear error soon: {answer}");
        refusals += 1;
        // A second of voice.
        heard.extend(bob.hear(50).await?);
    }
    ensure!(refusals > 2, "it was tried");
    redis.signal("-CONT");
    heard.extend(bob.hear(100).await?);
    assert_whole(&heard, 1);
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    press_until_granted(&mut bob, &channel).await?;
    let mut carol = cluster.socket(0, "carol", &channel).await?;
    let joined = join(&mut carol, &channel).await?;
    assert_eq!(joined["userCount"], 3, "presence is right: {joined}");
    Ok(())
}

/// The Redis master dies and a replica takes over: the talk goes on, and afterwards everything else.
#[tokio::test(flavor = "multi_thread")]
async fn redis_fails_over() -> Result<()> {
    let cluster = Arc::new(Cluster::with(2, 2, Options { watched: true, ..Options::default() }).await?);
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let epoch = press(&mut alice.socket, &channel).await?["epoch"].as_u64().context("an epoch")?;
    let speaking = voice.microphone.keep_speaking();
    let mut heard = bob.hear(20).await?;
    let watched = Arc::clone(&cluster);
    let failing = tokio::task::spawn_blocking(move || watched.watched().fail_over());
    while !failing.is_finished() {
        heard.extend(bob.hear(25).await?);
    }
    failing.await?;
    // Beyond the lease, which somebody has to renew at the new master.
    heard.extend(bob.hear(900).await?);
    assert_whole(&heard, 1);
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    let state = press_until_granted(&mut bob, &channel).await?;
    ensure!(state["epoch"].as_u64() > Some(epoch), "epochs only grow: {state}");
    let mut carol = cluster.socket(0, "carol", &channel).await?;
    let joined = join(&mut carol, &channel).await?;
    assert_eq!(joined["userCount"], 3, "presence is right: {joined}");
    cluster.assert_one_speaker()?;
    Ok(())
}

/// The connections to Redis come back in their own time, and a refusal has no event that ends it.
async fn press_until_granted(user: &mut User, channel: &str) -> Result<Value> {
    let granted = async {
        loop {
            let answer = user.socket.request("ptt-start", json!({"channelId": channel})).await?;
            if answer["type"] == "ptt-start" {
                return Ok(answer["data"]["state"].clone());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon("a grant", granted).await?
}

/// The holder's gateway is stopped until its lease has gone to somebody else, and goes on: what it says then is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_gateway_comes_back_too_late() -> Result<()> {
    let cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let bobs_voice = bob.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    hears_of(&mut bob.socket, &channel, &alice.name).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    cluster.gateways[0].process.signal("STOP").await?;
    hears_of_the_end(&mut bob.socket, &channel).await.context("the lease ends")?;
    press(&mut bob.socket, &channel).await?;
    cluster.gateways[0].process.signal("CONT").await?;
    // Through the gateway that was stopped she hears that she has lost it, and what is said now.
    until_speaks(&mut alice.socket, Some(&bob.name)).await?;
    bobs_voice.microphone.say(50).await?;
    alice.hear_of(2).await?;
    bob.ear.rest();
    let answer = alice.socket.request("ptt-start", json!({"channelId": channel})).await?;
    assert_eq!(answer["error"], format!("{} is speaking", crate::process::name(&bob.name)), "{answer}");
    // Her voice, which never stopped, is not heard by anybody.
    let mut carol = User::listening(&cluster, 0, 3, &channel).await?;
    bobs_voice.microphone.say(20).await?;
    let heard = carol.hear(10).await?;
    assert!(heard.iter().all(|packet| packet.speaker == 2), "{heard:?}");
    drop(speaking);
    Ok(())
}

/// A media node ends: it says so, its clients go elsewhere, and it ends when they have.
#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_is_drained() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    cluster.media_nodes[1].signal("TERM").await?;
    let close = bob.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "{close:?}");
    let mut again = User::listening(&cluster, 1, 2, &channel).await?;
    again.hear_of(1).await?;
    let status = cluster.media_nodes[1].ended().await?;
    ensure!(status.success(), "{status}: {}", cluster.media_nodes[1].log());
    again.hear_of(1).await?;
    drop(speaking);
    Ok(())
}

/// Every process in turn is replaced by a new one, while somebody speaks and somebody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_media_node_and_a_new_gateway_join_in_the_middle() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    let node = cluster.start_media_node(2, 0).await?;
    cluster.media_nodes.push(node);
    let gateway = cluster.start_gateway(2, 3, 0).await?;
    cluster.add_gateway(gateway);
    let mut bob = User::listening(&cluster, 2, 2, &channel).await?;
    assert_whole(&bob.hear(50).await?, 1);
    let joined = join(&mut bob.socket, &channel).await?;
    assert_eq!(joined["state"]["currentSpeaker"], user_name(1));
    drop(speaking);
    Ok(())
}

/// A media node is stopped with the call before it that opens a gate. Its gateway loses it, and a new device of the same user
/// may not take the floor over while that call could still be carried out.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_from_a_node_that_may_go_on() -> Result<()> {
    let mut cluster = Cluster::with(2, 2, Options { gateway: &["--floor-lease", "10s"], ..Options::default() }).await?;
    let channel = cluster.channel();
    let mut old = User::listening(&cluster, 0, 1, &channel).await?;
    let mut new = cluster.socket(1, &old.name, &channel).await?;
    join(&mut new, &channel).await?;
    cluster.media_nodes[0].signal("STOP").await?;
    let pressed = old.socket.ask("ptt-start", json!({"channelId": channel})).await?;
    hears_of(&mut new, &channel, &old.name).await.context("the state has granted it")?;
    // By then both gateways have lost the node.
    old.socket.closed().await.with_context(|| pressed)?;
    let granted = async {
        loop {
            let answer = new.request("ptt-start", json!({"channelId": channel})).await?;
            if answer["type"] == "ptt-start" {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // the end of a doubt has no event
        }
    };
    soon("a grant", granted).await??;
    cluster.media_nodes[0].signal("CONT").await?;
    // The node is there again, and what it had before it has been done.
    cluster.drain_media_node(0).await?;
    release(&mut new, &channel).await?;
    cluster.assert_one_speaker()?;
    Ok(())
}
