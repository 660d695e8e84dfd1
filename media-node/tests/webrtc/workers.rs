//! Several workers: a talk reaches listeners on all of them, under one floor.

use std::collections::BTreeMap;

use anyhow::Result;
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::Options;
use voiceping_testkit::voice::assert_one_stream;

use crate::node::{CHANNEL, Member, Node};

/// Two members on each of the node's workers, which the port of their candidates tells apart.
async fn two_on_each_worker(node: &Node, workers: usize) -> Result<Vec<[Member; 2]>> {
    let mut members_by_port: BTreeMap<u16, Vec<Member>> = BTreeMap::new();
    for number in 0.. {
        let member = node.member(&format!("member-{number}"));
        let (transport, server) = member.create_transport(Direction::Send).await?;
        member.close_transport(&transport).await?;
        members_by_port.entry(server.candidates[0].port()).or_default().push(member);
        if members_by_port.len() == workers && members_by_port.values().all(|members| members.len() >= 2) {
            break;
        }
        assert!(number < 1000, "connections are spread over {} of {workers} workers", members_by_port.len());
    }
    let two = |members: Vec<Member>| [members[0].clone(), members[1].clone()];
    Ok(members_by_port.into_values().map(two).collect())
}

/// Each worker has a speaker and a listener. Everybody speaks in turn; everybody hears every talk whole.
async fn every_worker_speaks_to_every_other(workers: u16) -> Result<()> {
    const TALK: u32 = 5;
    let node = Node::start(workers).await?;
    let mut speakers = Vec::new();
    let mut listeners = Vec::new();
    for (number, [speaker, listener]) in two_on_each_worker(&node, workers.into()).await?.into_iter().enumerate() {
        let voice = speaker.speaker(CHANNEL, number as u32, Options::default()).await?;
        speakers.push((speaker, voice));
        listeners.push(listener.listener(CHANNEL, Options::default()).await?);
    }
    let mut epoch = 0;
    let mut talks = 0;
    // In the first round straight from speaker to speaker, in the second with a release between them.
    for round in 0..2 {
        for (member, voice) in &speakers {
            epoch += 1;
            node.set_floor(CHANNEL, epoch, Some(member)).await?;
            voice.microphone.say(TALK).await?;
            talks += 1;
            for listener in &mut listeners {
                let heard = listener.ear.hear(TALK as usize).await?;
                assert_one_stream(&heard, &[TALK as usize]);
                let first = (heard[0].speaker, heard[0].number);
                assert_eq!(first, ((talks - 1) % u32::from(workers), round * TALK));
            }
            if round == 1 {
                epoch += 1;
                node.set_floor(CHANNEL, epoch, None).await?;
            }
        }
    }
    for listener in &mut listeners {
        assert_eq!(listener.ear.rest(), []);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn talks_on_one_worker() -> Result<()> {
    every_worker_speaks_to_every_other(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn talks_across_two_workers() -> Result<()> {
    every_worker_speaks_to_every_other(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn talks_across_four_workers() -> Result<()> {
    every_worker_speaks_to_every_other(4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_speaker_on_another_worker_is_not_heard() -> Result<()> {
    const TALK: usize = 10;
    let node = Node::start(2).await?;
    let [[alice, carol], [bob, dave]] = <[_; 2]>::try_from(two_on_each_worker(&node, 2).await?).expect("two workers");
    let (a, b) =
        (alice.speaker(CHANNEL, 1, Options::default()).await?, bob.speaker(CHANNEL, 2, Options::default()).await?);
    let mut c = carol.listener(CHANNEL, Options::default()).await?;
    let mut d = dave.listener(CHANNEL, Options::default()).await?;
    let (_a, _b) = (a.microphone.keep_speaking(), b.microphone.keep_speaking());
    for epoch in 1..=10_u64 {
        let (holder, speaker) = if epoch % 2 == 0 { (&alice, 1) } else { (&bob, 2) };
        node.set_floor(CHANNEL, epoch, Some(holder)).await?;
        for listener in [&mut c, &mut d] {
            // The end of the last talk may still be on its way; after the first packet of this one it is over.
            let talk = loop {
                let packet = listener.ear.next().await?;
                if packet.speaker == speaker {
                    break packet;
                }
            };
            assert!(talk.marker, "{talk:?}");
            let rest = listener.ear.hear(TALK).await?;
            assert!(rest.iter().all(|packet| packet.speaker == speaker && !packet.marker), "{rest:?}");
        }
    }
    Ok(())
}
