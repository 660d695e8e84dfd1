//! The media nodes of the deployment.

use std::time::Duration;

use super::{Redis, millis, not_ours, scripts};
use crate::contract::StateError;
use crate::id::NodeId;
use crate::node::{Node, Nodes};

impl Nodes for Redis {
    async fn register_node(&self, node: &Node, lease: Duration) -> Result<(), StateError> {
        let json = serde_json::to_string(node).expect("text and numbers have a JSON form");
        let args = [self.shared.now(), node.id.to_string(), json, millis(lease)];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.shared.link.run(&scripts::REGISTER, &self.shared.keys.nodes(), &args).await
    }

    async fn unregister_node(&self, node: &NodeId) -> Result<(), StateError> {
        self.shared.link.run(&scripts::UNREGISTER, &self.shared.keys.nodes(), &[node.as_str()]).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, StateError> {
        let now = self.shared.now();
        let kept: Vec<String> = self.shared.link.run(&scripts::NODES, &self.shared.keys.nodes(), &[&now]).await?;
        let nodes: Result<Vec<Node>, _> = kept.iter().map(|json| serde_json::from_str(json)).collect();
        let mut nodes = nodes.map_err(|_| not_ours())?;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }
}
