//! The real process, met over its real ports by clients that know the protocol and nothing else: a scripted signaling
//! client that follows it to the letter, and an independent WebRTC implementation.
//!
//! Nothing is asserted by waiting. That something does not come is shown by a later event that does.

mod android;
mod authorization;
mod browser;
mod envelope;
mod floor;
mod handshake;
mod late_entry;
mod lifecycle;
mod members;
mod phone;
mod process;
mod silence;
