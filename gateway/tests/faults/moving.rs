//! Media nodes that are lost or about to end, with clients on them.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Setup};
use crate::network::Fault;
use crate::voice::{hears, listen, speak};
use crate::{channel, gates};

/// Two nodes, with all clients of the channel on one of them.
async fn two_nodes(lease: Duration) -> (Cluster, String) {
    (Cluster::start(Setup { nodes: 2, lease, ..Setup::default() }).await, channel())
}

#[tokio::test]
async fn clients_of_a_lost_node_are_moved_and_the_holder_keeps_its_floor() {
    let (mut cluster, channel) = two_nodes(Duration::from_secs(30)).await;
    let (mut alice, mut bob) =
        (cluster.our_member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    let mut existing = cluster.member(0, "carol", &channel).await;
    existing.ok("create-transport", json!({"channelId": channel, "direction": "recv"})).await;
    let (mut bobs, of_alice) = (listen(&mut bob, &channel).await, speak(&mut alice, &channel, 1).await);
    let epoch = alice.press(&channel).await;
    of_alice.microphone.say(5).await.expect("speaks");
    hears(&mut bobs, 1).await;
    let first = gates::first(&channel).await;

    cluster.kill(cluster.node_of(&first.node)).await;
    assert_eq!(existing.close_code().await, 1012);
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.push("media-moved").await["reason"], "node-lost");
    }
    let mut bobs = listen(&mut bob, &channel).await;
    let of_alice = speak(&mut alice, &channel, 1).await;
    let moved = gates::until_opened(&channel, |gate| gate.node != first.node).await;
    assert_eq!((moved.epoch, moved.connection), (epoch, first.connection), "the same talk");
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    assert_eq!(cluster.floor(&channel).await.epoch, epoch);
    assert!(bob.no_push("media-moved", Duration::from_millis(50)).await, "told once");
    assert_eq!(alice.release(&channel).await["isBusy"], false);
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn the_gate_of_a_node_that_says_nothing_is_waited_for() {
    let (cluster, channel) = two_nodes(Duration::from_secs(4)).await;
    let mut alice = cluster.our_member(0, "alice", &channel).await;
    let _before = speak(&mut alice, &channel, 1).await;
    let epoch = alice.press(&channel).await;
    let first = gates::first(&channel).await;
    // The node lives on, and so does its gate, but nobody can tell.
    cluster.network(cluster.node_of(&first.node)).cut(Fault::Hang);
    assert_eq!(alice.push("media-moved").await["reason"], "node-lost");
    let _after = speak(&mut alice, &channel, 1).await;
    let moved = gates::until_opened(&channel, |gate| gate.node != first.node).await;
    assert_eq!(moved.epoch, epoch);
    gates::assert_never_overlapped(&channel);
    assert!(cluster.floor(&channel).await.holder.is_some_and(|holder| holder.owner.user.as_str() == "alice"));
}

#[tokio::test]
async fn who_holds_a_floor_on_a_silent_node_and_cannot_move_frees_it_when_its_gate_has_ended() {
    let (cluster, channel) = two_nodes(Duration::from_secs(4)).await;
    let (mut alice, mut bob) = (cluster.member(0, "alice", &channel).await, cluster.member(0, "bob", &channel).await);
    alice.press(&channel).await;
    bob.push("speaker-changed").await;
    let node = cluster.node_of(&gates::first(&channel).await.node);
    cluster.network(node).cut(Fault::Hang);
    assert_eq!(alice.close_code().await, 1012);
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    bob.press(&channel).await;
    gates::assert_never_overlapped(&channel);
    // It is heard again: the same process, and it may have clients again.
    cluster.network(node).mend();
    cluster.until_ready(0, 2).await;
}

#[tokio::test]
async fn a_draining_node_is_left_without_a_gap_and_by_talkers_after_their_talk() {
    let (mut cluster, channel) = two_nodes(Duration::from_secs(30)).await;
    let (mut alice, mut bob) =
        (cluster.member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    let mut idle = cluster.member(0, "carol", &channel).await;
    idle.ok("create-transport", json!({"channelId": channel, "direction": "recv"})).await;
    let (mut bobs, of_alice) = (listen(&mut bob, &channel).await, speak(&mut alice, &channel, 1).await);
    alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    let node = cluster.node_of(&gates::first(&channel).await.node);

    let drained = cluster.drain(node, Duration::from_secs(600));
    assert_eq!(bob.push("media-moved").await["reason"], "draining");
    assert_eq!(idle.close_code().await, 1012);
    // Make before break: over the other node he hears the talk that goes on here.
    let mut moved = listen(&mut bob, &channel).await;
    hears(&mut moved, 1).await;
    hears(&mut bobs, 1).await;
    bobs.close().await;
    assert_eq!(alice.request("ping", json!({})).await["type"], "pong", "she talks, and is left alone");
    alice.release(&channel).await;
    assert_eq!(alice.close_code().await, 1012);
    drained.await.expect("it is empty");
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn a_talk_goes_along_when_its_speaker_moves_off_a_draining_node() {
    let (mut cluster, channel) = two_nodes(Duration::from_secs(30)).await;
    let (mut alice, mut bob) =
        (cluster.our_member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    let (mut bobs, of_alice) = (listen(&mut bob, &channel).await, speak(&mut alice, &channel, 1).await);
    let epoch = alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    let first = gates::first(&channel).await;
    let _drained = cluster.drain(cluster.node_of(&first.node), Duration::from_secs(600));
    assert_eq!(alice.push("media-moved").await["reason"], "draining");
    let elsewhere = speak(&mut alice, &channel, 2).await;
    let moved = gates::until_opened(&channel, |gate| gate.node != first.node).await;
    assert_eq!(moved.epoch, epoch);
    let _speaks_elsewhere = elsewhere.microphone.keep_speaking();
    hears(&mut bobs, 2).await;
    gates::assert_never_overlapped(&channel);
}
