//! `ping`: is anybody there? Arrives without data.

use serde_json::json;

use crate::error::Refusal;
use crate::message::Reply;

pub(super) struct Ping;

impl Ping {
    pub(super) fn apply(self, reply: &Reply) -> Result<(), Refusal> {
        reply.success(json!({"type": "pong"}));
        Ok(())
    }
}
