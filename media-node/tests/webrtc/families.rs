//! IPv6, alone and beside IPv4, on every worker's port.

use anyhow::Result;
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::Options;

use crate::node::{CHANNEL, Node};

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_over_ipv6_alone() -> Result<()> {
    let node = Node::start_with(&["--media-listen", "[::1]:0", "--media-workers", "2"]).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let speaker = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut listener = bob.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    speaker.microphone.say(20).await?;
    assert_eq!(listener.ear.hear(20).await?.len(), 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_ipv4_and_who_has_ipv6_hear_each_other() -> Result<()> {
    let both = ["--media-listen", "[::]:0", "--media-announce", "::1,127.0.0.1", "--media-workers", "1"];
    let node = Node::start_with(&both).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let (id, mut server) = alice.create_transport(Direction::Send).await?;
    let families: Vec<bool> = server.candidates.iter().map(|candidate| candidate.is_ipv6()).collect();
    assert_eq!(families, [true, false], "both, in the order in which they were announced");
    assert_eq!(server.candidates[0].port(), server.candidates[1].port());
    server.candidates.retain(|candidate| candidate.is_ipv6());
    let speaker = alice.speaker_over(id, server, CHANNEL, 1, Options::default()).await?;
    let (id, mut server) = bob.create_transport(Direction::Recv).await?;
    server.candidates.retain(|candidate| candidate.is_ipv4());
    let mut listener = bob.listener_over(id, server, CHANNEL, "", Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    speaker.microphone.say(20).await?;
    assert_eq!(listener.ear.hear(20).await?.len(), 20);
    Ok(())
}
