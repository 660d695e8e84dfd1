//! A media node that fails, hangs or does not answer, and the talk that needs it.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Setup};
use crate::network::Fault;
use crate::{channel, gates};

#[tokio::test]
async fn a_grant_that_nobody_took_is_given_back_at_once() {
    let (cluster, channel) = (Cluster::start(Setup::default()).await, channel());
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);

    cluster.network(0).fault("SetFloor", Fault::Refuse);
    let denied = alice.request("ptt-start", json!({"channelId": channel})).await;
    assert_eq!((&denied["type"], &denied["code"]), (&json!("ptt-denied"), &json!("media-unavailable")));
    assert_eq!((&denied["data"]["denied"], &denied["error"]), (&json!(true), &denied["data"]["message"]));
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    let free = bob.push("speaker-changed").await;
    assert_eq!((&free["isBusy"], &free["reason"]), (&json!(false), &json!("node-failed")));

    cluster.network(0).heal("SetFloor");
    bob.press(&channel).await;
    assert_eq!(alice.push("speaker-changed").await["currentSpeaker"], "bob");
}

#[tokio::test]
async fn a_grant_that_may_have_opened_a_gate_is_given_back_when_the_gate_has_ended() {
    let setup = Setup { lease: Duration::from_secs(3), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);
    let pressed = tokio::time::Instant::now();
    cluster.network(0).fault("SetFloor", Fault::Hang);
    alice.send("ptt-start", json!({"channelId": channel}), "press").await;
    alice.send("ping", json!({}), "ping").await;
    assert_eq!(bob.push("speaker-changed").await["currentSpeaker"], "alice");
    assert_eq!(bob.request("ping", json!({})).await["type"], "pong", "others are served");
    assert_eq!(alice.answer("press").await["code"], "media-unavailable");
    assert_eq!(alice.answer("ping").await["type"], "pong", "in order, behind the press");
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    assert!(pressed.elapsed() >= Duration::from_secs(3), "alice could have been heard until then");
    cluster.network(0).heal("SetFloor");
    bob.press(&channel).await;
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn a_floor_is_given_back_only_after_its_gate_has_closed() {
    let setup = Setup { lease: Duration::from_secs(3), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);
    alice.press(&channel).await;
    bob.push("speaker-changed").await;
    cluster.network(0).fault("SetFloor", Fault::Fail);
    assert_eq!(alice.release(&channel).await["isBusy"], false, "to her it is free");
    assert!(cluster.floor(&channel).await.holder.is_some());
    let denied = bob.request("ptt-start", json!({"channelId": channel})).await;
    assert_eq!(denied["code"], "busy");
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    cluster.network(0).heal("SetFloor");
    bob.press(&channel).await;
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn a_disconnect_frees_the_floor_whatever_the_node_does_with_the_media() {
    let (cluster, channel) = (Cluster::start(Setup::default()).await, channel());
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);
    alice.ok("create-transport", json!({"channelId": channel, "direction": "send"})).await;
    alice.press(&channel).await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);

    cluster.network(0).fault("CloseConnection", Fault::Fail);
    alice.close().await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    assert_eq!(bob.push("channel-state").await["action"], "user-disconnected");
    assert_eq!(cluster.transports(0).await, 1);
    cluster.network(0).heal("CloseConnection");
    cluster.until_transports(0, 0).await;
}

#[tokio::test]
async fn a_talk_survives_that_the_nodes_word_is_missed_for_a_while() {
    let setup = Setup { silence_limit: Duration::from_millis(300), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);
    // The node knows the talk, but cannot say whether there is media: the holder has the benefit of the doubt.
    cluster.network(0).fault("GetFloorActivity", Fault::Fail);
    alice.press(&channel).await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    cluster.network(0).until_asked("GetFloorActivity").await;
    assert!(bob.no_push("speaker-changed", Duration::from_millis(100)).await);
    // It answers again, and it has seen nothing.
    cluster.network(0).heal("GetFloorActivity");
    let free = bob.push("speaker-changed").await;
    assert_eq!((&free["isBusy"], &free["reason"]), (&json!(false), &json!("silent")));
    assert_eq!(alice.push("speaker-changed").await["reason"], "silent", "who lost the floor is told");
}

#[tokio::test]
async fn without_a_nodes_events_the_gateway_is_not_ready_and_subscribes_again() {
    let cluster = Cluster::start(Setup { without: Some("WatchEvents"), ..Setup::default() }).await;
    assert_eq!(cluster.get(0, "/ready").await.0, 503);
    assert_eq!(cluster.get(0, "/live").await.0, 200);
    let channel = channel();
    let mut alice = cluster.member(0, "alice", &channel).await;
    let denied = alice.request("ptt-start", json!({"channelId": channel})).await;
    assert_eq!((&denied["type"], &denied["code"]), (&json!("ptt-denied"), &json!("no-media-node")));
    let refused = alice.request("create-transport", json!({"channelId": channel, "direction": "send"})).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("no-media-node")));
    cluster.network(0).heal("WatchEvents");
    cluster.until_ready(0, 1).await;
    alice.press(&channel).await;
}
