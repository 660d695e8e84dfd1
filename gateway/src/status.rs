//! How a gateway is, for whoever watches its process.

use std::sync::Arc;

use voiceping_state::Nodes;

use crate::shared::Shared;
use crate::state::within;

/// Asks a gateway how it is, also after it was run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Status(pub(crate) Arc<Shared>);

impl Status {
    /// Does it take new sockets? If not: why.
    pub async fn ready(&self) -> Result<(), &'static str> {
        let gateway = &self.0;
        if gateway.draining.is_cancelled() {
            Err("draining")
        } else if !gateway.keys.are_there() {
            Err("no keys")
        } else if !gateway.nodes.any_ready() {
            Err("no media node")
        } else if within(gateway.store.nodes()).await.is_err() {
            Err("no shared state")
        } else {
            Ok(())
        }
    }

    /// While it drains: the connections that it still has.
    pub fn draining(&self) -> Option<usize> {
        self.0.draining.is_cancelled().then(|| self.0.connections.count())
    }
}
