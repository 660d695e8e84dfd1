//! The gate: who is heard and who is not.

use anyhow::Result;
use tonic::Code;
use voiceping_testkit::Options;
use voiceping_testkit::voice::assert_one_stream;

use crate::node::{CHANNEL, Node, assert_refused};

const ALICE: u32 = 1;
const BOB: u32 = 2;

/// One talk's frames: 200 ms.
const TALK: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn two_speakers_in_turn_are_one_continuous_stream_from_the_first_packet_on() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, Options::default()).await?;

    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(TALK).await?;
    let mut heard = c.ear.hear(TALK as usize).await?;
    node.set_floor(CHANNEL, 2, None).await?;
    node.set_floor(CHANNEL, 3, Some(&bob)).await?;
    b.microphone.say(TALK).await?;
    heard.extend(c.ear.hear(TALK as usize).await?);
    // Straight from one to the other, as a dispatcher interrupts.
    node.set_floor(CHANNEL, 4, Some(&alice)).await?;
    a.microphone.say(TALK).await?;
    heard.extend(c.ear.hear(TALK as usize).await?);

    assert_one_stream(&heard, &[TALK as usize; 3]);
    let spoken: Vec<(u32, u32)> = heard.iter().map(|packet| (packet.speaker, packet.number)).collect();
    let first = (0..TALK).map(|number| (ALICE, number));
    let talks = first.chain((0..TALK).map(|number| (BOB, number))).chain((TALK..2 * TALK).map(|n| (ALICE, n)));
    assert_eq!(spoken, talks.collect::<Vec<_>>());
    assert_eq!((heard[0].ssrc, heard[0].payload_type), (c.stream.ssrc, c.stream.payload_type));
    assert!(heard[0].sequence_number < 1 << 15, "or the receiver could guess its rollover counter wrong");
    assert_eq!(c.ear.rest(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_hold_the_floor_is_not_heard_however_long_he_speaks() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, Options::default()).await?;

    // Both speak all the time, as browsers do whose producer is paused.
    let (_a, _b) = (a.microphone.keep_speaking(), b.microphone.keep_speaking());
    let mut heard = Vec::new();
    let mut last_granted = (0, 0);
    for (epoch, holder, speaker, microphone) in
        [(1, &alice, ALICE, &a.microphone), (2, &bob, BOB, &b.microphone), (3, &alice, ALICE, &a.microphone)]
    {
        node.set_floor(CHANNEL, epoch, Some(holder)).await?;
        let granted = microphone.spoken();
        let talk = c.ear.hear(TALK as usize).await?;
        // What was on its way when the floor changed may still be the previous speaker's.
        let talk: Vec<_> = talk.into_iter().skip_while(|packet| packet.speaker != speaker).collect();
        assert!(talk.iter().all(|packet| packet.speaker == speaker), "{talk:?}");
        // From the first frame on that was spoken after the grant, at the latest.
        assert!(talk[0].marker && talk[0].number <= granted, "granted at {granted}: {:?}", talk[0]);
        heard.extend(talk);
        last_granted = (speaker, microphone.spoken());
    }
    // After the floor is free nothing new passes; the next talk proves that the path is not merely slow.
    node.set_floor(CHANNEL, 4, None).await?;
    let freed = a.microphone.spoken();
    node.set_floor(CHANNEL, 5, Some(&bob)).await?;
    let rest = loop {
        let packet = c.ear.next().await?;
        if packet.speaker == BOB {
            break packet;
        }
        assert!(packet.number <= freed, "{packet:?} was spoken after the floor was free ({freed}, {last_granted:?})");
    };
    assert!(rest.marker, "{rest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_grant_is_refused_and_opens_no_gate() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, Options::default()).await?;

    node.set_floor(CHANNEL, 10, Some(&alice)).await?;
    assert_refused(node.set_floor(CHANNEL, 9, Some(&bob)).await, Code::FailedPrecondition);
    assert_refused(node.set_floor(CHANNEL, 9, None).await, Code::FailedPrecondition);
    assert_refused(node.set_floor(CHANNEL, 10, Some(&bob)).await, Code::FailedPrecondition);
    node.set_floor(CHANNEL, 10, Some(&alice)).await?; // repeating is success

    b.microphone.say(3).await?;
    a.microphone.say(3).await?;
    let heard = c.ear.hear(3).await?;
    assert_one_stream(&heard, &[3]);
    assert!(heard.iter().all(|packet| packet.speaker == ALICE));

    // Ended, its epoch cannot be given again.
    node.set_floor(CHANNEL, 10, None).await?;
    assert_refused(node.set_floor(CHANNEL, 10, Some(&alice)).await, Code::FailedPrecondition);
    node.set_floor(CHANNEL, 11, Some(&bob)).await?;
    b.microphone.say(1).await?;
    assert_eq!(c.ear.next().await?.speaker, BOB);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_declared_after_the_grant_is_live_at_once() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, carol) = (node.member("alice"), node.member("carol"));
    let mut c = carol.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    a.microphone.say(TALK).await?;
    let heard = c.ear.hear(TALK as usize).await?;
    assert_one_stream(&heard, &[TALK as usize]);
    assert_eq!(heard[0].number, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_of_one_channel_opens_no_other() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, carol) = (node.member("alice"), node.member("carol"));
    // One transport, two channels: Android's way.
    let mut a = alice.speaker("red", ALICE, Options::default()).await?;
    let second = a.transport.add_microphone(BOB).await?;
    alice.produce(&a.transport_id, "blue", &second).await?;
    let mut red = carol.listener("red", Options::default()).await?;
    let mut blue = carol.listener("blue", Options::default()).await?;

    let (_red, _blue) = (a.microphone.keep_speaking(), second.keep_speaking());
    node.set_floor("blue", 1, Some(&alice)).await?;
    let heard = blue.ear.hear(TALK as usize).await?;
    assert_one_stream(&heard, &[TALK as usize]);
    assert!(heard.iter().all(|packet| packet.speaker == BOB));
    node.set_floor("blue", 2, None).await?;
    node.set_floor("red", 1, Some(&alice)).await?;
    let heard = red.ear.hear(TALK as usize).await?;
    assert_one_stream(&heard, &[TALK as usize]);
    assert!(heard.iter().all(|packet| packet.speaker == ALICE));
    assert!(blue.ear.rest().iter().all(|packet| packet.speaker == BOB));
    Ok(())
}
