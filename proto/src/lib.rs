//! The gRPC contract between gateways and media nodes, generated from `voiceping/media/v1/media.proto`.
//!
//! Gateways use the client, media nodes implement the server; nothing else crosses between the two crates.

/// `voiceping.media.v1`.
pub mod media {
    /// Version 1 of the contract.
    #[allow(missing_docs, clippy::all, unreachable_pub, missing_debug_implementations)]
    pub mod v1 {
        tonic::include_proto!("voiceping.media.v1");
    }
}
