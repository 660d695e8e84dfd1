//! The node's place in the registry: taken when the other nodes know it, kept with a lease, given up at the end.
//!
//! Reads the list of nodes as often as it renews its own entry, so that the mesh follows it. While the state is away
//! everything goes on; the entry is renewed when it is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use voiceping_state::{Node, Nodes, StateError, Store};

use crate::events::Events;
use crate::mesh::Mesh;
use crate::worker::{self, Worker};

/// How often the entry is renewed.
const EVERY: Duration = Duration::from_secs(1);

/// How long it lasts: several renewals may fail before gateways look elsewhere.
const LEASE: Duration = Duration::from_secs(5);

/// How long one answer of the state is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the others may take to accept this node before it takes clients without them.
const SETTLE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Registration {
    store: Store,
    mesh: Mesh,
    workers: Vec<Worker>,
    events: Arc<Events>,
    /// As it was registered last.
    node: Node,
    entered: bool,
    away: bool,
}

impl Registration {
    /// Of a node that is not registered yet; `node` is what does not change of it, and the rest as it may be.
    pub(crate) fn new(store: Store, mesh: Mesh, workers: Vec<Worker>, events: Arc<Events>, node: Node) -> Self {
        Self { store, mesh, workers, events, node, entered: false, away: false }
    }

    /// Renews until the end, then leaves the registry.
    pub(crate) async fn keep(mut self, end: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(EVERY) => {}
                () = self.events.drains() => {}
                () = end.cancelled() => break,
            }
            self.renew().await;
        }
        if let Err(error) = within(self.store.unregister_node(&self.node.id)).await {
            tracing::warn!(error, "this node stays registered until its lease ends");
        }
    }

    /// Enters, or says anew how this node is.
    pub(crate) async fn renew(&mut self) {
        let outcome = self.try_renew().await;
        match (&outcome, self.away) {
            (Err(error), false) => tracing::error!(error, "this node cannot register; it keeps trying"),
            (Ok(()), true) => tracing::info!("this node is registered again"),
            _ => {}
        }
        self.away = outcome.is_err();
        self.events.vitals.set_registered(self.entered && !self.away);
    }

    async fn try_renew(&mut self) -> Result<(), String> {
        let nodes = within(self.store.nodes()).await?;
        self.mesh.subscribe_to(&nodes);
        if !self.entered {
            // One of them may be gone without having said so: that is no reason to wait for longer.
            let _ = timeout(SETTLE, self.mesh.settled()).await;
        }
        let usage = worker::usage(&self.workers).await.map_err(|error| error.to_string())?;
        self.node.load = u32::try_from(usage.connections).unwrap_or(u32::MAX);
        self.node.draining = self.events.is_draining();
        within(self.store.register_node(&self.node, LEASE)).await?;
        self.entered = true;
        Ok(())
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, StateError>>) -> Result<T, String> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the shared state did not answer in time".to_owned()),
    }
}
