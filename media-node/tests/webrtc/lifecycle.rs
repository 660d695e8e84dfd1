//! A node's time among others: its place in the registry, gateways that come and go, and its end.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_stream::StreamExt;
use tonic::Code;
use voiceping_proto::media::v1::node_event::transport_closed::Reason;
use voiceping_proto::media::v1::node_event::{ChannelCarried, Event};
use voiceping_proto::media::v1::{self as proto, AdoptConnectionRequest, Direction};
use voiceping_state::{FloorRules, Limits, Node as Registered, Nodes, Redis, RedisConfig, Servers, Store};
use voiceping_testkit::{Options, soon};

use crate::cluster::{Cluster, hear_from};
use crate::node::{CHANNEL, GATEWAY, Node, assert_refused, watch};

const ALICE: u32 = 1;

/// The registry's entry of a node, when it is as it is wanted.
async fn registered(cluster: &Cluster, node: &Node, wanted: impl Fn(&Registered) -> bool) -> Result<Registered> {
    let found = async {
        loop {
            let nodes = cluster.store.nodes().await.unwrap_or_default();
            if let Some(found) = nodes.into_iter().find(|known| known.id == *node.node.id() && wanted(known)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the registry", found).await
}

async fn adopt(node: &Node, gateway: &str, connection: &str) -> Result<proto::AdoptConnectionResponse, tonic::Status> {
    let request = AdoptConnectionRequest { gateway_id: gateway.to_owned(), connection_id: connection.to_owned() };
    node.client.clone().adopt_connection(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_registered_with_its_load_until_it_ends() -> Result<()> {
    let cluster = Cluster::with(&["--region", "east", "--capacity", "7"])?;
    let node = cluster.node(2).await?;
    let entry = registered(&cluster, &node, |_| true).await?;
    assert_eq!((entry.region.as_str(), entry.capacity, entry.load, entry.draining), ("east", 7, 0, false));
    for name in ["alice", "bob", "carol"] {
        node.member(name).create_transport(Direction::Recv).await?;
        node.member(name).create_transport(Direction::Send).await?;
    }
    registered(&cluster, &node, |entry| entry.load == 3).await?;
    node.shutdown().await;
    assert_eq!(cluster.store.nodes().await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_while_the_state_is_away_registers_when_it_is_back() -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let server = RedisConfig::new(Servers::Standalone(format!("redis://127.0.0.1:{port}")));
    let rules = FloorRules { lease: Duration::from_secs(15), talk_limit: None };
    let cluster = Cluster::over(Store::Redis(Redis::new(&server, rules, Limits::default())?), &[])?;
    let mut node = soon("the join", cluster.node(1)).await??;
    // It serves all the same.
    let alice = node.member("alice");
    let _a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    node.event().await?;
    let mut command = tokio::process::Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--loglevel", "warning"]);
    let _redis = command.stdout(std::process::Stdio::null()).kill_on_drop(true).spawn()?;
    registered(&cluster, &node, |entry| entry.load == 1).await?;
    node.shutdown().await;
    assert_eq!(cluster.store.nodes().await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_hear_the_clock_and_which_channels_have_listeners() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut node = cluster.node(2).await?;
    let before = node.set_floor_until(CHANNEL, 1, None, 0).await?;
    let members = ["alice", "bob", "carol", "dave"].map(|name| node.member(name));
    for member in &members {
        member.listener(CHANNEL, Options::default()).await?;
    }
    let carried = |carried| Event::ChannelCarried(ChannelCarried { channel_id: CHANNEL.to_owned(), carried });
    node.until(|event| *event == carried(true)).await?;
    let (ready, _) = watch(&node.client, "another").await?;
    assert_eq!((ready.node_id.as_str(), ready.channel_ids), (node.node.id().as_str(), vec![CHANNEL.to_owned()]));
    for member in &members {
        member.close_connection("").await?;
    }
    let next = node.until(|event| matches!(event, Event::ChannelCarried(_))).await?;
    assert_eq!(next, carried(false), "once, after the last one of all workers");
    let Event::Tick(tick) = node.until(|event| matches!(event, Event::Tick(_))).await? else { panic!("a tick") };
    let after = node.set_floor_until(CHANNEL, 2, None, 0).await?;
    assert!(before <= ready.clock_ms && ready.clock_ms <= tick.clock_ms && tick.clock_ms <= after);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_ends_by_the_nodes_clock() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let b = bob.speaker(CHANNEL, 2, Options::default()).await?;
    let mut c = node.member("carol").listener(CHANNEL, Options::default()).await?;
    let now = node.set_floor_until(CHANNEL, 1, None, 0).await?;
    for past in [0, now] {
        let refused = node.set_floor_until(CHANNEL, 2, Some(&alice), past).await;
        assert_refused(refused, Code::FailedPrecondition);
    }
    let _speaking = a.microphone.keep_speaking();
    let end = node.set_floor_until(CHANNEL, 2, Some(&alice), now + 60_000).await? + 500;
    c.ear.hear(3).await?;
    node.set_floor_until(CHANNEL, 2, Some(&alice), end).await?; // the newest end counts
    let spoken = loop {
        // A frame is on its way for less than it takes to be spoken.
        let spoken = a.microphone.spoken() + 1;
        // Closing what was never open says what time it is.
        if node.set_floor_until("another channel", 1, None, 0).await? > end {
            break spoken;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    node.set_floor(CHANNEL, 3, Some(&bob)).await?;
    b.microphone.say(1).await?;
    loop {
        let packet = c.ear.next().await?;
        if packet.speaker != ALICE {
            break;
        }
        assert!(packet.number <= spoken, "{packet:?} has passed after the end");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_connection_is_its_new_gateways_and_the_old_one_cannot_cut_it() -> Result<()> {
    let mut node = Node::start(2).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let heard = alice.listener("another channel", Options::default()).await?;
    let mut c = node.member("carol").listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    node.until(|event| matches!(event, Event::TransportConnected(of) if of.transport_id == c.transport_id)).await?;

    let (_, mut events) = watch(&node.client, "new").await?;
    assert_refused(adopt(&node, "new", "nobody").await, Code::NotFound);
    let adopted = adopt(&node, "new", "alice").await?;
    assert_eq!(adopt(&node, "new", "alice").await?, adopted, "repeating it is success");
    let mut transports: Vec<_> = adopted.transports.iter().map(|of| (of.direction(), &of.transport_id)).collect();
    transports.sort();
    assert_eq!(transports, [(Direction::Send, &a.transport_id), (Direction::Recv, &heard.transport_id)]);
    let stream = |id: &str, channel: &str| proto::adopt_connection_response::Stream {
        id: id.to_owned(),
        channel_id: channel.to_owned(),
    };
    assert_eq!(adopted.producers, [stream(&a.producer_id, CHANNEL)]);
    assert_eq!(adopted.consumers, [stream(&heard.consumer_id, "another channel")]);

    // What the old gateway still asks for changes nothing, and is success.
    let close = proto::SetFloorRequest {
        channel_id: CHANNEL.to_owned(),
        epoch: 1,
        holder_gateway_id: GATEWAY.to_owned(),
        ..Default::default()
    };
    node.client.clone().set_floor(close).await?;
    let close = proto::CloseConnectionRequest {
        connection_id: "alice".to_owned(),
        gateway_id: GATEWAY.to_owned(),
        ..Default::default()
    };
    node.client.clone().close_connection(close).await?;
    let first = a.microphone.say(3).await?;
    hear_from(&mut c.ear, ALICE, first, 3).await?;

    // From here on the new one hears of it, and the old one does not.
    a.transport.close().await?;
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(soon("an event", events.next()).await?.context("an event")??.event.context("content")?);
    }
    assert!(matches!(&told[0], Event::FloorMediaStarted(of) if of.epoch == 1), "{told:?}");
    assert!(matches!(&told[1], Event::FloorMediaStopped(of) if of.epoch == 1), "{told:?}");
    let Event::TransportClosed(closed) = &told[2] else { panic!("{told:?}") };
    assert_eq!((closed.transport_id.as_str(), closed.reason()), (a.transport_id.as_str(), Reason::CloseNotify));
    c.transport.close().await?;
    let next = node.event().await?;
    assert!(matches!(&next, Event::TransportClosed(of) if of.connection_id == "carol"), "{next:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_adopts_of_a_gateway_that_is_gone_is_closed() -> Result<()> {
    let cluster = Cluster::with(&["--gateway-grace", "1s"])?;
    let node = cluster.node(2).await?;
    let (_, events) = watch(&node.client, "gone").await?;
    let stays = node.member("stays");
    let s = stays.speaker(CHANNEL, 9, Options::default()).await?;
    let (alice, bob) = (node.member_of("gone", "alice"), node.member_of("gone", "bob"));
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    bob.create_transport(Direction::Recv).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    assert_eq!(adopt(&node, GATEWAY, "bob").await?.transports.len(), 1);
    // Somebody whose gateway has never watched, too.
    node.member_of("never there", "carol").create_transport(Direction::Send).await?;
    drop(events);
    registered(&cluster, &node, |entry| entry.load == 2).await?; // stays, and bob
    assert_refused(alice.produce(&a.transport_id, CHANNEL, &a.microphone).await, Code::NotFound);
    bob.create_transport(Direction::Send).await?;
    stays.produce(&s.transport_id, CHANNEL, &s.microphone).await?;
    // The gate that was open is closed for good.
    assert_refused(node.set_floor(CHANNEL, 1, Some(&alice)).await, Code::FailedPrecondition);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_takes_nobody_new_and_ends_when_it_is_empty() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut node = cluster.node(2).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, ALICE, Options::default()).await?;
    let mut c = node.member("carol").listener(CHANNEL, Options::default()).await?;
    {
        let drain = node.node.drain(Duration::from_secs(3600));
        tokio::pin!(drain);
        let meanwhile = async {
            let registered = registered(&cluster, &node, |entry| entry.draining).await?;
            assert!(!registered.has_room());
            let (_, mut events) = watch(&node.client, "late").await?;
            let Some(Event::Draining(draining)) = events.next().await.context("an event")??.event else {
                panic!("who comes late is told")
            };
            assert!(draining.deadline_ms > 3_500_000, "{draining:?}");
            assert_refused(node.member("bob").create_transport(Direction::Send).await, Code::Unavailable);
            alice.create_transport(Direction::Recv).await?; // is here already
            node.set_floor(CHANNEL, 1, Some(&alice)).await?;
            a.microphone.say(3).await?;
            c.ear.hear(3).await?; // who talks may go on
            alice.close_connection("").await?;
            node.member("carol").close_connection("").await?;
            Ok::<_, anyhow::Error>(())
        };
        tokio::select! {
            biased;
            done = meanwhile => done?,
            () = &mut drain => panic!("there were clients"),
        }
        soon("the end of the drain", drain).await?;
    }
    node.until(|event| matches!(event, Event::Draining(_))).await?;
    node.shutdown().await;
    assert_eq!(cluster.store.nodes().await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_no_longer_than_its_deadline() -> Result<()> {
    let node = Node::start(1).await?;
    node.member("alice").create_transport(Direction::Send).await?;
    soon("the deadline", node.node.drain(Duration::from_millis(50))).await
}
