//! A gateway whose media node fails, hangs or goes away. The node is the real one; what stands between the two is a
//! transport that does as the test says.

mod client;
mod stack;

use std::time::Duration;

use serde_json::json;
use stack::{Fault, Stack};

const CHANNEL: &str = "c1";

#[tokio::test]
async fn a_grant_that_the_node_refuses_is_given_back() {
    let stack = Stack::start().await;
    let (mut alice, mut bob) = (stack.client("alice").await, stack.client("bob").await);
    alice.join(CHANNEL).await;
    bob.join(CHANNEL).await;

    stack.fault("SetFloor", Fault::Fail);
    let denied = alice.request("ptt-start", json!({"channelId": CHANNEL})).await;
    assert_eq!((&denied["type"], &denied["code"]), (&json!("ptt-denied"), &json!("media-unavailable")));
    assert_eq!((&denied["data"]["denied"], &denied["error"]), (&json!(true), &denied["data"]["message"]));
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    let free = bob.push("speaker-changed").await;
    assert_eq!((&free["isBusy"], &free["reason"]), (&json!(false), &json!("node-failed")));

    stack.heal("SetFloor");
    let granted = bob.request("ptt-start", json!({"channelId": CHANNEL})).await;
    assert_eq!(granted["data"]["success"], true);
    assert_eq!(alice.push("speaker-changed").await["currentSpeaker"], "bob");
}

#[tokio::test]
async fn a_node_that_hangs_costs_a_press_its_patience_and_nothing_else() {
    let stack = Stack::start().await;
    let (mut alice, mut bob) = (stack.client("alice").await, stack.client("bob").await);
    alice.join(CHANNEL).await;
    bob.join(CHANNEL).await;
    stack.fault("SetFloor", Fault::Hang);
    alice.send("ptt-start", json!({"channelId": CHANNEL}), "press").await;
    alice.send("ping", json!({}), "ping").await;
    assert_eq!(bob.push("speaker-changed").await["currentSpeaker"], "alice");
    assert_eq!(bob.request("ping", json!({})).await["type"], "pong", "others are served");
    assert_eq!(alice.answer("press").await["code"], "media-unavailable");
    assert_eq!(alice.answer("ping").await["type"], "pong", "in order, behind the press");
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
}

#[tokio::test]
async fn a_disconnect_frees_the_floor_whatever_the_node_does() {
    let stack = Stack::start().await;
    let (mut alice, mut bob) = (stack.client("alice").await, stack.client("bob").await);
    alice.join(CHANNEL).await;
    bob.join(CHANNEL).await;
    let transport = alice.request("create-transport", json!({"channelId": CHANNEL, "direction": "send"})).await;
    assert!(transport["data"]["id"].is_string());
    assert_eq!(alice.request("ptt-start", json!({"channelId": CHANNEL})).await["data"]["success"], true);
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);

    stack.fault("CloseConnection", Fault::Fail);
    alice.close().await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    assert_eq!(bob.push("channel-state").await["action"], "user-disconnected");
    assert_eq!(stack.transports().await, 1);
    stack.heal("CloseConnection");
    stack.until_transports(0).await;
}

#[tokio::test]
async fn a_talk_survives_that_the_nodes_events_are_lost_for_a_while() {
    let stack = Stack::start_impatient("300ms").await;
    let (mut alice, mut bob) = (stack.client("alice").await, stack.client("bob").await);
    alice.join(CHANNEL).await;
    bob.join(CHANNEL).await;
    // The node knows the talk, but cannot say whether there is media: the holder has the benefit of the doubt.
    stack.fault("GetFloorActivity", Fault::Fail);
    assert_eq!(alice.request("ptt-start", json!({"channelId": CHANNEL})).await["data"]["success"], true);
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    stack.until_asked("GetFloorActivity").await;
    assert!(bob.no_push("speaker-changed", Duration::from_millis(100)).await);
    // It answers again, and it has seen nothing.
    stack.heal("GetFloorActivity");
    let free = bob.push("speaker-changed").await;
    assert_eq!((&free["isBusy"], &free["reason"]), (&json!(false), &json!("silent")));
    assert_eq!(alice.push("speaker-changed").await["reason"], "silent", "who lost the floor is told");
}

#[tokio::test]
async fn without_the_nodes_events_the_gateway_is_not_ready_and_subscribes_again() {
    let stack = Stack::start_without("WatchEvents").await;
    assert_eq!(stack.get("/ready").await.0, 503);
    assert_eq!(stack.get("/live").await.0, 200);
    stack.heal("WatchEvents");
    stack.until_ready().await;
}

#[tokio::test]
async fn a_shutdown_ends_in_time_though_the_node_hangs() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice").await;
    alice.join(CHANNEL).await;
    stack.fault("CloseConnection", Fault::Hang);
    let ended = stack.shut_down();
    assert_eq!(alice.close_code().await, 1012);
    tokio::time::timeout(stack::DRAIN_DEADLINE + client::PATIENCE, ended).await.expect("in time").expect("in order");
}
