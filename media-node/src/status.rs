//! How a media node is, for whoever watches its process.

use std::sync::Arc;

use crate::events::Events;

/// Asks a node how it is, also after it was shut down. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Status(pub(crate) Arc<Events>);

impl Status {
    /// Do gateways place clients on it? If not: why.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.0.is_draining() {
            Err("draining")
        } else if !self.0.vitals.is_registered() {
            Err("not registered")
        } else {
            Ok(())
        }
    }

    /// While it drains: the connections that it still has.
    pub fn draining(&self) -> Option<usize> {
        self.0.is_draining().then(|| self.0.vitals.total().usage.connections)
    }
}
