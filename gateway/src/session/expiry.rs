//! The end of a token on a live socket: a client of ours is told a minute before, and may bring another one; a socket whose
//! token is over is closed.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Session;
use crate::auth::Identity;
use crate::message::push;
use crate::socket::Close;

/// How long before the end a client is told.
const WARNING: Duration = Duration::from_secs(60);

/// A token may be valid for longer than a timer can run, and clocks are set; it is looked at again at least so often.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// When a token is looked at next.
#[derive(Debug)]
pub(super) struct Expiry {
    next: Instant,
    is_told: bool,
}

impl Expiry {
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), is_told: false }
    }
}

impl Session {
    /// When the token is to be looked at.
    pub(crate) fn next_look_at_token(&self) -> Instant {
        self.expiry.next
    }

    /// Tells the client if its token is over soon, and closes the socket if it is over.
    pub(crate) fn look_at_token(&mut self) {
        let left = self.identity.expires_in();
        if left.is_zero() {
            self.outbox.close(Close::Expired);
        } else if left <= WARNING && self.is_resumable() && !self.expiry.is_told {
            self.expiry.is_told = true;
            self.outbox.send(push("token-expiring", json!({"expiresIn": left.as_millis() as u64})));
        }
        // Not a moment too early: that would be once more.
        let next = if left > WARNING { left - WARNING } else { left };
        self.expiry.next = Instant::now() + next.min(LOOK_AGAIN) + Duration::from_millis(1);
    }

    /// The token is another one, or what the client understands: it is looked at now.
    pub(super) fn look_at_token_again(&mut self) {
        self.expiry = Expiry::new();
        self.look_at_token();
    }

    /// Goes on with a newer token of the same user.
    pub(crate) fn go_on_as(&mut self, identity: Identity) {
        self.identity = identity;
        self.leave_what_is_not_allowed();
        self.look_at_token_again();
    }
}
