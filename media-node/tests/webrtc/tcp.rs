//! ICE over TCP: who is let in, and talks over it, on every worker.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::tcp::Tunnel;
use voiceping_testkit::{Options, soon};

use crate::node::{CHANNEL, Listener, Member, Node, Speaker};

async fn speaker_over_tcp(member: &Member, number: u32) -> Result<(Speaker, Tunnel)> {
    let (id, mut server, tcp) = member.create_transport_with_tcp(Direction::Send).await?;
    let tunnel = Tunnel::open(tcp[0]).await?;
    server.candidates = vec![tunnel.address()];
    Ok((member.speaker_over(id, server, CHANNEL, number, Options::default()).await?, tunnel))
}

async fn listener_over_tcp(member: &Member) -> Result<(Listener, Tunnel)> {
    let (id, mut server, tcp) = member.create_transport_with_tcp(Direction::Recv).await?;
    let tunnel = Tunnel::open(tcp[0]).await?;
    server.candidates = vec![tunnel.address()];
    Ok((member.listener_over(id, server, CHANNEL, "", Options::default()).await?, tunnel))
}

/// With members enough for every worker, all behind the one port.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_only_tcp_speaks_and_hears() -> Result<()> {
    let node = Node::start(3).await?;
    let alice = node.member("alice");
    let (speaker, _way) = speaker_over_tcp(&alice, 1).await?;
    let mut listeners = Vec::new();
    for number in 0..8 {
        listeners.push(listener_over_tcp(&node.member(&format!("member-{number}"))).await?);
    }
    let mut over_udp = node.member("bob").listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    speaker.microphone.say(20).await?;
    for (listener, _) in &mut listeners {
        assert_eq!(listener.ear.hear(20).await?.len(), 20);
    }
    assert_eq!(over_udp.ear.hear(20).await?.len(), 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_ends_with_the_transport() -> Result<()> {
    let node = Node::start(1).await?;
    let bob = node.member("bob");
    let (listener, mut tunnel) = listener_over_tcp(&bob).await?;
    bob.close_transport(&listener.transport_id).await?;
    soon("the end of the connection", tunnel.closed()).await?;
    assert_eq!(node.usage().await?, (0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_leaves_the_transport_to_its_other_ways() -> Result<()> {
    let node = Node::start(1).await?;
    let bob = node.member("bob");
    let (_, tunnel) = listener_over_tcp(&bob).await?;
    drop(tunnel);
    assert_eq!(node.usage().await?, (1, 0, 1), "it may come back another way, and ends by its ICE timeout otherwise");
    Ok(())
}

/// Where the node takes TCP, and a username fragment of one of its transports.
async fn door(node: &Node) -> Result<(SocketAddr, String)> {
    let (_, server, tcp) = node.member("alice").create_transport_with_tcp(Direction::Send).await?;
    Ok((*tcp.first().context("a candidate for TCP")?, server.ufrag))
}

/// Says this and answers whether the node closes the connection without a word.
async fn is_turned_away(door: SocketAddr, says: &[u8]) -> Result<bool> {
    let mut stream = TcpStream::connect(door).await?;
    stream.write_all(says).await?;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = soon("the end", stream.read_to_end(&mut answer)).await?;
    Ok(answer.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_something_else_is_turned_away_without_a_word() -> Result<()> {
    let node = Node::start(1).await?;
    let (door, ufrag) = door(&node).await?;
    let frame = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    // A check with a username that exists, and no proof.
    let mut unproven = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let name = format!("{ufrag}:abc");
    unproven.extend([0, 6, 0, name.len() as u8]);
    unproven.extend(name.as_bytes());
    unproven[3] = (unproven.len() - 20) as u8;
    assert_eq!(unproven.len() % 4, 0, "no padding needed");
    for says in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), frame(&[0x16; 100]), frame(b""), vec![0xff; 2], frame(&unproven)] {
        assert!(is_turned_away(door, &says).await?, "{says:x?}");
    }
    Ok(())
}

/// Who connects and says nothing keeps nobody out, however many they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_gives_way() -> Result<()> {
    let node = Node::start(1).await?;
    let (door, _) = door(&node).await?;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(door).await?);
    }
    let alice = node.member("alice");
    let (speaker, _way) = speaker_over_tcp(&alice, 1).await?;
    let (mut listener, _way) = listener_over_tcp(&node.member("bob")).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    speaker.microphone.say(5).await?;
    assert_eq!(listener.ear.hear(5).await?.len(), 5);
    // The first of them have been closed, because one source may have so many and no more.
    let mut byte = [0];
    assert_eq!(soon("the end", silent[0].read(&mut byte)).await?.unwrap_or(0), 0);
    Ok(())
}

/// A listener that takes nothing for a while holds up nobody; then it hears the newest that was said, and not all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_slow_loses_what_is_old() -> Result<()> {
    const TALK: u32 = 400;
    let node = Node::start(1).await?;
    let alice = node.member("alice");
    let speaker = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let (mut slow, tunnel) = listener_over_tcp(&node.member("slow")).await?;
    let (mut listener, _way) = listener_over_tcp(&node.member("bob")).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    tunnel.stall(true);
    for _ in 0..TALK / 50 {
        speaker.microphone.say(50).await?;
        assert_eq!(listener.ear.hear(50).await?.len(), 50);
    }
    tunnel.stall(false);
    let mut heard = Vec::new();
    while heard.last() != Some(&(TALK - 1)) {
        heard.push(slow.ear.next().await?.number);
    }
    assert!(heard.is_sorted_by(|a, b| a < b), "in order: {heard:?}");
    assert!(heard.len() < TALK as usize / 2, "little was kept for it: {}", heard.len());
    Ok(())
}
