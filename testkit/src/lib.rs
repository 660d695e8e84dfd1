//! What tests need to meet VoicePing as a stranger would: an independent WebRTC client, a network path that loses what
//! it is told to, and voice whose every frame is numbered.
//!
//! Called by the integration tests of the media node and of the binary. Shares no code with the media engine and knows
//! nothing of gRPC or WebSockets: a test translates what signaling said into [`sdp::Server`] and [`sdp::Stream`].

pub mod path;
pub mod receiver;
pub mod sdp;
pub mod sender;
pub mod voice;

mod peer;

use std::time::Duration;

use anyhow::{Context, Result};

pub use peer::{DtlsRole, Options, SrtpProfile};

/// How long a test waits for something that must happen. Generous: a busy machine is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}
