//! What the scripts say: floors in their answers, events on the bus.
//!
//! Events are JSON with a version. Gateways of two releases run side by side during an upgrade: what is not known is
//! skipped, and what cannot be understood costs a snapshot.

use serde::{Deserialize, Serialize};

use crate::event::{Event, FloorCause, FloorChanged, MemberAction, MemberChanged, Roster};
use crate::floor::{Floor, Holder, Owner};
use crate::id::ChannelId;

/// An owner as the scripts keep it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireOwner {
    user: String,
    name: String,
    connection: String,
    gateway: String,
}

impl From<&Owner> for WireOwner {
    fn from(owner: &Owner) -> Self {
        Self {
            user: owner.user.as_str().into(),
            name: owner.user_name.clone(),
            connection: owner.connection.as_str().into(),
            gateway: owner.gateway.clone(),
        }
    }
}

impl From<WireOwner> for Owner {
    fn from(wire: WireOwner) -> Self {
        Self { user: wire.user.into(), user_name: wire.name, connection: wire.connection.into(), gateway: wire.gateway }
    }
}

/// A member as the scripts keep it.
#[derive(Debug, Serialize)]
pub(super) struct WireMember {
    #[serde(flatten)]
    owner: WireOwner,
    /// Text, as all numbers that must be exact.
    since: String,
}

impl WireMember {
    pub(super) fn new(owner: &Owner, since: u64) -> Self {
        Self { owner: owner.into(), since: since.to_string() }
    }
}

/// An event, whatever its kind: `t` says which fields are there.
#[derive(Debug, Deserialize)]
struct WireEvent {
    t: String,
    // of a floor; numbers that must be exact are text
    epoch: Option<String>,
    cause: Option<String>,
    holder: Option<WireOwner>,
    node: Option<String>,
    taken: Option<String>,
    lease: Option<String>,
    previous: Option<WireOwner>,
    trace: Option<String>,
    // of a member
    member: Option<WireOwner>,
    action: Option<String>,
    users: Option<usize>,
    version: Option<String>,
}

/// The event that a message carries; `None`: of a kind that a later release knows.
pub(super) fn event(channel: &ChannelId, payload: &[u8]) -> Option<Event> {
    let Ok(wire) = serde_json::from_slice::<WireEvent>(payload) else {
        return Some(Event::Resync);
    };
    match wire.t.as_str() {
        "floor" => Some(floor_changed(channel, wire).unwrap_or(Event::Resync)),
        "member" => Some(member_changed(channel, wire).unwrap_or(Event::Resync)),
        _ => None,
    }
}

fn floor_changed(channel: &ChannelId, wire: WireEvent) -> Option<Event> {
    let holder = match wire.holder {
        Some(owner) => Some(Holder {
            owner: owner.into(),
            node: wire.node.unwrap_or_default().into(), // an earlier release says none
            taken_at_ms: wire.taken?.parse().ok()?,
            lease_until_ms: wire.lease?.parse().ok()?,
        }),
        None => None,
    };
    // A cause that is not known yet is at least one of these two.
    let unknown = if holder.is_some() { FloorCause::Taken } else { FloorCause::Released };
    Some(Event::Floor(FloorChanged {
        channel: channel.clone(),
        floor: Floor { epoch: wire.epoch?.parse().ok()?, holder },
        cause: wire.cause.and_then(|word| cause(&word)).unwrap_or(unknown),
        previous: wire.previous.map(Owner::from),
        trace: wire.trace,
    }))
}

fn member_changed(channel: &ChannelId, wire: WireEvent) -> Option<Event> {
    let action = match wire.action?.as_str() {
        "joined" => MemberAction::Joined,
        "left" => MemberAction::Left,
        _ => MemberAction::Disconnected,
    };
    Some(Event::Member(MemberChanged {
        channel: channel.clone(),
        member: wire.member?.into(),
        action,
        roster: Roster { users: wire.users?, version: wire.version?.parse().ok()? },
    }))
}

pub(super) fn cause(word: &str) -> Option<FloorCause> {
    use FloorCause::{Expired, Left, NodeFailed, Released, Silent, Taken, TalkLimit};
    [Taken, Released, Left, Expired, TalkLimit, Silent, NodeFailed].into_iter().find(|cause| cause.as_str() == word)
}

/// A script's word and the floor behind it; `None`: not an answer of ours.
pub(super) fn answer(parts: Vec<String>) -> Option<(String, Floor)> {
    let mut parts = parts.into_iter();
    let mut next = || parts.next();
    let word = next()?;
    let epoch = next()?.parse().ok()?;
    let holder = match next() {
        None => None,
        Some(user) => {
            let (user_name, connection, gateway) = (next()?, next()?, next()?);
            let owner = Owner { user: user.into(), user_name, connection: connection.into(), gateway };
            Some(Holder {
                owner,
                node: next()?.into(),
                taken_at_ms: next()?.parse().ok()?,
                lease_until_ms: next()?.parse().ok()?,
            })
        }
    };
    Some((word, Floor { epoch, holder }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Option<Event> {
        event(&"lobby".into(), payload.as_bytes())
    }

    #[test]
    fn reads_what_a_later_release_says() {
        let free = r#"{"v":2,"t":"floor","epoch":"18014398509481985","cause":"magic","color":"red"}"#;
        let Some(Event::Floor(change)) = read(free) else { panic!("a floor event") };
        assert_eq!(change.floor, Floor { epoch: 18_014_398_509_481_985, holder: None });
        assert_eq!(change.cause, FloorCause::Released);
        assert_eq!(read(r#"{"v":2,"t":"weather"}"#), None);
    }

    #[test]
    fn what_makes_no_sense_costs_a_snapshot() {
        for payload in ["", "[]", "\0", r#"{"t":"floor"}"#, r#"{"t":"floor","epoch":"-1"}"#, r#"{"t":"member"}"#] {
            assert_eq!(read(payload), Some(Event::Resync), "{payload}");
        }
    }

    #[test]
    fn every_cause_has_its_word() {
        assert_eq!(cause("node_failed"), Some(FloorCause::NodeFailed));
        assert_eq!(cause("talk_limit"), Some(FloorCause::TalkLimit));
        assert_eq!(cause("?"), None);
    }
}
