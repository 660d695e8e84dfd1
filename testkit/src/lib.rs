//! What tests need to meet VoicePing as a stranger would: a scripted signaling client, an independent WebRTC client, a
//! network path that loses what it is told to, and voice whose every frame is numbered.
//!
//! Called by the integration tests of the media node and of the binary. Shares no code with either: what it knows of
//! them is what the protocol says. Two layers meet in [`sdp::Server`] and [`sdp::Stream`]: [`device`] fills them from
//! signaling's JSON, a test of the media node from its gRPC; [`sender`] and [`receiver`] make connections of them.

pub mod device;
pub mod path;
pub mod receiver;
pub mod sdp;
pub mod sender;
pub mod signaling;
pub mod tcp;
pub mod voice;

mod peer;
mod rtcp;

use std::time::Duration;

use anyhow::{Context, Result};

pub use peer::{DtlsRole, Options, SrtpProfile};

/// How long a test waits for something that must happen. Generous: a busy machine is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}
