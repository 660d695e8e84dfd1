//! Our own client's sessions: they outlive their gateway, and move when their media node ends.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use voiceping_testkit::voice::assert_one_stream;

use crate::cluster::{Cluster, Options};
use crate::phone::{hears_of, join, press, release};
use crate::user::{User, Voice, until_speaks};

async fn cluster() -> Result<Cluster> {
    Cluster::with(2, 2, Options { gateway: &["--floor-lease", "4s"], ..Options::default() }).await
}

/// Asks for a session, which has not been before: its ticket.
pub(crate) async fn begin(user: &mut User) -> Result<Value> {
    let session = user.socket.ok("session", json!({})).await?;
    assert_eq!(session["resumed"], false, "{session}");
    Ok(session["ticket"].clone())
}

/// Goes on with a session on a new socket, through this gateway.
pub(crate) async fn resume(
    cluster: &Cluster,
    gateway: usize,
    user: &mut User,
    channel: &str,
    ticket: &Value,
) -> Result<Value> {
    user.socket = cluster.socket(gateway, &user.name, channel).await?;
    let session = user.socket.ok("session", json!({"ticket": ticket})).await?;
    assert_eq!(session["resumed"], true, "{session}");
    ensure!(session["transports"].as_array().is_some_and(|open| !open.is_empty()), "its transports: {session}");
    join(&mut user.socket, channel).await?;
    Ok(session["ticket"].clone())
}

/// Both the speaker's and the listener's gateway die, one after the other, in the middle of a talk. Nobody hears a gap, and
/// the floor stays the speaker's beyond its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_talk_outlives_every_gateway_that_it_began_on() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let mut ticket = begin(&mut alice).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let mut bobs_ticket = begin(&mut bob).await?;
    press(&mut alice.socket, &channel).await?;
    hears_of(&mut bob.socket, &channel, &alice.name).await?;
    let speaking = voice.microphone.keep_speaking();
    let mut heard = bob.hear(20).await?;
    for round in 0..2 {
        cluster.gateways[0].process.kill().await?;
        ticket = resume(&cluster, 1, &mut alice, &channel, &ticket).await?;
        cluster.replace_gateway(0).await?;
        cluster.gateways[1].process.kill().await?;
        bobs_ticket = resume(&cluster, 0, &mut bob, &channel, &bobs_ticket).await?;
        ticket = resume(&cluster, 0, &mut alice, &channel, &ticket).await?;
        cluster.replace_gateway(1).await?;
        heard.extend(bob.hear(150).await.with_context(|| format!("in round {round}"))?);
    }
    let gap = heard.windows(2).find(|pair| pair[1].number != pair[0].number + 1);
    ensure!(gap.is_none(), "without a gap: {gap:?}");
    drop(speaking);
    let told = bob.socket.pushes_until_now().await?;
    ensure!(told.iter().all(|push| push["type"] != "speaker-changed"), "nothing has changed for him: {told:?}");
    release(&mut alice.socket, &channel).await?;
    until_speaks(&mut bob.socket, None).await?;
    press(&mut bob.socket, &channel).await?;
    cluster.assert_one_speaker()?;
    Ok(())
}

/// Gateways are replaced in turn, in order. Nobody is counted out, no talk is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_talk_outlives_the_restart_of_every_gateway() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let mut ticket = begin(&mut alice).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    let mut heard = bob.hear(20).await?;
    bob.socket.pushes_until_now().await?;
    cluster.gateways[0].process.signal("TERM").await?;
    let close = alice.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "{close:?}");
    ticket = resume(&cluster, 1, &mut alice, &channel, &ticket).await?;
    let status = cluster.gateways[0].process.ended().await?;
    ensure!(status.success(), "it ends in order: {status}");
    cluster.replace_gateway(0).await?;
    heard.extend(bob.hear(300).await?);
    let told = bob.socket.pushes_until_now().await?;
    ensure!(told.is_empty(), "he notices nothing: {told:?}");
    // Now the one that serves both. He is an existing client, and comes anew.
    cluster.gateways[1].process.signal("TERM").await?;
    resume(&cluster, 0, &mut alice, &channel, &ticket).await?;
    bob.socket.closed().await?;
    let mut again = User::listening(&cluster, 0, 2, &channel).await?;
    again.hear_of(1).await?;
    cluster.gateways[1].process.ended().await?;
    let gap = heard.windows(2).find(|pair| pair[1].number != pair[0].number + 1);
    ensure!(gap.is_none(), "without a gap: {gap:?}");
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    cluster.assert_one_speaker()?;
    Ok(())
}

/// The media node of both the speaker and a listener dies. They are told, keep their sockets and the floor, and go on
/// with new transports on the node that is left.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_move_when_their_media_node_dies() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    begin(&mut alice).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 0, 2, &channel).await?;
    begin(&mut bob).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    let killed = std::time::Instant::now();
    cluster.kill_media_node(0).await?;
    for user in [&mut alice, &mut bob] {
        until_moved(user, "node-lost").await?;
    }
    drop(speaking);
    let voice = alice.microphone(&channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.listen_again(&channel).await?;
    bob.hear_of(1).await?;
    println!("heard again {:?} after the kill", killed.elapsed());
    drop(speaking);
    let state = join(&mut bob.socket, &channel).await?;
    assert_eq!(state["state"]["currentSpeaker"], alice.name, "the floor was hers all the time: {state}");
    release(&mut alice.socket, &channel).await?;
    cluster.assert_one_speaker()?;
    Ok(())
}

/// A media node is about to end. Whoever presses before having moved is heard from where he is, and goes on from the
/// other node after.
#[tokio::test(flavor = "multi_thread")]
async fn a_talk_that_begins_on_a_draining_node_is_heard() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    begin(&mut alice).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    cluster.media_nodes[0].signal("TERM").await?;
    until_moved(&mut alice, "draining").await?;
    press(&mut alice.socket, &channel).await?;
    voice.microphone.say(10).await?;
    let mut heard = bob.hear(10).await?;
    release(&mut alice.socket, &channel).await?;
    let moved = alice.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    moved.microphone.say(10).await?;
    heard.extend(bob.hear(10).await?);
    assert_one_stream(&heard, &[10, 10]);
    release(&mut alice.socket, &channel).await?;
    alice.socket.close().await?;
    let status = cluster.media_nodes[0].ended().await?;
    ensure!(status.success(), "it ends when it is empty: {status}");
    cluster.assert_one_speaker()?;
    Ok(())
}

/// A rolling restart: every gateway and every media node is replaced in turn while two talk to each other. Media nodes drain,
/// gateways are told to end; nobody has to press twice, and nobody is counted out.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_outlives_the_replacement_of_every_process() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut users = Vec::new();
    for voice in 0..2 {
        let mut user = User::listening(&cluster, voice as usize, voice, &channel).await?;
        let ticket = begin(&mut user).await?;
        let microphone = user.microphone(&channel).await?;
        users.push((user, microphone, ticket));
    }
    say_something(&mut users, &channel).await?;
    for number in 0..2 {
        cluster.gateways[number].process.signal("TERM").await?;
        let other = 1 - number;
        for (user, _, ticket) in &mut users {
            // Who was at the other gateway still has his socket; coming again is allowed at any time.
            *ticket = resume(&cluster, other, user, &channel, ticket).await?;
        }
        cluster.gateways[number].process.ended().await?;
        cluster.replace_gateway(number).await?;
        say_something(&mut users, &channel).await?;
    }
    // Each is on the node of his region. Who was on the first is on the second when that ends.
    for (number, there) in [(0, 0..1), (1, 0..2)] {
        cluster.media_nodes[number].signal("TERM").await?;
        for (user, voice, _) in &mut users[there] {
            until_moved(user, "draining").await?;
            user.listen_again(&channel).await?;
            let former = std::mem::replace(voice, user.microphone(&channel).await?);
            former.close().await?;
        }
        say_something(&mut users, &channel).await?;
        let status = cluster.media_nodes[number].ended().await?;
        ensure!(status.success(), "it ends when it is empty: {status}");
        cluster.replace_media_node(number).await?;
    }
    say_something(&mut users, &channel).await?;
    let joined = join(&mut users[0].0.socket, &channel).await?;
    assert_eq!(joined["userCount"], 2, "{joined}");
    cluster.assert_one_speaker()?;
    Ok(())
}

/// One after the other presses, speaks, and is heard by the other.
async fn say_something(users: &mut [(User, Voice, Value)], channel: &str) -> Result<()> {
    for speaker in 0..users.len() {
        let (user, voice, _) = &mut users[speaker];
        press(&mut user.socket, channel).await?;
        voice.microphone.say(10).await?;
        let spoken_by = user.voice;
        for (listener, _, _) in users.iter_mut().filter(|(other, _, _)| other.voice != spoken_by) {
            let heard = listener.hear(10).await?;
            ensure!(heard.iter().all(|packet| packet.speaker == spoken_by), "{heard:?}");
        }
        release(&mut users[speaker].0.socket, channel).await?;
    }
    Ok(())
}

/// Reads pushes until the one that says that the media goes elsewhere.
pub(crate) async fn until_moved(user: &mut User, reason: &str) -> Result<()> {
    loop {
        let push = user.socket.push().await?;
        if push["type"] == "media-moved" {
            assert_eq!(push["data"]["reason"], reason, "{push}");
            return Ok(());
        }
    }
}

/// A session whose client never comes back is forgotten, and its floor and its transports with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_resumes_ends() -> Result<()> {
    let flags = ["--floor-lease", "4s", "--resume-grace", "2s"];
    let cluster = Cluster::with(2, 1, Options { gateway: &flags, ..Options::default() }).await?;
    let channel = cluster.channel();
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let ticket = begin(&mut alice).await?;
    press(&mut alice.socket, &channel).await?;
    let name = alice.name.clone();
    drop(alice);
    until_speaks(&mut bob.socket, Some(&name)).await?;
    until_speaks(&mut bob.socket, None).await?;
    let gone = bob.socket.push_of("channel-state").await?;
    assert_eq!((&gone["action"], &gone["userCount"]), (&json!("user-disconnected"), &json!(1)), "{gone}");
    let mut late = cluster.socket(1, &name, &channel).await?;
    let session = late.ok("session", json!({"ticket": ticket})).await?;
    assert_eq!(session["resumed"], false, "there is nothing to go on with: {session}");
    join(&mut late, &channel).await?;
    press(&mut late, &channel).await?;
    Ok(())
}
