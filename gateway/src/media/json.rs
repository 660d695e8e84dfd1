//! Between mediasoup's JSON and the media node's messages (PROTOCOL section 6).
//!
//! Reads what clients send, which is hostile input, and writes what they get. Only Opus matters; its parameters pass
//! through as they are. Pure functions, used by the requests.

mod read;
mod write;

pub(crate) use read::{dtls_parameters, rtp_capabilities, rtp_parameters};
pub(crate) use write::{consumer_rtp_parameters, router_rtp_capabilities, transport};

const OPUS: &str = "audio/opus";

#[cfg(test)]
mod tests;
