//! How the processes of a cluster call each other: gRPC that both sides authenticate.
//!
//! By mutual TLS from files, by a shared secret in the metadata of each call, or by both. TLS is for production: the secret
//! alone keeps strangers and mistakes out, but not somebody who can read or change the traffic. Used by the roles of the
//! root binary: [`Dialer`] where a process calls, [`Server`] where it is called. Knows nothing of what is called.

mod accept;
mod client;
mod config;
mod secret;
mod server;
mod tls;
mod watch;

pub use client::{Dialer, RpcChannel, RpcError, is_refused};
pub use config::{RpcConfig, Security};
pub use server::Server;
pub use watch::{Watched, declared as metrics, in_process};
