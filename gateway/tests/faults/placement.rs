//! Clients on several gateways and nodes: where they go, and that one of them speaks at a time.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Setup};
use crate::network::Fault;
use crate::voice::{hears, listen, speak};
use crate::{channel, gates};

#[tokio::test]
async fn members_of_a_channel_share_a_node_while_it_has_room() {
    let setup = Setup { gateways: 2, nodes: 2, capacity: 2, ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut members = Vec::new();
    for (gateway, user) in [(0, "alice"), (0, "bob"), (0, "carol"), (0, "dave")] {
        let mut member = cluster.member(gateway, user, &channel).await;
        member.press(&channel).await;
        member.release(&channel).await;
        members.push(member);
    }
    let nodes: Vec<_> = gates::until_count(&channel, 4).await.into_iter().map(|gate| gate.node).collect();
    assert!(nodes[0] == nodes[1] && nodes[2] == nodes[3] && nodes[0] != nodes[2], "{nodes:?}");
    let mut eve = cluster.member(0, "eve", &channel).await;
    assert_eq!(eve.request("ptt-start", json!({"channelId": channel})).await["code"], "no-media-node");
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn one_speaks_at_a_time_whatever_gateway_and_node_they_are_on() {
    let setup = Setup { gateways: 2, nodes: 2, capacity: 1, ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut alice = cluster.member(0, "alice", &channel).await;
    let mut alices = listen(&mut alice, &channel).await;
    let of_alice = speak(&mut alice, &channel, 1).await;
    // The second gateway reads in the registry that the first node is full.
    cluster.until_full(cluster.node_with_clients().await).await;
    let mut bob = cluster.member(1, "bob", &channel).await;
    let mut bobs = listen(&mut bob, &channel).await;
    let of_bob = speak(&mut bob, &channel, 2).await;
    let (_alice_speaks, _bob_speaks) = (of_alice.microphone.keep_speaking(), of_bob.microphone.keep_speaking());
    for _ in 0..5 {
        alice.press(&channel).await;
        hears(&mut bobs, 1).await;
        let denied = bob.request("ptt-start", json!({"channelId": channel})).await;
        assert_eq!((&denied["code"], &denied["error"]), (&json!("busy"), &json!("alice is speaking")));
        alice.release(&channel).await;
        bob.press(&channel).await;
        hears(&mut alices, 2).await;
        bob.release(&channel).await;
    }
    let gates = gates::until_count(&channel, 10).await;
    assert_ne!(gates[0].node, gates[1].node);
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn a_user_takes_over_from_a_silent_device_once_its_gate_is_closed_wherever_it_is() {
    let setup = Setup { gateways: 2, nodes: 2, ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut phone = cluster.member(0, "alice", &channel).await;
    let mut laptop = cluster.member(1, "alice", &channel).await;
    let mut bob = cluster.member(1, "bob", &channel).await;
    phone.press(&channel).await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    let node = cluster.node_of(&gates::first(&channel).await.node);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // A node that does not answer may have the gate.
    cluster.network(1 - node).fault("GetFloorActivity", Fault::Fail);
    assert_eq!(laptop.request("ptt-start", json!({"channelId": channel})).await["code"], "busy");
    cluster.network(1 - node).heal("GetFloorActivity");
    laptop.press(&channel).await;
    assert_eq!(phone.push("speaker-changed").await["currentSpeaker"], "alice");
    gates::assert_never_overlapped(&channel);
    assert_eq!(cluster.floor(&channel).await.epoch, gates::until_count(&channel, 2).await[1].epoch);
}
