//! The ticket with which a client of ours comes back: a signed word about its connection, good once and for a short time.
//!
//! Signed with a key of the gateways' own, so that any of them takes it. It opens nothing by itself: the socket that brings
//! it has a token of the same user.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a ticket is good. A new one comes with every ping interval.
pub(crate) const TTL: Duration = Duration::from_secs(120);

/// What a ticket says. Times and audience are added when it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The connection.
    pub(crate) sid: String,
    /// The user.
    pub(crate) sub: String,
    /// The gateway that served it.
    pub(crate) gateway: String,
    /// The node that has its media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// The ticket's own name, which is used up.
    pub(crate) jti: String,
}

impl Ticket {
    /// Under which name it is used up.
    pub(crate) fn claim_key(&self) -> String {
        format!("ticket:{}", self.jti)
    }
}
