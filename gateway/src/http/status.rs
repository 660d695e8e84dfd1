//! Is it well? For people (`/health`) and for orchestrators: `/live` is about the process, `/ready` about new sockets.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use voiceping_proto::media::v1::GetNodeRequest;

use crate::shared::Shared;

pub(super) async fn health(State(gateway): State<Arc<Shared>>) -> Json<Value> {
    let node = gateway.media.call(|mut node| async move { node.get_node(GetNodeRequest {}).await }).await;
    let status = if node.is_ok() && gateway.media_ready.get() { "ok" } else { "degraded" };
    Json(json!({
        "status": status,
        "uptime": gateway.started.elapsed().as_secs(),
        "workers": node.map_or(0, |node| node.workers),
        "connections": gateway.sockets.count(),
    }))
}

pub(super) async fn live() -> &'static str {
    "live"
}

pub(super) async fn ready(State(gateway): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if gateway.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if !gateway.media_ready.get() {
        (StatusCode::SERVICE_UNAVAILABLE, "no media node")
    } else {
        (StatusCode::OK, "ready")
    }
}
