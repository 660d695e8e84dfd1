//! Media nodes as gateways know them: who is there, and who gets the next client.
//!
//! Nodes register themselves and say how full they are; gateways read the list and [`place`] clients by it. Nothing here
//! talks to a node.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contract::StateError;
use crate::id::NodeId;

/// A media node, as it last described itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which; a process that starts again is another node.
    #[serde(with = "id_as_text")]
    pub id: NodeId,
    /// Where gateways and other nodes call it.
    pub address: String,
    /// Where it is: a word that clients may name too.
    pub region: String,
    /// How many clients it may have.
    pub capacity: u32,
    /// How many it has.
    pub load: u32,
    /// It takes nobody new: it is about to stop.
    pub draining: bool,
}

impl Node {
    /// Whether it takes another client.
    pub fn has_room(&self) -> bool {
        !self.draining && self.load < self.capacity
    }
}

/// The list of media nodes. Every backend of [`State`](crate::State) keeps one.
pub trait Nodes {
    /// Puts a node on the list, or what it says now in the place of what it said before. Without another call it is gone
    /// when the lease has ended.
    fn register_node(&self, node: &Node, lease: Duration) -> impl Future<Output = Result<(), StateError>> + Send;

    /// Takes a node off the list. An unknown one is success.
    fn unregister_node(&self, node: &NodeId) -> impl Future<Output = Result<(), StateError>> + Send;

    /// The nodes whose lease has not ended, ordered by id.
    fn nodes(&self) -> impl Future<Output = Result<Vec<Node>, StateError>> + Send;
}

/// Follows the list. It asks once in a while: the end of a lease is no event that anybody could send, and a list that is
/// a second old is as good as one can have of processes elsewhere.
#[derive(Debug)]
pub struct NodeWatch<S> {
    state: S,
    every: Duration,
    last: Option<Vec<Node>>,
}

impl<S: Nodes> NodeWatch<S> {
    /// A watch that asks this often.
    pub fn new(state: S, every: Duration) -> Self {
        Self { state, every, last: None }
    }

    /// The list as soon as it is another than the last one given; at first, at once. While the state is away the last
    /// list stays right, for all that one can know. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Node> {
        loop {
            if let Ok(nodes) = self.state.nodes().await
                && self.last.as_ref() != Some(&nodes)
            {
                self.last = Some(nodes.clone());
                return nodes;
            }
            tokio::time::sleep(self.every).await;
        }
    }
}

/// The node for a client: one with room, preferably in the client's region, so that a talk crosses between regions once and
/// not once for each listener; then one that carries the channel already, so that its talks travel to fewer nodes; then
/// the one with the most room in proportion.
pub fn place<'a>(nodes: &'a [Node], carries_channel: impl Fn(&NodeId) -> bool, region: &str) -> Option<&'a Node> {
    nodes.iter().filter(|node| node.has_room()).min_by(|a, b| {
        let rank = |node: &Node| (node.region != region, !carries_channel(&node.id));
        // a.load / a.capacity against b.load / b.capacity, without the division
        let fullness = |node: &Node, other: &Node| u64::from(node.load) * u64::from(other.capacity);
        rank(a).cmp(&rank(b)).then_with(|| fullness(a, b).cmp(&fullness(b, a))).then_with(|| a.id.cmp(&b.id))
    })
}

mod id_as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::NodeId;

    pub(super) fn serialize<S: Serializer>(id: &NodeId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NodeId, D::Error> {
        String::deserialize(from).map(NodeId::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, region: &str, load: u32, capacity: u32) -> Node {
        Node { id: id.into(), address: String::new(), region: region.into(), capacity, load, draining: false }
    }

    fn placed(nodes: &[Node], carrying: &[&str], region: &str) -> Option<String> {
        place(nodes, |id| carrying.contains(&id.as_str()), region).map(|node| node.id.to_string())
    }

    #[test]
    fn a_node_that_carries_the_channel_comes_first_while_it_has_room() {
        let mut nodes = [node("a", "east", 0, 10), node("b", "east", 9, 10), node("c", "west", 0, 10)];
        assert_eq!(placed(&nodes, &["b"], "east").as_deref(), Some("b"), "even full as it is");
        nodes[1].load = 10;
        assert_eq!(placed(&nodes, &["b"], "east").as_deref(), Some("a"));
    }

    #[test]
    fn of_several_that_carry_it_the_one_in_the_region_is_chosen() {
        let nodes = [node("a", "east", 0, 10), node("b", "west", 5, 10), node("c", "west", 6, 10)];
        assert_eq!(placed(&nodes, &["a", "c"], "west").as_deref(), Some("c"));
        assert_eq!(placed(&nodes, &["b", "c"], "west").as_deref(), Some("b"));
    }

    #[test]
    fn the_region_comes_first() {
        let nodes = [node("a", "east", 9, 10), node("b", "west", 0, 10)];
        assert_eq!(placed(&nodes, &["b"], "east").as_deref(), Some("a"), "the talk travels once, not to each listener");
        let nodes = [node("a", "east", 0, 10), node("b", "west", 9, 10)];
        assert_eq!(placed(&nodes, &[], "west").as_deref(), Some("b"));
        assert_eq!(placed(&nodes, &[], "north").as_deref(), Some("a"), "nobody is there: the least loaded");
    }

    #[test]
    fn load_is_in_proportion_to_capacity() {
        let nodes = [node("a", "east", 50, 100), node("b", "east", 400, 1000), node("c", "east", 5, 10)];
        assert_eq!(placed(&nodes, &[], "east").as_deref(), Some("b"));
        let alike = [node("b", "east", 5, 10), node("a", "east", 50, 100)];
        assert_eq!(placed(&alike, &[], "east").as_deref(), Some("a"), "by name, so that all gateways agree");
        let large = [node("a", "east", u32::MAX - 1, u32::MAX), node("b", "east", u32::MAX - 2, u32::MAX)];
        assert_eq!(placed(&large, &[], "east").as_deref(), Some("b"));
    }

    #[test]
    fn full_and_draining_nodes_get_nobody() {
        let mut nodes = [node("a", "east", 10, 10), node("b", "east", 0, 0), node("c", "east", 11, 10)];
        assert_eq!(placed(&nodes, &["a"], "east"), None);
        nodes[0].load = 0;
        nodes[0].draining = true;
        assert_eq!(placed(&nodes, &["a"], "east"), None);
        assert_eq!(placed(&[], &[], "east"), None);
    }
}
