//! Is it well? For people (`/health`) and for orchestrators: `/live` is about the process, `/ready` about new sockets.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};
use voiceping_proto::media::v1::GetNodeRequest;

use crate::shared::Shared;
use crate::status::Status;

pub(super) async fn health(State(gateway): State<Arc<Shared>>) -> Json<Value> {
    let nodes = gateway.nodes.all();
    let asked = nodes.iter().filter(|node| node.is_ready());
    let asked = asked.map(|node| node.call(|mut node| async move { node.get_node(GetNodeRequest {}).await }));
    let workers: u32 = join_all(asked).await.into_iter().flatten().map(|node| node.workers).sum();
    Json(json!({
        "status": if workers > 0 { "ok" } else { "degraded" },
        "uptime": gateway.started.elapsed().as_secs(),
        "workers": workers,
        "connections": gateway.connections.count(),
    }))
}

pub(super) async fn live() -> &'static str {
    "live"
}

pub(super) async fn ready(State(gateway): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    match Status(gateway).ready().await {
        Ok(()) => (StatusCode::OK, "ready"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}
