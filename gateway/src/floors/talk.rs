//! The steps of one talk: its gate is opened, kept open, moved to another node, and closed before its floor is given back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};
use voiceping_state::{ChannelId, Floor, FloorCause, Owner, State, StateError, Taken};

use super::Opening;
use super::held::{Gate, Held, Task};
use crate::gate::{self, Closing};
use crate::metrics;
use crate::nodes::NodeHandle;
use crate::shared::Shared;
use crate::state::within;

/// What could not be done is tried again after this time.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Tries to close the gate of a talk that is lost come this often, until it has closed by itself.
const CLOSE_AGAIN: Duration = Duration::from_millis(250);

/// How a talk that was to end has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The connection held nothing.
    Nothing,
    /// The floor was given back, and is now this.
    Freed(Floor),
    /// Its gate may be open until then. The keeper gives the floor back.
    GateUntil(Instant),
    /// Its gate is closed, but the state did not answer. The keeper asks it again.
    StateAway(StateError),
}

/// A press was granted: opens the gate. The state was asked at `asked`.
pub(crate) async fn begin(
    gateway: &Shared,
    channel: &ChannelId,
    owner: &Owner,
    epoch: u64,
    asked: Instant,
    node: &Arc<NodeHandle>,
) -> Result<(), Status> {
    // Known before the gate opens: from now on the lease is renewed and the media is waited for.
    match gateway.floors.granted(channel, owner, epoch, (asked, asked), node) {
        Some(opening) => open(gateway, channel, owner, epoch, &opening).await,
        // The holder asks again while its talk is on its way from one node to another: it is opened there in time.
        None if gateway.floors.is_moving(channel, owner) => Ok(()),
        None => Err(Status::unavailable("the media node is lost, or the grant is over already")),
    }
}

/// A connection that another gateway served is here, and may hold a floor: from now on that is kept here.
pub(crate) async fn adopt(gateway: &Shared, channel: &ChannelId, owner: &Owner, floor: &Floor, node: &Arc<NodeHandle>) {
    let Some(holder) = floor.holder.as_ref().filter(|holder| holder.owner.connection == owner.connection) else {
        return;
    };
    let asked = Instant::now();
    match within(gateway.store.renew_floor(channel, owner, floor.epoch, node.id())).await {
        Ok(true) => {
            // When it began is known by the state's clock alone. Only a talk limit needs it, and clocks that differ make it
            // as much too long.
            let talked = unix_ms().saturating_sub(holder.taken_at_ms);
            let since = asked.checked_sub(Duration::from_millis(talked)).unwrap_or(asked);
            tracing::debug!(%channel, "a talk goes on here");
            if let Some(opening) = gateway.floors.granted(channel, owner, floor.epoch, (asked, since), node) {
                keep_open(gateway, channel, owner, floor.epoch, &opening).await;
            }
        }
        Ok(false) => {}
        // It has its lease, and the connection may press again.
        Err(error) => tracing::warn!(%channel, %error, "a floor could not be taken over from another gateway"),
    }
}

/// The connection's media is on this node now: a floor that it holds goes there, as soon as its gate elsewhere is closed.
pub(crate) async fn follow_to(gateway: &Shared, channel: &ChannelId, owner: &Owner, node: &Arc<NodeHandle>) {
    let Some((epoch, former)) = gateway.floors.moved(channel, owner, node) else { return };
    if let Some(former) = former
        && (!former.may_be_open(Instant::now())
            || gate::close(&former.node, channel, epoch, &owner.gateway).await == Closing::Closed)
    {
        gateway.floors.gate_closed(channel, owner, &former);
    }
    renew(gateway, channel, owner, epoch).await;
}

/// Renews a lease and, with it, the end of the gate: the state first, then the node. `false`: somebody did not answer.
pub(super) async fn renew(gateway: &Shared, channel: &ChannelId, owner: &Owner, epoch: u64) -> bool {
    let Some(place) = gateway.floors.place_of(channel, owner) else { return true };
    let asked = Instant::now();
    match within(gateway.store.renew_floor(channel, owner, epoch, &place)).await {
        Ok(true) => {
            metrics::renewed("renewed");
            match gateway.floors.renewed(channel, owner, epoch, asked) {
                Some(opening) => keep_open(gateway, channel, owner, epoch, &opening).await,
                None => true,
            }
        }
        Ok(false) => {
            metrics::renewed("lost");
            not_ours(gateway, channel, owner, epoch).await;
            true
        }
        Err(error) => {
            metrics::renewed("failed");
            tracing::warn!(%channel, %error, "a floor was not renewed");
            false
        }
    }
}

async fn open(
    gateway: &Shared,
    channel: &ChannelId,
    owner: &Owner,
    epoch: u64,
    opening: &Opening,
) -> Result<(), Status> {
    let opened = gate::open(&opening.node, channel, epoch, owner, opening.until).await;
    let refused = opened.as_ref().is_err_and(|status| status.code() == Code::FailedPrecondition);
    if opened.is_ok() || refused {
        gateway.floors.answered(channel, owner, epoch, refused);
    }
    opened
}

async fn keep_open(gateway: &Shared, channel: &ChannelId, owner: &Owner, epoch: u64, opening: &Opening) -> bool {
    let opened = open(gateway, channel, owner, epoch, opening).await;
    let opened = opened.inspect_err(|status| {
        tracing::warn!(%channel, node = %opening.node.id(), %status, "a gate was not kept open");
    });
    opened.is_ok()
}

/// The state does not renew a floor: why?
async fn not_ours(gateway: &Shared, channel: &ChannelId, owner: &Owner, epoch: u64) {
    let floor = match within(gateway.store.floor(channel)).await {
        Ok(floor) => floor,
        // The next renewal asks again; without one the gate closes by itself.
        Err(error) => return tracing::warn!(%channel, %error, "it is not known who holds a floor"),
    };
    let holder = floor.holder.as_ref().map(|holder| &holder.owner);
    match holder {
        Some(holder) if holder.connection == owner.connection && floor.epoch == epoch => {
            if holder.gateway != owner.gateway {
                tracing::debug!(%channel, "a talk goes on at another gateway");
                gateway.floors.remove(channel, owner, Some(epoch));
            }
            // Else it has reached its limit: gate and lease end by themselves.
        }
        // The state has lost what it had written: nobody holds the floor, though we were granted it.
        None if floor.epoch < epoch => take_again(gateway, channel, owner, epoch).await,
        // Whoever took it has announced it.
        _ => {
            if let Some(held) = gateway.floors.remove(channel, owner, Some(epoch)) {
                close_soon(gateway, channel, held);
            }
        }
    }
}

/// The talk goes on with a new epoch, if nobody else is quicker.
async fn take_again(gateway: &Shared, channel: &ChannelId, owner: &Owner, epoch: u64) {
    let Some(held) = gateway.floors.remove(channel, owner, Some(epoch)) else { return };
    let asked = Instant::now();
    let taken = within(gateway.store.take_floor(channel, owner, &held.place_id(asked), None)).await;
    match (taken, held.node()) {
        (Ok(Taken::Granted { floor, .. }), Some(node)) => {
            tracing::warn!(%channel, "the state had lost a floor; its holder has it again");
            let since = held.since;
            if let Some(opening) = gateway.floors.granted(channel, owner, floor.epoch, (asked, since), node) {
                keep_open(gateway, channel, owner, floor.epoch, &opening).await;
            }
        }
        (taken, _) => {
            if !matches!(taken, Ok(Taken::Busy(_))) {
                gateway.floors.release_later(channel, owner, FloorCause::NodeFailed);
            }
            close_soon(gateway, channel, held);
        }
    }
}

/// Ends a talk, as far as that can be done now: closes its gate and then gives the floor back.
pub(crate) async fn end(gateway: &Shared, channel: &ChannelId, owner: &Owner, cause: FloorCause) -> Ended {
    let Some(held) = gateway.floors.ending(channel, owner, cause, Instant::now() + AGAIN) else {
        return Ended::Nothing;
    };
    give_back(gateway, channel, &held).await
}

/// The same for a floor that is ending already.
pub(super) async fn give_back(gateway: &Shared, channel: &ChannelId, held: &Held) -> Ended {
    let (owner, Task::Release(cause, _)) = (&held.owner, held.task) else { return Ended::Nothing };
    if let (Some(gate), Some(epoch)) = (&held.gate, held.epoch)
        && gate.may_be_open(Instant::now())
    {
        let closing = match cause {
            FloorCause::Released => gate::release(&gate.node, channel, epoch, &owner.gateway).await,
            _ => gate::close(&gate.node, channel, epoch, &owner.gateway).await,
        };
        match closing {
            Closing::Closed => {}
            Closing::Unknown if gate.may_be_open(Instant::now()) => return Ended::GateUntil(gate.until),
            Closing::Unknown => {}
            Closing::Kept => {
                tracing::debug!(%channel, "a talk goes on at another gateway");
                gateway.floors.remove(channel, owner, held.epoch);
                return Ended::Nothing;
            }
        }
        gateway.floors.gate_closed(channel, owner, gate);
    }
    match within(gateway.store.release_floor(channel, owner, held.epoch, cause)).await {
        Ok((floor, freed)) => {
            gateway.floors.remove(channel, owner, held.epoch);
            if freed {
                metrics::talked(held.since.elapsed());
            }
            if freed && cause != FloorCause::Released {
                tracing::info!(%channel, cause = cause.as_str(), "a floor was taken from its holder");
            }
            Ended::Freed(floor)
        }
        Err(error) => Ended::StateAway(error),
    }
}

/// Ends a talk and waits until its gate is sure to be closed: what follows may free the floor.
pub(crate) async fn end_surely(gateway: &Shared, channel: &ChannelId, owner: &Owner, cause: FloorCause) {
    while let Ended::GateUntil(until) = end(gateway, channel, owner, cause).await {
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = sleep_until(until) => {}
        }
    }
}

/// A floor has moved on: lets nobody of ours through any more.
pub(crate) fn lost(gateway: &Shared, channel: &ChannelId, epoch: u64) {
    for held in gateway.floors.moved_on(channel, epoch) {
        close_soon(gateway, channel, held);
    }
}

/// Closes the gate of a talk that is lost, without waiting. It is tried until the gate has closed by itself.
fn close_soon(gateway: &Shared, channel: &ChannelId, held: Held) {
    let Held { owner, epoch: Some(epoch), gate: Some(gate), .. } = held else { return };
    let channel = channel.clone();
    gateway.tasks.spawn(async move { close_until_closed(&channel, epoch, &owner, &gate).await });
}

async fn close_until_closed(channel: &ChannelId, epoch: u64, owner: &Owner, gate: &Gate) {
    while gate.may_be_open(Instant::now())
        && gate::close(&gate.node, channel, epoch, &owner.gateway).await == Closing::Unknown
    {
        sleep(CLOSE_AGAIN).await;
    }
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
