//! What the gateway's port serves: the page, WebSockets, the state of health, and the development sign-in.
//!
//! Built once by [`crate::Gateway`]. Never logs an address with its query: it may carry a token.

mod attempts;
mod client_address;
mod dev;
mod guesses;
mod guests;
mod listen;
mod origin;
mod page;
mod serve;
mod status;
mod tls;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::shared::Shared;
pub(crate) use attempts::{Attempts, per_second};
pub use client_address::{ProxyConfig, ProxyHeader};
pub(crate) use guests::Guests;
pub(crate) use listen::listen;
pub use origin::OriginConfig;
pub(crate) use serve::serve;
pub(crate) use tls::Tls;
pub use tls::TlsConfig;

/// The page loads nothing from elsewhere, and nobody frames it. Worklets may come from a blob.
const CONTENT_SECURITY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
    style-src 'self' 'unsafe-inline'; media-src 'self' blob: mediastream:; worker-src 'self' blob:; \
    script-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const PERMISSIONS: &str = "microphone=(self), camera=(), geolocation=()";

/// All routes of the port.
pub(crate) fn router(gateway: Arc<Shared>) -> Router {
    Router::new()
        .route("/ws", get(upgrade::upgrade))
        .route("/health", get(status::health))
        .route("/live", get(status::live))
        .route("/ready", get(status::ready))
        .route("/dev/token", get(dev::is_enabled).post(dev::sign_in))
        .fallback_service(page::service(&gateway.config.web_root))
        .layer(header(CONTENT_SECURITY_POLICY, CONTENT_SECURITY))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "no-referrer"))
        .layer(header(HeaderName::from_static("permissions-policy"), PERMISSIONS))
        // Asked again each time: a new page is there at the next load. What has not changed is not sent again.
        .layer(header(CACHE_CONTROL, "no-cache"))
        .with_state(gateway)
}

fn header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Told to come back later, in seconds.
fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
    response
}
