//! Floors, presence and the event bus: what gateways share.
//!
//! [`State`] is the contract; [`Store`] is the choice of backend, made once at start-up. The rules of the floor are one
//! pure transition function in [`floor`]; every backend gives the answers that it gives. Nothing here knows of sockets,
//! tokens or media.

pub mod contract;
pub mod event;
pub mod floor;
pub mod id;
pub mod memory;
mod metrics;
pub mod node;
mod queue;
pub mod redis;
pub mod store;

pub use contract::{JoinError, Leaving, State, StateError, Taken};
pub use event::{Event, FloorCause, FloorChanged, MemberAction, MemberChanged, Roster};
pub use floor::{Floor, FloorRules, Holder, Owner};
pub use id::{ChannelId, ConnectionId, NodeId, UserId};
pub use memory::{Limits, Memory};
pub use metrics::declared as metrics;
pub use node::{Node, NodeWatch, Nodes};
pub use redis::{Redis, RedisConfig, Servers};
pub use store::{Store, Subscription};
