//! What must be so in every deployment: the same functions over one process and over clusters.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use voiceping_testkit::voice::assert_one_stream;

use crate::cluster::{Cluster, Shape};
use crate::phone::{
    create_transport, hears_of, hears_of_the_end, hears_that, join, load_device, open_to_receive, press, release,
};
use crate::user::{User, user_name};

/// One test for each scenario and deployment.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        scenarios!(in_one_process, Shape::AllInOne, $($name),*);
        scenarios!(on_two_and_two, Shape::Cluster(2, 2), $($name),*);
        scenarios!(on_three_and_three, Shape::Cluster(3, 3), $($name),*);
    };
    ($deployment:ident, $shape:expr, $($name:ident),*) => {
        mod $deployment {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() -> Result<()> {
                    super::$name(&Cluster::start($shape).await?).await
                }
            )*
        }
    };
}

scenarios!(
    every_talk_is_heard_whole_wherever_its_listeners_are,
    who_comes_late_hears_the_rest,
    of_all_who_press_at_once_one_is_granted,
    every_change_is_told_once_to_everybody_but_the_speaker,
    who_is_gone_frees_the_floor,
    a_user_is_counted_once_whatever_his_devices,
    a_new_device_takes_over_from_one_that_is_silent,
    talks_on_two_channels_do_not_mix,
);

/// Listeners everywhere consume once; two speakers in turn, on different nodes; then the first again.
async fn every_talk_is_heard_whole_wherever_its_listeners_are(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut listeners = Vec::new();
    for number in 0..3 {
        listeners.push(User::listening(cluster, number, number as u32, &channel).await?);
    }
    let mut speakers = Vec::new();
    for number in 0..2 {
        let mut speaker = User::listening(cluster, number, 10 + number as u32, &channel).await?;
        let voice = speaker.microphone(&channel).await?;
        speakers.push((speaker, voice));
    }
    let mut heard: Vec<Vec<_>> = listeners.iter().map(|_| Vec::new()).collect();
    for turn in [0, 1, 0] {
        let (speaker, voice) = &mut speakers[turn];
        press(&mut speaker.socket, &channel).await?;
        voice.microphone.say(15).await?;
        for (listener, heard) in listeners.iter_mut().zip(&mut heard) {
            heard.extend(listener.hear(15).await?);
        }
        release(&mut speaker.socket, &channel).await?;
    }
    for heard in &heard {
        assert_one_stream(heard, &[15, 15, 15]);
        let voices: Vec<u32> = heard.iter().step_by(15).map(|packet| packet.speaker).collect();
        assert_eq!(voices, [10, 11, 10]);
    }
    for (at, (speaker, _)) in speakers.iter_mut().enumerate() {
        let own = 10 + at as u32;
        let rest = speaker.ear.rest();
        ensure!(rest.iter().all(|packet| packet.speaker != own), "nobody hears himself: {rest:?}");
    }
    Ok(())
}

/// The only listener so far is on the speaker's node; one comes on another node while the talk goes on.
async fn who_comes_late_hears_the_rest(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut alice = User::listening(cluster, 0, 1, &channel).await?;
    let mut bob = User::listening(cluster, 0, 2, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    // In the order of an existing client: it is told who speaks when it can listen.
    let mut carol = cluster.socket(1, "carol", &channel).await?;
    let joined = join(&mut carol, &channel).await?;
    assert_eq!(joined["state"]["currentSpeaker"], user_name(1));
    let capabilities = load_device(&mut carol, &channel).await?;
    let mut recv = open_to_receive(&mut carol, &channel).await?;
    let producer = hears_of(&mut carol, &channel, &user_name(1)).await?;
    let asked_at = voice.microphone.spoken();
    let mut ear = recv.consume(&mut carol, &channel, &producer, &capabilities).await?;
    let heard = ear.hear(10).await?;
    ensure!(heard.iter().all(|packet| packet.speaker == 1), "{heard:?}");
    ensure!(heard[0].number + 10 >= asked_at, "the rest, not the past: {heard:?}");
    assert!(heard.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "without a gap: {heard:?}");
    drop(speaking);
    Ok(())
}

async fn of_all_who_press_at_once_one_is_granted(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut sockets = Vec::new();
    for number in 0..9 {
        let mut socket = cluster.socket(number, &user_name(number as u32), &channel).await?;
        join(&mut socket, &channel).await?;
        sockets.push(socket);
    }
    for _ in 0..5 {
        let presses =
            join_all(sockets.iter_mut().map(|socket| socket.request("ptt-start", json!({"channelId": channel})))).await;
        let answers: Vec<Value> = presses.into_iter().collect::<Result<_>>()?;
        let granted: Vec<usize> = (0..answers.len()).filter(|at| answers[*at]["type"] == "ptt-start").collect();
        let [holder] = granted[..] else { anyhow::bail!("one is granted: {answers:?}") };
        let name = answers[holder]["data"]["state"]["speakerName"].as_str().expect("a name").to_owned();
        for (at, answer) in answers.iter().enumerate().filter(|(at, _)| *at != holder) {
            assert_eq!(answer["type"], "ptt-denied", "{at}: {answer}");
            assert_eq!(answer["error"], format!("{name} is speaking"), "{at}: {answer}");
        }
        release(&mut sockets[holder], &channel).await?;
    }
    Ok(())
}

async fn every_change_is_told_once_to_everybody_but_the_speaker(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut sockets = Vec::new();
    for number in 0..6 {
        let mut socket = cluster.socket(number, &user_name(number as u32), &channel).await?;
        join(&mut socket, &channel).await?;
        sockets.push(socket);
        for (earlier, socket) in sockets[..number].iter_mut().enumerate() {
            let name = user_name(number as u32);
            hears_that(socket, &name, "user-joined", number as u64 + 1).await.map_err(|e| e.context(earlier))?;
        }
    }
    for speaker in [0, 1, 2, 0] {
        press(&mut sockets[speaker], &channel).await?;
        for (_, socket) in sockets.iter_mut().enumerate().filter(|(at, _)| *at != speaker) {
            hears_of(socket, &channel, &user_name(speaker as u32)).await?;
        }
        release(&mut sockets[speaker], &channel).await?;
        for (_, socket) in sockets.iter_mut().enumerate().filter(|(at, _)| *at != speaker) {
            hears_of_the_end(socket, &channel).await?;
        }
    }
    for socket in &mut sockets {
        ensure!(socket.pushes_until_now().await?.is_empty(), "each change once");
    }
    Ok(())
}

async fn who_is_gone_frees_the_floor(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let (mut alice, mut bob) = (cluster.socket(0, "alice", &channel).await?, cluster.socket(1, "bob", &channel).await?);
    join(&mut bob, &channel).await?;
    join(&mut alice, &channel).await?;
    hears_that(&mut bob, "alice", "user-joined", 2).await?;
    // Left in the middle of a talk.
    press(&mut alice, &channel).await?;
    hears_of(&mut bob, &channel, "alice").await?;
    alice.ok("leave-channel", json!({"channelId": channel})).await?;
    hears_of_the_end(&mut bob, &channel).await?;
    hears_that(&mut bob, "alice", "user-left", 1).await?;
    // Gone in the middle of a talk.
    join(&mut alice, &channel).await?;
    hears_that(&mut bob, "alice", "user-joined", 2).await?;
    press(&mut alice, &channel).await?;
    hears_of(&mut bob, &channel, "alice").await?;
    drop(alice);
    hears_of_the_end(&mut bob, &channel).await?;
    hears_that(&mut bob, "alice", "user-disconnected", 1).await?;
    press(&mut bob, &channel).await?;
    Ok(())
}

async fn a_user_is_counted_once_whatever_his_devices(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut bob = cluster.socket(0, "bob", &channel).await?;
    join(&mut bob, &channel).await?;
    let mut devices = Vec::new();
    for number in 0..4 {
        let mut socket = cluster.socket(number, "alice", &channel).await?;
        let joined = join(&mut socket, &channel).await?;
        assert_eq!(joined["userCount"], 2);
        devices.push(socket);
    }
    hears_that(&mut bob, "alice", "user-joined", 2).await?;
    let last = devices.pop().expect("four");
    for device in devices {
        device.close().await?;
    }
    ensure!(bob.pushes_until_now().await?.is_empty(), "she is still there");
    last.close().await?;
    hears_that(&mut bob, "alice", "user-disconnected", 1).await?;
    Ok(())
}

/// Rule 4 of section 6: a connection of the same user may take the floor over when the old one has been silent for 1 s.
async fn a_new_device_takes_over_from_one_that_is_silent(cluster: &Cluster) -> Result<()> {
    let channel = cluster.channel();
    let mut old = User::listening(cluster, 0, 1, &channel).await?;
    let voice = old.microphone(&channel).await?;
    press(&mut old.socket, &channel).await?;
    voice.microphone.say(5).await?;
    let mut new = cluster.socket(1, &user_name(1), &channel).await?;
    join(&mut new, &channel).await?;
    let granted = loop {
        let answer = new.request("ptt-start", json!({"channelId": channel})).await?;
        if answer["type"] == "ptt-start" {
            break answer;
        }
        assert_eq!(answer["type"], "ptt-denied", "{answer}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // the silence has no event
    };
    assert_eq!(granted["data"]["state"]["currentSpeaker"], user_name(1));
    // The old device's voice does not pass any more.
    let mut listener = User::listening(cluster, 0, 2, &channel).await?;
    voice.microphone.say(10).await?;
    listener.socket.pushes_until_now().await?;
    ensure!(listener.ear.rest().is_empty(), "the gate of the old device is closed");
    Ok(())
}

async fn talks_on_two_channels_do_not_mix(cluster: &Cluster) -> Result<()> {
    let channels = [cluster.channel(), cluster.channel()];
    let mut speaking = Vec::new();
    let mut listeners = Vec::new();
    for (at, channel) in channels.iter().enumerate() {
        let mut speaker = User::listening(cluster, at, at as u32, channel).await?;
        let voice = speaker.microphone(channel).await?;
        press(&mut speaker.socket, channel).await?;
        let talk = voice.microphone.keep_speaking();
        speaking.push((speaker, voice, talk));
        listeners.push(User::listening(cluster, 1 - at, 10 + at as u32, channel).await?);
    }
    for (at, listener) in listeners.iter_mut().enumerate() {
        let heard = listener.hear(25).await?;
        ensure!(heard.iter().all(|packet| packet.speaker == at as u32), "{heard:?}");
    }
    // Who is on one channel has no part in the other.
    let refused =
        listeners[0].socket.refused("consume", json!({"channelId": channels[1], "producerId": "floor:x"})).await;
    ensure!(refused.is_ok(), "refused: {refused:?}");
    create_transport(&mut listeners[0].socket, &channels[0], "recv").await?;
    Ok(())
}
