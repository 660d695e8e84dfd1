//! The list of media nodes.

use std::time::Duration;

use voiceping_state::{Node, NodeWatch, Nodes};

use crate::support::*;

fn node(id: &str, load: u32) -> Node {
    Node {
        id: id.into(),
        address: format!("https://{id}.example:7000"),
        region: "east".into(),
        capacity: 100,
        load,
        draining: false,
    }
}

pub(crate) async fn a_node_is_listed_until_its_lease_ends<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    assert_eq!(state.nodes().await, Ok(vec![]));
    state.register_node(&node("b", 1), LEASE).await.expect("available");
    state.register_node(&node("a", 2), LEASE * 2).await.expect("available");
    assert_eq!(harness.gateway().nodes().await, Ok(vec![node("a", 2), node("b", 1)]));

    harness.advance(LEASE - Duration::from_millis(1)).await;
    assert_eq!(state.nodes().await, Ok(vec![node("a", 2), node("b", 1)]));
    harness.advance(Duration::from_millis(1)).await;
    assert_eq!(state.nodes().await, Ok(vec![node("a", 2)]));
    harness.advance(LEASE).await;
    assert_eq!(harness.gateway().nodes().await, Ok(vec![]));
}

pub(crate) async fn registering_again_renews_and_tells_the_news<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    for load in 0..10 {
        let draining = load > 5;
        let said = Node { draining, ..node("a", load) };
        harness.gateway().register_node(&said, LEASE).await.expect("available");
        harness.advance(LEASE / 2).await;
        assert_eq!(state.nodes().await, Ok(vec![said]));
    }
}

pub(crate) async fn a_node_that_leaves_is_gone_at_once<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    state.register_node(&node("a", 0), LEASE).await.expect("available");
    for _ in 0..2 {
        state.unregister_node(&"a".into()).await.expect("also of an unknown one");
        assert_eq!(harness.gateway().nodes().await, Ok(vec![]));
    }
    state.register_node(&node("a", 0), LEASE).await.expect("available");
    assert_eq!(state.nodes().await, Ok(vec![node("a", 0)]));
}

pub(crate) async fn a_clock_set_back_keeps_no_dead_node<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    state.register_node(&node("a", 0), LEASE).await.expect("available");
    harness.set_back(LEASE * 100).await;
    assert_eq!(state.nodes().await, Ok(vec![node("a", 0)]));
    harness.advance(LEASE).await;
    assert_eq!(state.nodes().await, Ok(vec![]));
}

pub(crate) async fn a_watch_tells_what_is_new<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut watch = NodeWatch::new(harness.gateway(), Duration::from_millis(5));
    assert_eq!(watch.next().await, []);
    state.register_node(&node("a", 0), LEASE).await.expect("available");
    assert_eq!(watch.next().await, [node("a", 0)]);
    // The same again is no news.
    state.register_node(&node("a", 0), LEASE).await.expect("available");
    state.register_node(&node("a", 7), LEASE).await.expect("available");
    assert_eq!(watch.next().await, [node("a", 7)]);
    harness.advance(LEASE).await;
    assert_eq!(watch.next().await, []);
}
