//! What the fuzz targets of the media engine do with their bytes. The engine's own tests include `engine.rs` and replay the
//! corpora with it; the gateway's targets are in the gateway, because they reach what it shows to nobody else.

pub mod engine;
#[path = "../../media-node/engine/tests/support/mod.rs"]
pub mod support;
