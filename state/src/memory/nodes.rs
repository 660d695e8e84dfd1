//! The media nodes of one process: one, as a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Memory;
use crate::contract::StateError;
use crate::id::NodeId;
use crate::node::{Node, Nodes};

/// What is registered, until when, and for how long each time.
pub(super) type Registered = BTreeMap<NodeId, (Node, u64, u64)>;

impl Nodes for Memory {
    async fn register_node(&self, node: &Node, lease: Duration) -> Result<(), StateError> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self.with_nodes(|nodes, now_ms| {
            nodes.insert(node.id.clone(), (node.clone(), now_ms.saturating_add(lease_ms), lease_ms));
        });
        Ok(())
    }

    async fn unregister_node(&self, node: &NodeId) -> Result<(), StateError> {
        self.with_nodes(|nodes, _| nodes.remove(node));
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<Node>, StateError> {
        Ok(self.with_nodes(|nodes, now_ms| {
            nodes.retain(|_, (_, until_ms, lease_ms)| {
                // After a clock that was set back, no lease is longer than one from now.
                *until_ms = (*until_ms).min(now_ms.saturating_add(*lease_ms));
                *until_ms > now_ms
            });
            nodes.values().map(|(node, ..)| node.clone()).collect()
        }))
    }
}

impl Memory {
    fn with_nodes<T>(&self, step: impl FnOnce(&mut Registered, u64) -> T) -> T {
        let mut nodes = self.shared.nodes.lock().expect("no step panics");
        let now_ms = (self.shared.clock)();
        step(&mut nodes, now_ms)
    }
}
