//! What clients are shown of a channel (PROTOCOL sections 2 and 4). Pure functions; used by the pushes and the replies.

use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json};
use voiceping_state::{ChannelId, Floor, FloorCause, MemberAction, MemberChanged};

use crate::message::push;

/// The id of a channel's floor output: the one stable producer that carries whoever holds the floor. The same on every
/// node and every gateway.
pub(crate) fn floor_output(channel: &ChannelId) -> String {
    format!("floor:{channel}")
}

/// `ChannelState`. `epoch` is for our own client, which drops what is older than what it knows.
pub(crate) fn channel_state(channel: &ChannelId, floor: &Floor) -> Value {
    let holder = floor.holder.as_ref();
    json!({
        "channelId": channel.as_str(),
        "currentSpeaker": holder.map(|holder| holder.owner.user.as_str()),
        "speakerName": holder.map(|holder| holder.owner.user_name.as_str()),
        "isBusy": holder.is_some(),
        "lockTimestamp": holder.map(|holder| holder.taken_at_ms),
        "epoch": floor.epoch,
    })
}

/// `speaker-changed`: has a `producerId` exactly when busy. `reason`, for our own client, says why a floor is free.
pub(crate) fn speaker_changed(channel: &ChannelId, floor: &Floor, cause: Option<FloorCause>) -> Utf8Bytes {
    let mut data = channel_state(channel, floor);
    if floor.holder.is_some() {
        data["producerId"] = floor_output(channel).into();
    } else if let Some(cause) = cause {
        data["reason"] = cause.as_str().replace('_', "-").into();
    }
    push("speaker-changed", data)
}

/// `channel-state`: a user came or went. Existing clients overwrite their busy display from it. `merged`, for our own client:
/// others came or went before, of whom nothing was said.
pub(crate) fn member_changed(change: &MemberChanged, floor: &Floor, merged: bool) -> Utf8Bytes {
    let mut data = channel_state(&change.channel, floor);
    data["action"] = match change.action {
        MemberAction::Joined => "user-joined",
        MemberAction::Left => "user-left",
        MemberAction::Disconnected => "user-disconnected",
    }
    .into();
    data["userId"] = change.member.user.as_str().into();
    data["userName"] = change.member.user_name.as_str().into();
    data["userCount"] = change.roster.users.into();
    if merged {
        data["merged"] = true.into();
    }
    push("channel-state", data)
}

#[cfg(test)]
mod tests {
    use voiceping_state::{Holder, Owner, Roster};

    use super::*;

    fn busy() -> Floor {
        let owner =
            Owner { user: "alice".into(), user_name: "Alice".into(), connection: "x1".into(), gateway: "g1".into() };
        Floor { epoch: 7, holder: Some(Holder { owner, node: "n".into(), taken_at_ms: 1_000, lease_until_ms: 11_000 }) }
    }

    fn data(text: &Utf8Bytes) -> Value {
        let mut message: Value = serde_json::from_str(text).expect("JSON");
        message["data"].take()
    }

    #[test]
    fn a_busy_channel_has_a_producer_and_a_free_one_has_none() {
        let channel = ChannelId::from("c1");
        assert_eq!(
            data(&speaker_changed(&channel, &busy(), Some(FloorCause::Taken))),
            json!({"channelId": "c1", "currentSpeaker": "alice", "speakerName": "Alice", "isBusy": true,
                   "lockTimestamp": 1_000, "epoch": 7, "producerId": "floor:c1"})
        );
        let free = Floor { epoch: 8, holder: None };
        assert_eq!(
            data(&speaker_changed(&channel, &free, Some(FloorCause::TalkLimit))),
            json!({"channelId": "c1", "currentSpeaker": null, "speakerName": null, "isBusy": false,
                   "lockTimestamp": null, "epoch": 8, "reason": "talk-limit"})
        );
    }

    #[test]
    fn a_members_change_carries_the_floor() {
        let member = busy().holder.expect("busy").owner;
        let roster = Roster { users: 3, version: 1 };
        let change = MemberChanged { channel: "c1".into(), member, action: MemberAction::Disconnected, roster };
        assert_eq!(data(&member_changed(&change, &busy(), true))["merged"], true);
        let data = data(&member_changed(&change, &busy(), false));
        assert_eq!((&data["action"], &data["merged"]), (&"user-disconnected".into(), &Value::Null));
        assert_eq!(
            (&data["userId"], &data["userName"], &data["userCount"]),
            (&"alice".into(), &"Alice".into(), &3.into())
        );
        assert_eq!((&data["isBusy"], &data["currentSpeaker"]), (&true.into(), &"alice".into()));
    }
}
