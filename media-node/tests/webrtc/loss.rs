//! Loss: what is missing is asked for and sent again, both ways, and a lost flight does not end a handshake.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use voiceping_proto::media::v1::Direction;
use voiceping_proto::media::v1::node_event::Event;
use voiceping_testkit::path::{Kind, Path, Way};
use voiceping_testkit::voice::{Heard, assert_one_stream};
use voiceping_testkit::{DtlsRole, Options};

use crate::node::{CHANNEL, Listener, Member, Node};

/// A listener behind a path.
async fn listener_behind(
    member: &Member,
    passes: impl FnMut(Way, &[u8]) -> bool + Send + 'static,
    options: Options,
) -> Result<(Path, Listener)> {
    let (transport, mut server) = member.create_transport(Direction::Recv).await?;
    let path = Path::open(server.candidates[0], passes).await?;
    server.candidates = vec![path.address()];
    let listener = member.listener_over(transport, server, CHANNEL, "", options).await?;
    Ok((path, listener))
}

/// Voice in its order, whenever it arrived.
fn in_order(mut heard: Vec<Heard>) -> Vec<Heard> {
    heard.sort_by_key(|packet| packet.number);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_lost_on_the_way_to_a_listener_is_sent_again_to_the_very_same_bytes() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let copies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&copies);
    // Loses the fifth packet once.
    let mut lost = None;
    let mut packets = 0;
    let passes = move |way, datagram: &[u8]| {
        let (Way::Down, Kind::Rtp { sequence_number }) = (way, Kind::of(datagram)) else { return true };
        packets += 1;
        if packets == 5 {
            lost = Some(sequence_number);
        }
        if lost == Some(sequence_number) {
            seen.lock().expect("no panic").push(datagram.to_vec());
        }
        packets != 5
    };
    let (_path, mut b) = listener_behind(&bob, passes, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(30).await?;
    assert_one_stream(&in_order(b.ear.hear(30).await?), &[30]);
    let copies = copies.lock().expect("no panic");
    assert!(copies.len() >= 2 && copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_by_hand_is_sent_again_from_another_worker_too() -> Result<()> {
    let node = Node::start(4).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    for name in ["bob", "carol", "dave", "erin"] {
        let asked_for = Arc::new(AtomicU16::new(0));
        let copies = Arc::new(AtomicUsize::new(0));
        let (wanted, seen) = (Arc::clone(&asked_for), Arc::clone(&copies));
        let passes = move |way, datagram: &[u8]| {
            if way == Way::Down
                && matches!(Kind::of(datagram), Kind::Rtp { sequence_number }
                    if sequence_number == wanted.load(Ordering::SeqCst))
            {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            true
        };
        let (_path, mut b) = listener_behind(&node.member(name), passes, Options::default()).await?;
        let epoch = u64::from(a.microphone.spoken()) + 1;
        node.set_floor(CHANNEL, epoch, Some(&alice)).await?;
        a.microphone.say(5).await?;
        let heard = b.ear.hear(5).await?;
        asked_for.store(heard[2].sequence_number, Ordering::SeqCst);
        let before = copies.load(Ordering::SeqCst);
        b.transport.ask_again(&b.ear, &[heard[2].sequence_number]).await?;
        // The client's replay protection drops the copy, so the path is what saw it; the next packet comes behind it.
        while copies.load(Ordering::SeqCst) == before {
            a.microphone.say(1).await?;
            b.ear.next().await?;
            assert!(a.microphone.spoken() < 1000, "{name} was sent nothing again");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_lost_on_the_way_from_the_speaker_is_asked_for() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    let (transport, mut server) = alice.create_transport(Direction::Send).await?;
    let mut packets = 0;
    let passes = move |way, datagram: &[u8]| {
        let voice = way == Way::Up && matches!(Kind::of(datagram), Kind::Rtp { .. });
        packets += usize::from(voice);
        !(voice && packets == 5)
    };
    let path = Path::open(server.candidates[0], passes).await?;
    server.candidates = vec![path.address()];
    let a = alice.speaker_over(transport, server, CHANNEL, 1, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(30).await?;
    assert_one_stream(&in_order(b.ear.hear(30).await?), &[30]);
    Ok(())
}

/// What the client's library sends and loses is its own to repeat, which it does not always do: the engine's tests lose
/// those flights, with a peer that does.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_survives_the_loss_of_any_one_datagram_of_the_node() -> Result<()> {
    let mut node = Node::start(1).await?;
    let mut cases = Vec::new();
    for role in [DtlsRole::Client, DtlsRole::Server] {
        for lost in 1..=4 {
            let member = node.member(&format!("{role:?}-{lost}"));
            cases.push(tokio::spawn(async move {
                let mut handshake = 0;
                let passes = move |way, datagram: &[u8]| {
                    let counted = way == Way::Down && Kind::of(datagram) == Kind::Dtls;
                    handshake += usize::from(counted);
                    !(counted && handshake == lost)
                };
                listener_behind(&member, passes, Options { role, ..Options::default() }).await
            }));
        }
    }
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut listeners = Vec::new();
    for case in cases {
        listeners.push(case.await??);
    }
    for _ in 0..=listeners.len() {
        node.until(|event| matches!(event, Event::TransportConnected(_))).await?;
    }
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(5).await?;
    for (_path, listener) in &mut listeners {
        assert_one_stream(&listener.ear.hear(5).await?, &[5]);
    }
    Ok(())
}
