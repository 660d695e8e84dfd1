//! The existing Android client: one socket for several channels, one transport to receive for each, and one to send for
//! all of them, opened at the first grant. It closes its producers without a word, and waits for the server's handshake
//! where it sends.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use voiceping_testkit::DtlsRole;
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::voice::{Heard, assert_one_stream};

use crate::phone::{
    Transport, hears_of, hears_of_the_end, hears_that, join, load_device, open_to_receive, open_to_send, press, release,
};
use crate::process::Process;

const CHANNELS: [&str; 2] = ["red", "blue"];

/// A phone with the existing application.
struct Android {
    socket: Signaling,
    capabilities: Value,
    recv_by_channel: BTreeMap<&'static str, Transport<RecvTransport>>,
    send: Option<Transport<SendTransport>>,
    voice: u32,
    ear: Option<(&'static str, Ear)>,
}

impl Android {
    /// Starts the application: all channels over one socket, each with a transport to receive.
    async fn open(server: &Process, user: &str, voice: u32) -> Result<Self> {
        let mut socket = server.socket(user, &CHANNELS).await?;
        let mut capabilities = Value::Null;
        let mut recv_by_channel = BTreeMap::new();
        for channel in CHANNELS {
            join(&mut socket, channel).await?;
            capabilities = load_device(&mut socket, channel).await?;
            recv_by_channel.insert(channel, open_to_receive(&mut socket, channel).await?);
        }
        Ok(Self { socket, capabilities, recv_by_channel, send: None, voice, ear: None })
    }

    /// Presses and, once granted, produces: over a new transport the first time, then always over the same.
    async fn press(&mut self, channel: &str) -> Result<Microphone> {
        press(&mut self.socket, channel).await?;
        if self.send.is_none() {
            self.send = Some(open_to_send(&mut self.socket, channel, DtlsRole::Server).await?);
        }
        let send = self.send.as_mut().context("opened just now")?;
        Ok(send.produce(&mut self.socket, channel, self.voice).await?.1)
    }

    /// Is told that somebody speaks, and consumes.
    async fn listen_to(&mut self, channel: &'static str, speaker: &str) -> Result<()> {
        let producer = hears_of(&mut self.socket, channel, speaker).await?;
        let recv = self.recv_by_channel.get_mut(channel).context("a transport for each channel")?;
        let ear = recv.consume(&mut self.socket, channel, &producer, &self.capabilities).await?;
        self.ear = Some((channel, ear));
        Ok(())
    }

    /// The talk is over: it stops its consumer, without a word to the server.
    async fn stop_listening(&mut self) -> Result<()> {
        let (channel, ear) = self.ear.take().context("it listens")?;
        hears_of_the_end(&mut self.socket, channel).await?;
        self.recv_by_channel.get_mut(channel).context("a transport for each channel")?.media.stop(ear).await
    }

    async fn hear(&mut self, count: usize) -> Result<Vec<Heard>> {
        self.ear.as_mut().context("it listens")?.1.hear(count).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_phones_talk_on_two_channels_over_one_transport_each() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Android::open(&server, "alice", 1).await?;
    let mut bob = Android::open(&server, "bob", 2).await?;
    for _ in CHANNELS {
        hears_that(&mut alice.socket, "bob", "user-joined", 2).await?;
    }
    // Each channel twice, so that the transport is reused on the same and on another channel.
    for channel in ["red", "blue", "blue", "red"] {
        let microphone = alice.press(channel).await?;
        bob.listen_to(channel, "alice").await?;
        microphone.say(10).await?;
        let heard = bob.hear(10).await?;
        assert_one_stream(&heard, &[10]);
        assert_eq!((heard[0].speaker, heard[0].number), (1, 0));
        release(&mut alice.socket, channel).await?; // and the producer is closed in silence
        bob.stop_listening().await?;

        let microphone = bob.press(channel).await?;
        alice.listen_to(channel, "bob").await?;
        microphone.say(10).await?;
        let heard = alice.hear(10).await?;
        assert_one_stream(&heard, &[10]);
        assert_eq!((heard[0].speaker, heard[0].number), (2, 0));
        release(&mut bob.socket, channel).await?;
        alice.stop_listening().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_comes_again_with_its_mid_and_ssrc_moves_to_the_other_channel() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Android::open(&server, "alice", 1).await?;
    let mut bob = Android::open(&server, "bob", 2).await?;
    let microphone = alice.press("red").await?;
    bob.listen_to("red", "alice").await?;
    microphone.say(5).await?;
    assert_one_stream(&bob.hear(5).await?, &[5]);
    release(&mut alice.socket, "red").await?;
    bob.stop_listening().await?;

    press(&mut alice.socket, "blue").await?;
    let send = alice.send.as_ref().context("opened at the first grant")?;
    send.produce_again(&mut alice.socket, "blue", &microphone).await?;
    bob.listen_to("blue", "alice").await?;
    microphone.say(5).await?;
    let heard = bob.hear(5).await?;
    assert_one_stream(&heard, &[5]);
    assert_eq!(heard[0].number, 5);
    Ok(())
}

/// What is pressed on one channel while another one speaks there is not heard on a third.
#[tokio::test(flavor = "multi_thread")]
async fn both_channels_of_a_phone_carry_their_own_talk_at_the_same_time() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut alice = Android::open(&server, "alice", 1).await?;
    let mut bob = Android::open(&server, "bob", 2).await?;
    let mut carol = Android::open(&server, "carol", 3).await?;
    let (at_alice, at_bob) = (alice.press("red").await?, bob.press("blue").await?);
    let (_red, _blue) = (at_alice.keep_speaking(), at_bob.keep_speaking());
    carol.listen_to("red", "alice").await?;
    let red = carol.hear(10).await?;
    carol.listen_to("blue", "bob").await?;
    let blue = carol.hear(10).await?;
    assert!(red.iter().all(|packet| packet.speaker == 1), "{red:?}");
    assert!(blue.iter().all(|packet| packet.speaker == 2), "{blue:?}");
    Ok(())
}
