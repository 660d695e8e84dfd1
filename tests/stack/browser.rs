//! The existing browser client: one socket for each channel, a transport each way, produces at once and consumes when it
//! is told that somebody speaks. And our own client's one difference: it consumes the floor output at the join.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use voiceping_testkit::DtlsRole;
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sender::{Microphone, SendTransport, Speaking};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::voice::{Heard, assert_one_stream};

use crate::phone::{
    Transport, hears_of, hears_of_the_end, hears_that, join, load_device, open_to_receive, open_to_send, press, release,
};
use crate::process::Process;

const CHANNEL: &str = "lobby";

/// A tab of the existing web page.
struct Browser {
    user: &'static str,
    socket: Signaling,
    capabilities: Value,
    send: Transport<SendTransport>,
    recv: Transport<RecvTransport>,
    producer: String,
    microphone: Microphone,
    ear: Option<Ear>,
    /// A browser whose producer is paused at the server goes on sending.
    _speaking: Speaking,
}

impl Browser {
    /// Opens the page: in the client's order.
    async fn open(server: &Process, user: &'static str, voice: u32) -> Result<Self> {
        let mut socket = server.socket(user, &[CHANNEL]).await?;
        join(&mut socket, CHANNEL).await?;
        let capabilities = load_device(&mut socket, CHANNEL).await?;
        let mut send = open_to_send(&mut socket, CHANNEL, DtlsRole::Client).await?;
        let recv = open_to_receive(&mut socket, CHANNEL).await?;
        let (producer, microphone) = send.produce(&mut socket, CHANNEL, voice).await?;
        let speaking = microphone.keep_speaking();
        Ok(Self { user, socket, capabilities, send, recv, producer, microphone, ear: None, _speaking: speaking })
    }

    /// Is told that somebody speaks, and consumes what it was told.
    async fn listen_to(&mut self, speaker: &str) -> Result<()> {
        let producer = hears_of(&mut self.socket, CHANNEL, speaker).await?;
        let ear = self.recv.consume(&mut self.socket, CHANNEL, &producer, &self.capabilities).await?;
        if let Some(earlier) = self.ear.replace(ear) {
            self.recv.media.stop(earlier).await?;
        }
        Ok(())
    }

    /// The next packets.
    async fn hear(&mut self, count: usize) -> Result<Vec<Heard>> {
        self.ear.as_mut().expect("it consumes").hear(count).await
    }
}

/// Packets of one speaker, one after the other.
#[track_caller]
fn assert_one_voice(heard: &[Heard], voice: u32) {
    assert!(heard.iter().all(|packet| packet.speaker == voice), "{heard:?}");
    for pair in heard.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1, "{pair:?}");
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1), "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tabs_take_turns_and_everybody_hears_everybody_else() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut tabs = Vec::new();
    for (voice, user) in ["alice", "bob", "carol"].into_iter().enumerate() {
        let tab = Browser::open(&server, user, voice as u32).await?;
        tabs.push(tab);
        for earlier in &mut tabs[..voice] {
            hears_that(&mut earlier.socket, user, "user-joined", voice as u64 + 1).await?;
        }
    }
    for turn in [0, 1, 2, 1] {
        let speaker = &mut tabs[turn];
        let (user, voice) = (speaker.user, turn as u32);
        press(&mut speaker.socket, CHANNEL).await?;
        for (at, tab) in tabs.iter_mut().enumerate() {
            if at != turn {
                tab.listen_to(user).await?;
                assert_one_voice(&tab.hear(10).await?, voice);
            }
        }
        let speaker = &mut tabs[turn];
        release(&mut speaker.socket, CHANNEL).await?;
        let released = speaker.microphone.spoken();
        for (at, tab) in tabs.iter_mut().enumerate() {
            if at != turn {
                hears_of_the_end(&mut tab.socket, CHANNEL).await?;
                // Whatever still comes was spoken before.
                let rest = tab.ear.as_mut().expect("it consumes").rest();
                assert!(rest.iter().all(|packet| packet.speaker == voice && packet.number <= released), "{rest:?}");
            }
        }
        let own = tabs[turn].ear.as_mut().map(Ear::rest).unwrap_or_default();
        assert!(own.iter().all(|packet| packet.speaker != voice), "nobody hears himself: {own:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_consumed_the_floor_output_once_hears_every_talk_whole() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut listener = server.member("dave", CHANNEL).await?;
    let capabilities = load_device(&mut listener, CHANNEL).await?;
    let mut recv = open_to_receive(&mut listener, CHANNEL).await?;
    let mut ear = recv.consume(&mut listener, CHANNEL, "floor:lobby", &capabilities).await?;

    let mut heard = Vec::new();
    for (voice, user) in ["alice", "bob"].into_iter().enumerate() {
        let mut socket = server.member(user, CHANNEL).await?;
        let mut send = open_to_send(&mut socket, CHANNEL, DtlsRole::Client).await?;
        let (_, microphone) = send.produce(&mut socket, CHANNEL, voice as u32).await?;
        for _ in 0..2 {
            press(&mut socket, CHANNEL).await?;
            microphone.say(10).await?;
            heard.extend(ear.hear(10).await?);
            release(&mut socket, CHANNEL).await?;
        }
    }
    assert_one_stream(&heard, &[10; 4]);
    assert_eq!((heard[0].number, heard[20].number, heard[20].speaker), (0, 0, 1), "from the first packet on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_tab_hears_the_rest_of_the_talk() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Browser::open(&server, "alice", 0).await?;
    press(&mut alice.socket, CHANNEL).await?;
    let mut bob = Browser::open(&server, "bob", 1).await?;
    bob.listen_to("alice").await?;
    assert_one_voice(&bob.hear(10).await?, 0);
    // A reload in the middle of it: the old socket goes, the new one does the same again.
    drop(bob);
    let mut bob = Browser::open(&server, "bob", 1).await?;
    bob.listen_to("alice").await?;
    assert_one_voice(&bob.hear(10).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_neither_heard_nor_hears() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Browser::open(&server, "alice", 0).await?;
    let mut bob = Browser::open(&server, "bob", 1).await?;
    let mut carol = Browser::open(&server, "carol", 2).await?;
    for _ in 0..2 {
        alice.socket.push_of("channel-state").await?;
    }
    bob.socket.push_of("channel-state").await?;
    press(&mut alice.socket, CHANNEL).await?;
    for tab in [&mut bob, &mut carol] {
        tab.listen_to("alice").await?;
        assert_one_voice(&tab.hear(5).await?, 0);
    }
    bob.socket.ok("leave-channel", json!({"channelId": CHANNEL})).await?;
    let left = alice.microphone.spoken();
    let fence = carol.hear(20).await?.last().expect("packets").number;
    ensure!(fence > left, "Alice was heard after Bob had left");
    let last = bob.ear.as_mut().expect("it consumes").rest().last().map_or(0, |packet| packet.number);
    ensure!(last <= left, "Bob, who left at {left}, heard {last}");

    alice.socket.ok("leave-channel", json!({"channelId": CHANNEL})).await?;
    let left = alice.microphone.spoken();
    carol.socket.push_of("channel-state").await?; // Bob
    hears_of_the_end(&mut carol.socket, CHANNEL).await?;
    // Carol's own talk reaches nobody but shows, when it is over, that nothing is on its way to her.
    press(&mut carol.socket, CHANNEL).await?;
    let rest = carol.ear.as_mut().expect("it consumes").rest();
    assert!(rest.iter().all(|packet| packet.speaker == 0 && packet.number <= left), "{rest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_own_producer_may_be_consumed_too() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Browser::open(&server, "alice", 0).await?;
    let mut bob = Browser::open(&server, "bob", 1).await?;
    let mut listener = server.member("dave", CHANNEL).await?;
    let capabilities = load_device(&mut listener, CHANNEL).await?;
    let mut recv = open_to_receive(&mut listener, CHANNEL).await?;
    let mut ear = recv.consume(&mut listener, CHANNEL, &alice.producer, &capabilities).await?;
    press(&mut alice.socket, CHANNEL).await?;
    assert_one_voice(&ear.hear(5).await?, 0);
    release(&mut alice.socket, CHANNEL).await?;
    press(&mut bob.socket, CHANNEL).await?;
    let before = alice.microphone.spoken();
    // Bob is heard by Alice, so his talk has been through.
    hears_that(&mut alice.socket, "bob", "user-joined", 2).await?;
    alice.socket.push_of("channel-state").await?;
    alice.listen_to("bob").await?;
    assert_one_voice(&alice.hear(5).await?, 1);
    release(&mut bob.socket, CHANNEL).await?;
    press(&mut alice.socket, CHANNEL).await?;
    let heard = loop {
        let packet = ear.next().await?;
        assert_eq!(packet.speaker, 0, "{packet:?}");
        if packet.number > before {
            break packet;
        }
    };
    ensure!(heard.marker, "a new talk: {heard:?}");
    server.until_connections(3).await?;
    let usage: Value = serde_json::from_str(&server.get("/health").await?.1)?;
    assert_eq!((&usage["status"], &usage["workers"], &usage["connections"]), (&json!("ok"), &json!(2), &json!(3)));
    drop(alice.send);
    Ok(())
}
