//! Producers and consumers: how streams are named, rewritten, replaced, paused and closed.

use anyhow::Result;
use tonic::Code;
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::Options;
use voiceping_testkit::voice::assert_one_stream;

use crate::node::{CHANNEL, Node, assert_refused, rtp_parameters};

const ALICE: u32 = 1;
const BOB: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_his_own_payload_type_and_ssrc() -> Result<()> {
    let node = Node::start(1).await?;
    let firefox = Options { payload_type: Some(109), ..Options::default() };
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, firefox.clone()).await?;
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, firefox).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(3).await?;
    let (at_b, at_c) = (b.ear.hear(3).await?, c.ear.hear(3).await?);
    assert_one_stream(&at_b, &[3]);
    assert_one_stream(&at_c, &[3]);
    assert_eq!((at_b[0].payload_type, at_b[0].ssrc), (111, b.stream.ssrc));
    assert_eq!((at_c[0].payload_type, at_c[0].ssrc), (109, c.stream.ssrc));
    assert_ne!(b.stream.ssrc, c.stream.ssrc);
    assert_eq!(b.stream.mid, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_own_producer_is_heard_while_that_member_holds_the_floor() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, BOB, Options::default()).await?;
    let (transport, server) = carol.create_transport(Direction::Recv).await?;
    let elsewhere = carol.consume(&transport, "elsewhere", &a.producer_id, &Options::default()).await;
    assert_refused(elsewhere, Code::NotFound);
    assert_refused(carol.consume(&transport, CHANNEL, "nobody's", &Options::default()).await, Code::NotFound);
    let mut c = carol.listener_over(transport, server, CHANNEL, &a.producer_id, Options::default()).await?;
    // One who hears everybody tells when Bob's talk has been through.
    let mut fence = node.member("dave").listener(CHANNEL, Options::default()).await?;

    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(3).await?;
    let mut heard = c.ear.hear(3).await?;
    node.set_floor(CHANNEL, 2, Some(&bob)).await?;
    b.microphone.say(3).await?;
    fence.ear.hear(6).await?;
    node.set_floor(CHANNEL, 3, Some(&alice)).await?;
    a.microphone.say(3).await?;
    heard.extend(c.ear.hear(3).await?);
    assert_one_stream(&heard, &[3, 3]);
    assert!(heard.iter().all(|packet| packet.speaker == ALICE));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_costs_nothing_and_goes_on_without_a_gap() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    let mut fence = carol.listener(CHANNEL, Options::default()).await?;
    assert_refused(carol.pause_consumer(&b.consumer_id, true).await, Code::NotFound);

    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(3).await?;
    let before = b.ear.hear(3).await?;
    bob.pause_consumer(&b.consumer_id, true).await?;
    a.microphone.say(3).await?;
    fence.ear.hear(6).await?;
    bob.pause_consumer(&b.consumer_id, false).await?;
    a.microphone.say(3).await?;
    let after = b.ear.hear(3).await?;
    assert_eq!(after.iter().map(|packet| packet.number).collect::<Vec<_>>(), [6, 7, 8]);
    assert_eq!(after[0].sequence_number, before[2].sequence_number.wrapping_add(1), "no gap to be asked for again");
    // Time did pass.
    assert_eq!(after[0].timestamp.wrapping_sub(before[2].timestamp), 4 * 960);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consume_replaces_the_earlier_one_and_goes_on_where_it_was() -> Result<()> {
    for kept in [true, false] {
        let node = Node::start(1).await?;
        let (alice, bob) = (node.member("alice"), node.member("bob"));
        let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
        let mut b = bob.listener(CHANNEL, Options::default()).await?;
        node.set_floor(CHANNEL, 1, Some(&alice)).await?;
        a.microphone.say(3).await?;
        assert_one_stream(&b.ear.hear(3).await?, &[3]);

        let (_, stream) = if kept {
            bob.consume(&b.transport_id, CHANNEL, "", &Options::default()).await?
        } else {
            bob.consume_for_talk(&b.transport_id, CHANNEL).await?
        };
        assert_eq!((stream.mid.as_str(), stream.ssrc != b.stream.ssrc), ("1", true));
        assert_eq!(node.usage().await?, (2, 1, 1));
        let mut again = b.transport.receive(stream).await?;
        a.microphone.say(3).await?;
        let heard = again.hear(3).await?;
        assert_eq!(heard.iter().map(|packet| packet.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(b.ear.rest(), []);
        b.transport.stop(b.ear).await?;
        // The next talk, of which nothing is told to a client that would consume anew: it hears it all the same.
        node.set_floor(CHANNEL, 2, None).await?;
        node.set_floor(CHANNEL, 3, Some(&alice)).await?;
        a.microphone.say(2).await?;
        assert_one_stream(&again.hear(2).await?, &[2]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_without_ssrc_is_found_by_its_mid() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    let mut a = alice.speaker("elsewhere", BOB, Options::default()).await?;
    let microphone = a.transport.add_microphone(ALICE).await?;
    let mut parameters = rtp_parameters(&microphone);
    parameters.ssrc = 0;
    alice.produce_with(&a.transport_id, CHANNEL, parameters.clone()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(1).await?; // of the other MID: not heard here
    microphone.say(3).await?;
    let heard = b.ear.hear(3).await?;
    assert_one_stream(&heard, &[3]);
    assert!(heard.iter().all(|packet| packet.speaker == ALICE));

    parameters.header_extensions.clear();
    assert_refused(alice.produce_with(&a.transport_id, CHANNEL, parameters).await, Code::InvalidArgument);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_with_a_known_ssrc_moves_the_stream_to_another_channel() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, carol) = (node.member("alice"), node.member("carol"));
    let a = alice.speaker("red", ALICE, Options::default()).await?;
    let mut blue = carol.listener("blue", Options::default()).await?;
    node.set_floor("red", 1, Some(&alice)).await?;
    alice.produce(&a.transport_id, "blue", &a.microphone).await?;
    assert_eq!(node.usage().await?, (2, 1, 1));
    node.set_floor("blue", 1, Some(&alice)).await?;
    a.microphone.say(3).await?;
    assert_one_stream(&blue.ear.hear(3).await?, &[3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_channel_hears_and_speaks_there_no_more() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, bob, carol) = (node.member("alice"), node.member("bob"), node.member("carol"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, Options::default()).await?;
    let mut other = bob.listener("other", Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(3).await?;
    b.ear.hear(3).await?;
    bob.close_connection(CHANNEL).await?;
    a.microphone.say(3).await?;
    assert_one_stream(&c.ear.hear(6).await?, &[6]);
    assert_eq!(b.ear.rest(), []);

    // The rest of what he has is as it was.
    let d = node.member("dave").speaker("other", BOB, Options::default()).await?;
    node.set_floor("other", 1, Some(&node.member("dave"))).await?;
    d.microphone.say(3).await?;
    assert_one_stream(&other.ear.hear(3).await?, &[3]);

    alice.close_connection(CHANNEL).await?;
    assert_eq!(node.usage().await?, (5, 1, 2));
    for member in [alice, bob, carol, node.member("dave")] {
        member.close_connection("").await?;
        member.close_connection("").await?; // unknown is success
    }
    assert_eq!(node.usage().await?, (0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_use_what_is_anothers() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, mallory) = (node.member("alice"), node.member("mallory"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut l = alice.listener("other", Options::default()).await?;
    let usage = node.usage().await?;
    assert_refused(mallory.produce(&a.transport_id, CHANNEL, &a.microphone).await, Code::NotFound);
    assert_refused(mallory.consume(&l.transport_id, "other", "", &Options::default()).await, Code::NotFound);
    assert_refused(mallory.pause_consumer(&l.consumer_id, true).await, Code::NotFound);
    mallory.close_producer(&a.producer_id).await?;
    mallory.close_transport(&a.transport_id).await?;
    mallory.close_connection("").await?;
    assert_eq!(node.usage().await?, usage);

    // All of it still works.
    let b = node.member("bob").speaker("other", BOB, Options::default()).await?;
    node.set_floor("other", 1, Some(&node.member("bob"))).await?;
    b.microphone.say(2).await?;
    assert_one_stream(&l.ear.hear(2).await?, &[2]);
    Ok(())
}
