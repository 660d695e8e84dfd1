//! A real media node, on loopback, against an independent WebRTC implementation: everything that a client of the `webrtc`
//! crate can see. The gRPC service is called in this process; the media is real UDP.

mod cluster;
mod events;
mod families;
mod gate;
mod handshake;
mod lifecycle;
mod loss;
mod mesh;
mod node;
mod relay;
mod reports;
mod streams;
mod tcp;
mod workers;
