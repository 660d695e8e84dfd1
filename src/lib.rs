//! The commands of the binary `voiceping`, and the all-in-one stack.
//!
//! A library, so that tests start the same stack that a person starts. `main.rs` only parses and reports; what a role
//! does is in the role's own crate.

pub mod all_in_one;
pub mod cli;
pub mod floor;
pub mod gateway;
pub mod media_node;
mod serve;
pub mod token;
