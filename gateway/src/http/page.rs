//! The page that a person uses: files that were built before, or a word on how to build them.

use std::path::Path;

use axum::http::{StatusCode, Uri};
use axum::routing::{MethodRouter, any};
use tower_http::services::ServeDir;

const NOT_BUILT: &str = "VoicePing is running, but its page has not been built.\n\n\
    In the project's folder, run:\n\n    make run\n\n\
    It builds the page and starts the service. A page that was built elsewhere is served with\n\
    --web-root <folder> or VOICEPING_WEB_ROOT.\n\n\
    WebSocket clients connect to /ws on this address, with or without the page.\n";

/// Serves the folder's files.
pub(super) fn service(folder: &Path) -> ServeDir<MethodRouter> {
    ServeDir::new(folder).fallback(any(missing))
}

/// Without a page its address says how to build it; any other file is just not there.
async fn missing(uri: Uri) -> (StatusCode, &'static str) {
    match uri.path() {
        "/" | "/index.html" => (StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT),
        _ => (StatusCode::NOT_FOUND, "Not found\n"),
    }
}
