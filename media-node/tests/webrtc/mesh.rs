//! Talks across nodes, as their listeners hear them.

use anyhow::Result;
use voiceping_testkit::Options;
use voiceping_testkit::voice::assert_one_stream;

use crate::cluster::{Cluster, hear_from, warm_up};
use crate::node::CHANNEL;

const ALICE: u32 = 1;
const BOB: u32 = 2;

/// One talk's frames: 200 ms.
const TALK: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_is_heard_whole_on_every_node_whoever_speaks() -> Result<()> {
    let cluster = Cluster::new()?;
    let (east, west, north) = (cluster.node(2).await?, cluster.node(2).await?, cluster.node(1).await?);
    let (alice, bob) = (east.member("alice"), west.member("bob"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let mut here = east.member("carol").listener(CHANNEL, Options::default()).await?;
    let mut there = west.member("dave").listener(CHANNEL, Options::default()).await?;
    let mut elsewhere = north.member("erin").listener(CHANNEL, Options::default()).await?;
    let ears = [&mut here.ear, &mut there.ear, &mut elsewhere.ear];
    warm_up(&east, CHANNEL, 1, (&alice, &a), ears).await?;
    let ears = [&mut here.ear, &mut there.ear, &mut elsewhere.ear];
    warm_up(&west, CHANNEL, 3, (&bob, &b), ears).await?;

    let mut epoch = 4;
    for _ in 0..3 {
        for (node, member, voice, speaker) in [(&east, &alice, &a, ALICE), (&west, &bob, &b, BOB)] {
            epoch += 1;
            node.set_floor(CHANNEL, epoch, Some(member)).await?;
            let first = voice.microphone.say(TALK).await?;
            for ear in [&mut here.ear, &mut there.ear, &mut elsewhere.ear] {
                let heard = hear_from(ear, speaker, first, TALK as usize).await?;
                assert_one_stream(&heard, &[TALK as usize]);
                assert_eq!(heard[0].number, first, "from its first packet on");
            }
        }
    }
    // Nothing comes twice, and nothing comes back.
    for ear in [&mut here.ear, &mut there.ear, &mut elsewhere.ear] {
        assert_eq!(ear.rest(), []);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_talk_on_a_node_that_had_no_listener_hears_the_rest_of_it() -> Result<()> {
    let cluster = Cluster::new()?;
    let (east, west) = (cluster.node(1).await?, cluster.node(2).await?);
    let alice = east.member("alice");
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    east.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let _speaking = a.microphone.keep_speaking();
    for round in 0..3 {
        let bob = west.member(&format!("bob {round}"));
        let mut b = bob.listener(CHANNEL, Options::default()).await?;
        let joined = a.microphone.spoken();
        let heard = b.ear.hear(TALK as usize).await?;
        let numbers: Vec<u32> = heard.iter().map(|packet| packet.number - heard[0].number).collect();
        assert_eq!(numbers, (0..TALK).collect::<Vec<_>>(), "without a gap");
        let late = heard[0].number.saturating_sub(joined);
        assert!(late <= 50, "heard {late} frames after the join");
        bob.close_connection("").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_talk_at_another_node_closes_the_gate_here() -> Result<()> {
    let cluster = Cluster::new()?;
    let (east, west) = (cluster.node(2).await?, cluster.node(2).await?);
    let (alice, bob) = (east.member("alice"), west.member("bob"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let mut c = east.member("carol").listener(CHANNEL, Options::default()).await?;
    warm_up(&west, CHANNEL, 1, (&bob, &b), [&mut c.ear]).await?;

    east.set_floor(CHANNEL, 10, Some(&alice)).await?;
    let _alice = a.microphone.keep_speaking();
    hear_from(&mut c.ear, ALICE, 0, TALK as usize).await?;
    // Nobody has told this node.
    west.set_floor(CHANNEL, 11, Some(&bob)).await?;
    let _bob = b.microphone.keep_speaking();
    hear_from(&mut c.ear, BOB, 0, 1).await?;
    let heard = c.ear.hear(TALK as usize).await?;
    assert!(heard.iter().all(|packet| packet.speaker == BOB), "{heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_is_heard_and_hears() -> Result<()> {
    let cluster = Cluster::new()?;
    let east = cluster.node(1).await?;
    let alice = east.member("alice");
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut c = east.member("carol").listener(CHANNEL, Options::default()).await?;
    let mut epoch = 1;
    for round in 0..3 {
        let west = cluster.node(1).await?;
        let bob = west.member("bob");
        let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
        let mut d = west.member("dave").listener(CHANNEL, Options::default()).await?;
        warm_up(&east, CHANNEL, epoch, (&alice, &a), [&mut d.ear, &mut c.ear]).await?;
        warm_up(&west, CHANNEL, epoch + 2, (&bob, &b), [&mut d.ear]).await?;
        west.set_floor(CHANNEL, epoch + 4, Some(&bob)).await?;
        let first = b.microphone.say(TALK).await?;
        let heard = hear_from(&mut c.ear, BOB, first, TALK as usize).await?;
        assert_eq!(heard[0].number, first, "round {round}");
        assert_one_stream(&heard, &[TALK as usize]);
        epoch += 5;
        west.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_goes_on_when_the_stream_between_two_nodes_is_cut() -> Result<()> {
    let cluster = Cluster::new()?;
    let (east, wire) = cluster.node_behind_wire(1).await?;
    let west = cluster.node(1).await?;
    let alice = east.member("alice");
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut b = west.member("bob").listener(CHANNEL, Options::default()).await?;
    east.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let _speaking = a.microphone.keep_speaking();
    for _ in 0..3 {
        b.ear.hear(TALK as usize).await?;
        wire.cut();
        // Whatever the old stream has brought is older than this.
        let heard = hear_from(&mut b.ear, ALICE, a.microphone.spoken() + 1, TALK as usize).await?;
        assert!(heard.windows(2).all(|two| two[0].number < two[1].number), "{heard:?}");
    }
    Ok(())
}
