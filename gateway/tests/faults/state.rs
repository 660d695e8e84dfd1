//! The shared state is away.

use std::time::Duration;

use serde_json::json;
use voiceping_state::{FloorRules, Redis, RedisConfig, Servers, Store, memory};

use crate::channel;
use crate::cluster::{Cluster, Setup};

#[tokio::test]
async fn without_it_the_gateway_says_so_and_keeps_its_sockets() {
    // Nobody listens there.
    let config = RedisConfig::new(Servers::Standalone("redis://127.0.0.1:1".into()));
    let rules = FloorRules { lease: Duration::from_secs(10), talk_limit: None };
    let store = Store::Redis(Redis::new(&config, rules, memory::Limits::default()).expect("an address"));
    let cluster = Cluster::start_on(store, Setup { nodes: 0, ..Setup::default() }).await;
    let (mut alice, channel) = (cluster.client(0, "alice").await, channel());
    let refused = alice.request("join-channel", json!({"channelId": channel})).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("state-unavailable")));
    let refused = alice.request("session", json!({})).await;
    assert_eq!(refused["data"]["resumed"], false, "{refused}");
    assert_eq!(alice.request("ping", json!({})).await["type"], "pong");
    assert_eq!(cluster.get(0, "/ready").await.0, 503);
    assert_eq!(cluster.get(0, "/live").await.0, 200);
}
