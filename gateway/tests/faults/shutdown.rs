//! The end of a gateway.

use serde_json::json;

use crate::cluster::{Cluster, Setup};
use crate::network::Fault;
use crate::voice::{hears, listen, speak};
use crate::{channel, gates};

#[tokio::test]
async fn it_ends_in_time_though_the_node_hangs() {
    let setup = Setup::default();
    let deadline = setup.drain_deadline;
    let (mut cluster, channel) = (Cluster::start(setup).await, channel());
    let mut alice = cluster.member(0, "alice", &channel).await;
    alice.ok("create-transport", json!({"channelId": channel, "direction": "send"})).await;
    cluster.network(0).fault("CloseConnection", Fault::Hang);
    let ended = cluster.shut_down(0);
    assert_eq!(alice.close_code().await, 1012);
    tokio::time::timeout(deadline * 4, ended).await.expect("in time").expect("in order");
}

#[tokio::test]
async fn existing_clients_finish_their_talk_and_ours_go_on_at_another_gateway() {
    let (mut cluster, channel) = (Cluster::start(Setup { gateways: 2, ..Setup::default() }).await, channel());
    let mut bob = cluster.member(1, "bob", &channel).await;
    let mut bobs = listen(&mut bob, &channel).await;
    let mut alice = cluster.member(0, "alice", &channel).await;
    let mut idle = cluster.member(0, "carol", &channel).await;
    let mut ours = cluster.our_member(0, "dave", &channel).await;
    let mut daves = listen(&mut ours, &channel).await;
    let of_alice = speak(&mut alice, &channel, 1).await;
    alice.press(&channel).await;
    let _speaks = of_alice.microphone.keep_speaking();
    hears(&mut bobs, 1).await;
    let ticket = ours.ticket().await;
    let ended = cluster.shut_down(0);
    assert_eq!((idle.close_code().await, ours.close_code().await), (1012, 1012));

    // Ours is somewhere else, and has missed nothing.
    let mut ours = cluster.client(1, "dave").await;
    let resumed = ours.begin_session(Some(&ticket)).await;
    assert_eq!((&resumed["resumed"], &resumed["transports"][0]["id"]), (&json!(true), &json!(daves.id)));
    assert_eq!(ours.ok("join-channel", json!({"channelId": channel})).await["state"]["currentSpeaker"], "alice");
    daves.ear.rest();
    hears(&mut daves, 1).await;

    // Hers is over when she says so.
    assert_eq!(alice.release(&channel).await["isBusy"], false);
    assert_eq!(alice.close_code().await, 1012);
    ended.await.expect("in order");
    assert_eq!(cluster.floor(&channel).await.holder, None);
    gates::assert_never_overlapped(&channel);
}
