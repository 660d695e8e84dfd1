//! What the node tells its gateway about transports and talks.

use anyhow::{Context, Result};
use tokio_stream::StreamExt;
use voiceping_proto::media::v1::GetFloorActivityRequest;
use voiceping_proto::media::v1::node_event::transport_closed::Reason;
use voiceping_proto::media::v1::node_event::{Event, FloorMediaStarted, FloorMediaStopped};
use voiceping_testkit::{Options, soon};

use crate::node::{CHANNEL, Node};

fn started(epoch: u64) -> Event {
    Event::FloorMediaStarted(FloorMediaStarted { channel_id: CHANNEL.to_owned(), epoch })
}

fn stopped(epoch: u64) -> Event {
    Event::FloorMediaStopped(FloorMediaStopped { channel_id: CHANNEL.to_owned(), epoch })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_is_reported_from_its_first_packet_to_the_close_of_its_producer() -> Result<()> {
    let mut node = Node::start(2).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let connected = node.event().await?;
    assert!(
        matches!(&connected, Event::TransportConnected(of)
            if of.connection_id == "alice" && of.transport_id == a.transport_id),
        "{connected:?}"
    );
    let activity = GetFloorActivityRequest { channel_id: CHANNEL.to_owned() };
    node.set_floor(CHANNEL, 7, Some(&alice)).await?;
    let seen = node.client.clone().get_floor_activity(activity.clone()).await?.into_inner();
    assert_eq!((seen.epoch, seen.silent_for_ms), (7, None));

    a.microphone.say(3).await?;
    assert_eq!(node.event().await?, started(7));
    let seen = node.client.clone().get_floor_activity(activity.clone()).await?.into_inner();
    assert!(seen.epoch == 7 && seen.silent_for_ms.is_some_and(|silent| silent < 4000), "{seen:?}");

    alice.close_producer(&a.producer_id).await?;
    assert_eq!(node.event().await?, stopped(7));
    // A new producer of the same holder goes on with the talk.
    alice.produce(&a.transport_id, CHANNEL, &a.microphone).await?;
    a.microphone.say(1).await?;
    assert_eq!(node.event().await?, started(7));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_who_falls_silent_is_reported_after_four_seconds() -> Result<()> {
    let mut node = Node::start(1).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    node.until(|event| matches!(event, Event::TransportConnected(_))).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(1).await?;
    assert_eq!(node.event().await?, started(1));
    let spoken = std::time::Instant::now();
    assert_eq!(node.event().await?, stopped(1));
    let silent = spoken.elapsed().as_secs_f32();
    assert!((3.5..6.0).contains(&silent), "reported after {silent} s");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_goodbye_is_reported_with_its_talk() -> Result<()> {
    let mut node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let b = bob.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(1).await?;
    node.until(|event| *event == started(1)).await?;
    assert_eq!(node.usage().await?, (2, 1, 1));

    a.transport.close().await?;
    assert_eq!(node.event().await?, stopped(1));
    let event = node.event().await?;
    let Event::TransportClosed(closed) = &event else { panic!("{event:?}") };
    assert_eq!((closed.connection_id.as_str(), &closed.transport_id), ("alice", &a.transport_id));
    assert_eq!(closed.reason(), Reason::CloseNotify);
    b.transport.close().await?;
    node.until(|event| matches!(event, Event::TransportClosed(of) if of.connection_id == "bob")).await?;
    assert_eq!(node.usage().await?, (0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_closed_itself_is_not_reported_but_the_talk_in_it_is() -> Result<()> {
    let mut node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(1).await?;
    node.until(|event| *event == started(1)).await?;
    alice.close_transport(&a.transport_id).await?;
    assert_eq!(node.event().await?, stopped(1));
    // The next event is the next thing that happens, not the close.
    bob.listener(CHANNEL, Options::default()).await?;
    let event = node.event().await?;
    assert!(matches!(&event, Event::TransportConnected(of) if of.connection_id == "bob"), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_end_with_the_node() -> Result<()> {
    let node = Node::start(2).await?;
    let alice = node.member("alice");
    alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut events = node.shutdown().await;
    loop {
        match soon("the end of the events", events.next()).await? {
            Some(event) => {
                event.context("an event before the end")?;
            }
            None => return Ok(()),
        }
    }
}
