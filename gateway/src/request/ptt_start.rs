//! `ptt-start {channelId}`: ask for the floor. The answer comes when the media node has opened the gate.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;
use voiceping_proto::media::v1::GetFloorActivityRequest;
use voiceping_rpc::is_refused;
use voiceping_state::{ChannelId, Floor, FloorCause, Holder, NodeId, State, StateError, Taken};

use crate::error::Refusal;
use crate::floors::{self, Ended};
use crate::gate;
use crate::message::{Data, Reply};
use crate::metrics;
use crate::session::Session;
use crate::state::within;
use crate::view;

/// A user whose other connection holds the floor in silence for this long may go on here (PROTOCOL section 6, rule 4).
const TAKE_OVER_AFTER: Duration = Duration::from_secs(1);

pub(super) struct PttStart {
    channel: String,
}

/// A press that got no floor.
enum Denied {
    Busy(Floor),
    Failed(Refusal),
}

impl Denied {
    /// As a label.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Busy(Floor { holder: Some(_), .. }) => "busy",
            Self::Busy(Floor { holder: None, .. }) => "floor-lost",
            Self::Failed(refusal) => refusal.code(),
        }
    }
}

impl From<StateError> for Denied {
    fn from(error: StateError) -> Self {
        Self::Failed(error.into())
    }
}

impl PttStart {
    pub(super) fn parse(data: &Data) -> Result<Self, Refusal> {
        Ok(Self { channel: data.id("channelId")?.to_owned() })
    }

    pub(super) async fn apply(self, session: &mut Session, reply: &Reply) -> Result<(), Refusal> {
        let began = Instant::now();
        let channel = session.member_of(&self.channel)?;
        if session.outbox().is_closed() {
            // Its socket is about to end, and the floor would with it.
            return Ok(());
        }
        let pressed = press(session, &channel).await;
        session.gateway().hub.catch_up(&channel, session.outbox());
        metrics::pressed(pressed.as_ref().map_or_else(Denied::outcome, |_| "granted"), began.elapsed());
        match pressed {
            Ok(floor) => reply.success(json!({"success": true, "state": view::channel_state(&channel, &floor)})),
            Err(denied) => deny(reply, &channel, denied),
        }
        Ok(())
    }
}

async fn press(session: &mut Session, channel: &ChannelId) -> Result<Floor, Denied> {
    // A client that speaks already is heard where it is, even if it is about to move.
    let node = match session.transports().speaking(channel) {
        Some(node) => node,
        None => session.place(channel).map_err(Denied::Failed)?,
    };
    let (gateway, owner) = (session.gateway(), session.owner());
    finish_last_talk(session, channel).await?;
    let mut asked = Instant::now();
    let mut taken = take(session, channel, node.id(), None).await?;
    if let Taken::Busy(floor) = &taken
        && let Some(holder) = &floor.holder
        && holder.owner.user == owner.user
        && is_silent(session, channel, floor.epoch, holder).await
        // Before the state gives the floor to somebody else, nobody speaks, and nobody can begin to: a node that is not known
        // here, because it fell silent or was lost before this gateway began, may go on, or have the call still before it
        // that opens the old gate.
        && gateway.nodes.get(&holder.node).is_some()
        && gate::close_everywhere(&gateway.nodes.all(), channel, floor.epoch).await
    {
        asked = Instant::now();
        taken = take(session, channel, node.id(), Some(floor.epoch)).await?;
    }
    let floor = match taken {
        Taken::Granted { floor, .. } => floor,
        Taken::Busy(floor) => return Err(Denied::Busy(floor)),
    };
    if let Err(status) = floors::begin(gateway, channel, owner, floor.epoch, asked, &node).await {
        tracing::warn!(%channel, node = %node.id(), %status, "a grant is given back: the media node did not take it");
        floors::end(gateway, channel, owner, FloorCause::NodeFailed).await;
        return Err(Denied::Failed(Refusal::MediaUnavailable));
    }
    if !gateway.floors.holds(channel, &owner.connection, floor.epoch) {
        // It was lost while the node was asked.
        let known = gateway.hub.known(channel).map(|known| known.floor).unwrap_or_default();
        return Err(Denied::Busy(known));
    }
    Ok(floor)
}

/// A talk that is ending still, because somebody did not answer, ends before another begins: its gate cannot be opened
/// again.
async fn finish_last_talk(session: &Session, channel: &ChannelId) -> Result<(), Denied> {
    let (gateway, owner) = (session.gateway(), session.owner());
    if !gateway.floors.is_ending(channel, owner) {
        return Ok(());
    }
    match floors::end(gateway, channel, owner, FloorCause::Released).await {
        Ended::Nothing | Ended::Freed(_) => Ok(()),
        Ended::GateUntil(_) => Err(Denied::Failed(Refusal::MediaUnavailable)),
        Ended::StateAway(error) => Err(error.into()),
    }
}

async fn take(
    session: &Session,
    channel: &ChannelId,
    node: &NodeId,
    take_over: Option<u64>,
) -> Result<Taken, StateError> {
    let (gateway, owner) = (session.gateway(), session.owner());
    let taken = within(gateway.store.take_floor(channel, owner, node, take_over)).await;
    if taken.is_err() {
        // It may have been granted all the same, and nobody would know.
        gateway.floors.release_later(channel, owner, FloorCause::Released);
    }
    taken
}

/// Has the holder sent nothing for long enough? It may be on any node; each says what it has heard.
async fn is_silent(session: &Session, channel: &ChannelId, epoch: u64, holder: &Holder) -> bool {
    if holder.owner.connection == *session.connection() {
        return false;
    }
    let heard = join_all(session.gateway().nodes.all().into_iter().map(|node| async move {
        let request = GetFloorActivityRequest { channel_id: channel.to_string() };
        node.call(|mut node| async move { node.get_floor_activity(request).await }).await
    }));
    let mut silent_for = None;
    for answer in heard.await {
        match answer {
            Ok(activity) if activity.epoch == epoch => {
                let here = activity.silent_for_ms.map(Duration::from_millis);
                silent_for = match (silent_for, here) {
                    (Some(least), Some(here)) => Some(here.min(least)),
                    (least, here) => least.or(here),
                };
            }
            Ok(activity) if activity.epoch < epoch => {}
            Err(status) if status.code() == Code::NotFound || is_refused(&status) => {}
            // The floor has moved on, or a node does not know: the holder has the benefit of the doubt.
            Ok(_) | Err(_) => return false,
        }
    }
    // Without a packet, its silence counts from when it took the floor, by our own clock.
    silent_for.or_else(|| held_for(session, channel, epoch)).is_some_and(|time| time >= TAKE_OVER_AFTER)
}

fn held_for(session: &Session, channel: &ChannelId, epoch: u64) -> Option<Duration> {
    let known = session.gateway().hub.known(channel)?;
    (known.floor.epoch == epoch).then(|| Instant::now().saturating_duration_since(known.since))
}

fn deny(reply: &Reply, channel: &ChannelId, denied: Denied) {
    let (message, code, holder) = match denied {
        Denied::Busy(Floor { holder: Some(holder), .. }) => {
            (format!("{} is speaking", holder.owner.user_name), "busy", Some(holder))
        }
        Denied::Busy(Floor { holder: None, .. }) => ("The floor was lost, try again".to_owned(), "floor-lost", None),
        Denied::Failed(refusal) => (refusal.to_string(), refusal.code(), None),
    };
    let speaker = holder.as_ref().map(|holder| &holder.owner);
    let data = json!({
        "success": false,
        "denied": true,
        "channelId": channel.as_str(),
        "currentSpeaker": speaker.map(|owner| owner.user.as_str()),
        "currentSpeakerName": speaker.map(|owner| owner.user_name.as_str()),
        "message": message,
    });
    reply.denied(&message, code, data);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use voiceping_state::Owner;

    use super::*;
    use crate::message::Kind;
    use crate::socket::Outbox;

    fn said(denied: Denied) -> Value {
        let (outbox, mut queue) = Outbox::new();
        deny(&Reply::new(Kind::PttStart, Some("1".into()), outbox), &"c1".into(), denied);
        serde_json::from_str(&queue.try_recv().expect("said")).expect("JSON")
    }

    #[test]
    fn a_denial_says_so_in_both_places() {
        let owner =
            Owner { user: "alice".into(), user_name: "Alice".into(), connection: "x".into(), gateway: "g".into() };
        let holder = Some(Holder { owner, node: "n".into(), taken_at_ms: 0, lease_until_ms: 0 });
        assert_eq!(
            said(Denied::Busy(Floor { epoch: 1, holder })),
            json!({
                "type": "ptt-denied", "id": "1", "error": "Alice is speaking", "code": "busy",
                "data": {"success": false, "denied": true, "channelId": "c1", "currentSpeaker": "alice",
                         "currentSpeakerName": "Alice", "message": "Alice is speaking"},
            })
        );
        let failed = said(Denied::Failed(Refusal::MediaUnavailable));
        assert_eq!((&failed["code"], &failed["data"]["denied"]), (&"media-unavailable".into(), &true.into()));
        assert_eq!(failed["data"]["currentSpeaker"], Value::Null);
    }
}
