//! Clients of ours whose socket drops, and that go on over another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{Cluster, Setup};
use crate::voice::{Listening, hears, listen, speak};
use crate::{channel, gates};

/// What a client has to say and hear after it has come back.
async fn comes_back(cluster: &Cluster, gateway: usize, user: &str, ticket: &str, channel: &str) -> (Client, Value) {
    let mut client = cluster.client(gateway, user).await;
    let resumed = client.begin_session(Some(ticket)).await;
    assert_eq!(resumed["resumed"], true, "{resumed}");
    let joined = client.ok("join-channel", json!({"channelId": channel})).await;
    (client, joined)
}

async fn goes_on(listening: &mut Listening, speaker: u32) {
    // What came until now does not count.
    listening.ear.rest();
    hears(listening, speaker).await;
}

#[tokio::test]
async fn a_listener_resumes_at_its_gateway_and_nobody_notices() {
    let (cluster, channel) = (Cluster::start(Setup::default()).await, channel());
    let (mut alice, mut bob) =
        (cluster.member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    let (mut bobs, of_alice) = (listen(&mut bob, &channel).await, speak(&mut alice, &channel, 1).await);
    alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    assert_eq!(alice.push("channel-state").await["action"], "user-joined");

    let ticket = bob.ticket().await;
    drop(bob);
    goes_on(&mut bobs, 1).await;
    let (mut bob, joined) = comes_back(&cluster, 0, "bob", &ticket, &channel).await;
    assert_eq!((&joined["userCount"], &joined["state"]["currentSpeaker"]), (&json!(2), &json!("alice")));
    goes_on(&mut bobs, 1).await;
    assert!(alice.no_push("channel-state", Duration::from_millis(50)).await);
    // He is told again, and the transport that he had is his.
    alice.release(&channel).await;
    assert_eq!(bob.push("speaker-changed").await["isBusy"], false);
    let of_bob = speak(&mut bob, &channel, 2).await;
    bob.press(&channel).await;
    of_bob.microphone.say(3).await.expect("speaks");
    assert_eq!(cluster.transports(0).await, 3);
}

#[tokio::test]
async fn a_socket_that_does_not_know_its_end_is_superseded() {
    let (cluster, channel) = (Cluster::start(Setup::default()).await, channel());
    let mut half_open = cluster.our_member(0, "alice", &channel).await;
    let epoch = half_open.press(&channel).await;
    let ticket = half_open.ticket().await;
    let (mut alice, joined) = comes_back(&cluster, 0, "alice", &ticket, &channel).await;
    assert_eq!((&joined["state"]["currentSpeaker"], &joined["state"]["epoch"]), (&json!("alice"), &json!(epoch)));
    assert_eq!(half_open.close_code().await, 4002);
    assert_eq!(alice.press(&channel).await, epoch, "it is the same talk");
    assert_eq!(alice.release(&channel).await["isBusy"], false);
}

#[tokio::test]
async fn a_holder_and_a_listener_resume_at_another_gateway_and_the_old_one_disturbs_nothing() {
    let setup = Setup { gateways: 2, resume_grace: Duration::from_millis(1500), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut observer = cluster.member(1, "carol", &channel).await;
    let (mut alice, mut bob) =
        (cluster.our_member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    for _ in 0..2 {
        assert_eq!(observer.push("channel-state").await["action"], "user-joined");
    }
    let (mut bobs, of_alice) = (listen(&mut bob, &channel).await, speak(&mut alice, &channel, 1).await);
    let epoch = alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    let (alices_ticket, bobs_ticket) = (alice.ticket().await, bob.ticket().await);
    drop((alice, bob));

    let (mut alice, joined) = comes_back(&cluster, 1, "alice", &alices_ticket, &channel).await;
    assert_eq!((&joined["state"]["currentSpeaker"], &joined["state"]["epoch"]), (&json!("alice"), &json!(epoch)));
    let (_bob, _) = comes_back(&cluster, 1, "bob", &bobs_ticket, &channel).await;
    goes_on(&mut bobs, 1).await;
    // The old gateway waits for its grace and cleans up: it has nothing any more that it could.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    goes_on(&mut bobs, 1).await;
    assert!(observer.no_push("channel-state", Duration::ZERO).await);
    let floor = cluster.floor(&channel).await;
    assert_eq!((floor.epoch, floor.holder.is_some()), (epoch, true));
    assert_eq!(alice.release(&channel).await["isBusy"], false);
    assert_eq!(gates::until_count(&channel, 1).await.len(), 1, "one gate, from the first word to the last");
    assert_eq!(cluster.transports(0).await, 2);
}

#[tokio::test]
async fn a_client_may_go_back_and_forth_between_gateways() {
    let setup = Setup { gateways: 2, resume_grace: Duration::from_secs(2), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut bob = cluster.member(1, "bob", &channel).await;
    let mut bobs = listen(&mut bob, &channel).await;
    let mut alice = cluster.our_member(0, "alice", &channel).await;
    let of_alice = speak(&mut alice, &channel, 1).await;
    let epoch = alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    for gateway in [1, 0, 1, 0] {
        let ticket = alice.ticket().await;
        drop(alice);
        let joined;
        (alice, joined) = comes_back(&cluster, gateway, "alice", &ticket, &channel).await;
        assert_eq!(joined["state"]["epoch"], epoch);
        goes_on(&mut bobs, 1).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    goes_on(&mut bobs, 1).await;
    assert_eq!(alice.release(&channel).await["isBusy"], false);
    gates::assert_never_overlapped(&channel);
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_its_user_only() {
    let (cluster, channel) = (Cluster::start(Setup { gateways: 2, ..Setup::default() }).await, channel());
    let mut alice = cluster.our_member(0, "alice", &channel).await;
    alice.ok("create-transport", json!({"channelId": channel, "direction": "recv"})).await;
    let ticket = alice.ticket().await;
    let mut mallory = cluster.client(1, "mallory").await;
    for bad in [ticket.as_str(), "no ticket", "a.b.c"] {
        let anew = mallory.begin_session(Some(bad)).await;
        assert_eq!((&anew["resumed"], &anew["transports"]), (&json!(false), &json!([])), "{bad}");
    }
    assert_eq!(alice.request("ping", json!({})).await["type"], "pong", "nobody has taken her session");
    let (mut again, _) = comes_back(&cluster, 1, "alice", &ticket, &channel).await;
    for gateway in [0, 1] {
        let mut used = cluster.client(gateway, "alice").await;
        assert_eq!(used.begin_session(Some(&ticket)).await["resumed"], false);
        used.join(&channel).await;
    }
    // Who has begun something of its own does not become another.
    let ticket = again.ticket().await;
    let mut begun = cluster.our_member(1, "alice", &channel).await;
    assert_eq!(begun.begin_session(Some(&ticket)).await["resumed"], false);
    begun.press(&channel).await;
}

#[tokio::test]
async fn who_does_not_come_back_is_cleaned_up_after_the_grace() {
    let setup = Setup { resume_grace: Duration::from_millis(500), ..Setup::default() };
    let (cluster, channel) = (Cluster::start(setup).await, channel());
    let mut bob = cluster.member(0, "bob", &channel).await;
    let mut alice = cluster.our_member(0, "alice", &channel).await;
    assert_eq!(bob.push("channel-state").await["action"], "user-joined");
    alice.ok("create-transport", json!({"channelId": channel, "direction": "send"})).await;
    alice.press(&channel).await;
    let ticket = alice.ticket().await;
    drop(alice);
    assert_eq!(bob.push("speaker-changed").await["isBusy"], true);
    let free = bob.push("speaker-changed").await;
    assert_eq!((&free["isBusy"], &free["reason"]), (&json!(false), &json!("left")));
    assert_eq!(bob.push("channel-state").await["action"], "user-disconnected");
    cluster.until_transports(0, 0).await;
    let mut late = cluster.client(0, "alice").await;
    assert_eq!(late.begin_session(Some(&ticket)).await["resumed"], false);
}

#[tokio::test]
async fn who_says_goodbye_is_cleaned_up_at_once() {
    let (cluster, channel) = (Cluster::start(Setup::default()).await, channel());
    let mut bob = cluster.member(0, "bob", &channel).await;
    let mut alice = cluster.our_member(0, "alice", &channel).await;
    assert_eq!(bob.push("channel-state").await["action"], "user-joined");
    let ticket = alice.ticket().await;
    alice.close().await;
    assert_eq!(bob.push("channel-state").await["action"], "user-disconnected");
    let mut again = cluster.client(0, "alice").await;
    assert_eq!(again.begin_session(Some(&ticket)).await["resumed"], false);
}

#[tokio::test]
async fn a_node_that_is_lost_while_its_client_is_away_costs_the_client_its_media_only() {
    let (mut cluster, channel) = (Cluster::start(Setup { nodes: 2, ..Setup::default() }).await, channel());
    let (mut alice, mut bob) =
        (cluster.our_member(0, "alice", &channel).await, cluster.our_member(0, "bob", &channel).await);
    let _before = speak(&mut alice, &channel, 1).await;
    let _bobs = listen(&mut bob, &channel).await;
    let epoch = alice.press(&channel).await;
    let ticket = alice.ticket().await;
    drop(alice);
    let first = gates::first(&channel).await;
    cluster.kill(cluster.node_of(&first.node)).await;
    bob.push("media-moved").await;
    let mut alice = cluster.client(0, "alice").await;
    let resumed = alice.begin_session(Some(&ticket)).await;
    assert_eq!((&resumed["resumed"], &resumed["transports"]), (&json!(true), &json!([])));
    alice.join(&channel).await;
    let _after = speak(&mut alice, &channel, 1).await;
    let moved = gates::until_opened(&channel, |gate| gate.node != first.node).await;
    assert_eq!(moved.epoch, epoch);
    assert_eq!(alice.release(&channel).await["isBusy"], false);
}
