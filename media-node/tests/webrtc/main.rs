//! A real media node, on loopback, against an independent WebRTC implementation: everything that a client of the `webrtc`
//! crate can see. The gRPC service is called in this process; the media is real UDP.

mod events;
mod gate;
mod handshake;
mod loss;
mod node;
mod reports;
mod streams;
mod workers;
