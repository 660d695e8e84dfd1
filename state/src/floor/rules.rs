//! The rules: one function from a floor, a request and a time to the next floor, the answer and what to announce.
//!
//! Called by the backends, under whatever makes their step atomic; the scripts of a remote backend mirror it line by
//! line. It never fails, and it takes any time as `now_ms`, also one before the last: clocks are set back.

use super::{Floor, FloorRules, Holder, Owner};
use crate::event::FloorCause;
use crate::id::NodeId;

/// What is asked of a floor.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Somebody presses.
    Take {
        /// Who.
        owner: &'a Owner,
        /// Where its gate will be.
        node: &'a NodeId,
        /// The epoch of a floor of the same user that may be taken from its other connection.
        take_over: Option<u64>,
    },
    /// The holder gives it back, or its gateway does so for it.
    Release {
        /// Who should hold it, through which gateway.
        owner: &'a Owner,
        /// Only this talk; `None`: whichever it has.
        epoch: Option<u64>,
        /// Why.
        cause: FloorCause,
    },
    /// The holder's gateway still has it on the line.
    Renew {
        /// Who should hold it, through which gateway.
        owner: &'a Owner,
        /// The talk.
        epoch: u64,
        /// Where its gate is, or will be.
        node: &'a NodeId,
    },
    /// A connection has come to another gateway: the floor that it holds goes with it.
    Move {
        /// Who may hold it, with the gateway that serves it now.
        owner: &'a Owner,
    },
    /// The lease may have ended.
    Expire,
    /// Nothing but a look; corrects the times after a clock was set back.
    Look,
}

/// What the asker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Take: it is yours from now on.
    Granted,
    /// Take or renew: it was yours, and the lease is as long again as it may be.
    Renewed,
    /// Take: somebody else holds it.
    Busy,
    /// Release or expire: it was held and is free from now on.
    Freed,
    /// Anything else: nothing to do.
    Unchanged,
}

/// A change that everybody on the channel is told of, with the floor of its [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Why.
    pub cause: FloorCause,
    /// Who held it until now.
    pub previous: Option<Owner>,
}

/// What follows from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The floor to keep, announced or not.
    pub floor: Floor,
    /// For the asker.
    pub answer: Answer,
    /// For everybody: there is one exactly when the epoch has grown.
    pub announce: Option<Announcement>,
}

/// Decides. Between two calls for one channel, `floor` must be the last outcome's.
pub fn transition(mut floor: Floor, request: Request<'_>, now_ms: u64, rules: &FloorRules) -> Outcome {
    if let Some(holder) = &mut floor.holder {
        follow_clock(holder, now_ms, rules);
    }
    match request {
        Request::Take { owner, node, take_over } => take(floor, owner, node, take_over, now_ms, rules),
        Request::Release { owner, epoch, cause } => {
            let this_talk = epoch.is_none_or(|epoch| epoch == floor.epoch);
            if this_talk && is_held_through(&floor, owner) {
                free(floor, cause, now_ms)
            } else {
                keep(floor, Answer::Unchanged)
            }
        }
        Request::Renew { owner, epoch, node } => renew(floor, owner, epoch, node, now_ms, rules),
        Request::Move { owner } => keep(moved(floor, owner), Answer::Unchanged),
        Request::Expire => match &floor.holder {
            Some(holder) if is_over(holder, now_ms) => {
                let cause = if has_reached_limit(holder, rules) { FloorCause::TalkLimit } else { FloorCause::Expired };
                free(floor, cause, now_ms)
            }
            _ => keep(floor, Answer::Unchanged),
        },
        Request::Look => keep(floor, Answer::Unchanged),
    }
}

fn take(
    floor: Floor,
    owner: &Owner,
    node: &NodeId,
    take_over: Option<u64>,
    now_ms: u64,
    rules: &FloorRules,
) -> Outcome {
    match &floor.holder {
        Some(holder) if !is_over(holder, now_ms) => {
            if is_same_connection(&holder.owner, owner) {
                return extend(moved(floor, owner), node, now_ms, rules);
            }
            if take_over != Some(floor.epoch) || holder.owner.user != owner.user {
                return keep(floor, Answer::Busy);
            }
        }
        // Past its end a talk is over for everybody, its own connection included: that begins a new one, with an epoch
        // that opens gates which the old one may have closed. To the listeners it is one change, from holder to holder.
        _ => {}
    }
    let next = Floor {
        epoch: next_epoch(floor.epoch, now_ms),
        holder: Some(Holder {
            owner: owner.clone(),
            node: node.clone(),
            taken_at_ms: now_ms,
            lease_until_ms: longest_lease(now_ms, now_ms, rules),
        }),
    };
    change(floor, next, Answer::Granted, FloorCause::Taken)
}

/// A lease that has ended is not renewed, also if nobody has asked for the floor yet: the media nodes' gates have closed
/// by then, and a gateway that was paused cannot know what it has missed.
fn renew(floor: Floor, owner: &Owner, epoch: u64, node: &NodeId, now_ms: u64, rules: &FloorRules) -> Outcome {
    match &floor.holder {
        Some(holder) if is_held_through(&floor, owner) && floor.epoch == epoch && !is_over(holder, now_ms) => {
            extend(floor, node, now_ms, rules)
        }
        _ => keep(floor, Answer::Unchanged),
    }
}

fn extend(mut floor: Floor, node: &NodeId, now_ms: u64, rules: &FloorRules) -> Outcome {
    if let Some(holder) = &mut floor.holder {
        holder.node.clone_from(node);
        holder.lease_until_ms = longest_lease(holder.taken_at_ms, now_ms, rules);
    }
    keep(floor, Answer::Renewed)
}

fn free(floor: Floor, cause: FloorCause, now_ms: u64) -> Outcome {
    let next = Floor { epoch: next_epoch(floor.epoch, now_ms), holder: None };
    change(floor, next, Answer::Freed, cause)
}

fn change(last: Floor, next: Floor, answer: Answer, cause: FloorCause) -> Outcome {
    Outcome {
        floor: next,
        answer,
        announce: Some(Announcement { cause, previous: last.holder.map(|holder| holder.owner) }),
    }
}

fn keep(floor: Floor, answer: Answer) -> Outcome {
    Outcome { floor, answer, announce: None }
}

/// After a clock was set back, the times of a floor lie in the future: a dead holder's floor would be stuck, and a talk
/// would have no limit, until the clock has caught up. No lease is longer than one that is granted now, and no talk has
/// begun later than now.
fn follow_clock(holder: &mut Holder, now_ms: u64, rules: &FloorRules) {
    holder.taken_at_ms = holder.taken_at_ms.min(now_ms);
    let longest = longest_lease(holder.taken_at_ms, now_ms, rules);
    holder.lease_until_ms = holder.lease_until_ms.min(longest);
}

/// Time alone would do while the clock moves forward, and it keeps epochs growing when a store has lost its last writes;
/// counting keeps them growing within a millisecond and when the clock is set back.
fn next_epoch(last: u64, now_ms: u64) -> u64 {
    last.saturating_add(1).max(now_ms)
}

fn longest_lease(taken_at_ms: u64, now_ms: u64, rules: &FloorRules) -> u64 {
    let lease_ms = u64::try_from(rules.lease.as_millis()).unwrap_or(u64::MAX);
    now_ms.saturating_add(lease_ms).min(limit_at(taken_at_ms, rules).unwrap_or(u64::MAX))
}

fn limit_at(taken_at_ms: u64, rules: &FloorRules) -> Option<u64> {
    let limit_ms = u64::try_from(rules.talk_limit?.as_millis()).unwrap_or(u64::MAX);
    Some(taken_at_ms.saturating_add(limit_ms))
}

/// The floor with the holder's new gateway, if this connection is the holder.
fn moved(mut floor: Floor, owner: &Owner) -> Floor {
    if let Some(holder) = &mut floor.holder
        && is_same_connection(&holder.owner, owner)
    {
        holder.owner.gateway.clone_from(&owner.gateway);
    }
    floor
}

fn is_same_connection(a: &Owner, b: &Owner) -> bool {
    a.connection == b.connection && a.user == b.user
}

/// The fence: a connection that has moved on is not the old gateway's any more.
fn is_held_through(floor: &Floor, owner: &Owner) -> bool {
    let is_it = |holder: &Holder| is_same_connection(&holder.owner, owner) && holder.owner.gateway == owner.gateway;
    floor.holder.as_ref().is_some_and(is_it)
}

fn is_over(holder: &Holder, now_ms: u64) -> bool {
    now_ms >= holder.lease_until_ms
}

/// Whether the lease ends where the talk must: a lease that ended before says that the holder's gateway had gone by then.
fn has_reached_limit(holder: &Holder, rules: &FloorRules) -> bool {
    limit_at(holder.taken_at_ms, rules).is_some_and(|limit| holder.lease_until_ms >= limit)
}
