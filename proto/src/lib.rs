//! The gRPC contracts, generated from `voiceping/media/v1/`: `media.proto` between gateways and media nodes, `relay.proto`
//! between media nodes.
//!
//! Gateways use the client, media nodes implement the servers; nothing else crosses between the two crates.

/// The descriptors of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `voiceping.media.v1`.
pub mod media {
    /// Version 1 of the contract.
    #[allow(missing_docs, clippy::all, unreachable_pub, missing_debug_implementations)]
    pub mod v1 {
        tonic::include_proto!("voiceping.media.v1");
    }
}
