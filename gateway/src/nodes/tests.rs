use voiceping_state::Node;

use super::*;
use crate::media::media_client;

/// A node that nobody can call.
pub(crate) fn unreachable(id: &str) -> Arc<NodeHandle> {
    Arc::new(NodeHandle::new(node(id, 10), no_client()))
}

fn no_client() -> MediaClient {
    media_client(tower::service_fn(|_| async { Err(std::io::Error::other("nobody is there")) }))
}

fn node(id: &str, capacity: u32) -> Node {
    let address = "nowhere".to_owned();
    Node { id: id.into(), address, region: "here".into(), capacity, load: 0, draining: false }
}

fn nodes(known: &[Node]) -> Nodes {
    let nodes = Nodes::new(Arc::new(|_| Ok(no_client())), "here".into());
    for node in known {
        nodes.meet(node).expect("can be called").ready(0, Default::default());
    }
    nodes
}

fn placed(nodes: &Nodes, channel: &str) -> Option<String> {
    nodes.place(&channel.into()).map(|node| node.id().to_string())
}

#[tokio::test]
async fn clients_of_a_channel_go_together_and_channels_apart() {
    let nodes = nodes(&[node("a", 2), node("b", 2)]);
    assert_eq!(placed(&nodes, "c1").as_deref(), Some("a"));
    assert_eq!(placed(&nodes, "c2").as_deref(), Some("b"), "the registry does not know yet that one is there");
    assert_eq!(placed(&nodes, "c2").as_deref(), Some("b"));
    assert_eq!(placed(&nodes, "c2").as_deref(), Some("a"), "the other one is full");
    assert_eq!(placed(&nodes, "c1"), None);
}

#[tokio::test]
async fn a_node_says_what_it_carries() {
    let nodes = nodes(&[node("a", 10), node("b", 10)]);
    nodes.get(&"b".into()).expect("known").carried("c1".into(), true);
    assert_eq!(placed(&nodes, "c1").as_deref(), Some("b"));
    nodes.get(&"b".into()).expect("known").carried("c1".into(), false);
    assert_eq!(placed(&nodes, "c1").as_deref(), Some("a"));
}

#[tokio::test]
async fn only_a_node_that_is_ready_and_stays_gets_somebody() {
    let nodes = nodes(&[node("a", 10)]);
    let handle = nodes.get(&"a".into()).expect("known");
    handle.away();
    assert_eq!(placed(&nodes, "c1"), None);
    handle.ready(0, Default::default());
    assert_eq!(placed(&nodes, "c1").as_deref(), Some("a"));
    handle.drain(tokio::time::Instant::now());
    assert!(nodes.any_ready());
    assert_eq!(placed(&nodes, "c1"), None);
    handle.lose(Lost::Silent);
    handle.ready(0, Default::default());
    assert!(handle.is_lost() && !handle.is_gone() && !nodes.any_ready(), "lost is lost");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_looked_for_is_waited_for() {
    let nodes = Arc::new(nodes(&[]));
    let looking = tokio::spawn({
        let nodes = Arc::clone(&nodes);
        async move { nodes.find(&"a".into()).await.map(|node| node.id().clone()) }
    });
    nodes.wanted.notified().await;
    nodes.meet(&node("a", 10)).expect("can be called").ready(0, Default::default());
    assert_eq!(looking.await.expect("ends"), Some("a".into()));
    assert!(nodes.find(&"b".into()).await.is_none(), "but not for ever");
}
