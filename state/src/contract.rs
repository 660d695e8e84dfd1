//! The contract between gateways and the shared state.
//!
//! A change and its announcement are one step: the order of events on the bus is the order of the decisions. Times are
//! milliseconds since the Unix epoch by the backend's clock, never by the caller's.

use std::future::Future;
use std::time::Duration;

use crate::event::{FloorCause, Roster};
use crate::floor::{Floor, Owner};
use crate::id::{ChannelId, NodeId, UserId};
use crate::store::Subscription;

/// What every backend does. All methods but [`State::claim`] are safe to repeat after a lost answer.
///
/// A connection belongs to the gateway through which it came last ([`Owner::gateway`]): what an earlier one still asks for
/// it changes nothing.
pub trait State {
    /// Asks for a channel's floor. Granted if nobody holds it, or if this connection holds it already (same epoch, lease
    /// renewed, its gateway the one that asks from now on, nothing announced). The gate of the talk will be at `node`.
    /// `take_over` names the epoch of a floor that the same user holds on another connection and that may be taken from it;
    /// it is ignored if the floor has moved on or is somebody else's.
    fn take_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        node: &NodeId,
        take_over: Option<u64>,
    ) -> impl Future<Output = Result<Taken, StateError>> + Send;

    /// Gives a floor back. Changes nothing unless `owner` holds it through this very gateway and, if given, `epoch` is its
    /// epoch. Answers the floor as it is afterwards, and whether this call freed it.
    fn release_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: Option<u64>,
        cause: FloorCause,
    ) -> impl Future<Output = Result<(Floor, bool), StateError>> + Send;

    /// Extends the lease of a floor that `owner` holds through this very gateway with this epoch, up to the talk limit, and
    /// says where its gate is, or will be.
    /// `false`: it does not hold it any more, or the lease has ended.
    fn renew_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: u64,
        node: &NodeId,
    ) -> impl Future<Output = Result<bool, StateError>> + Send;

    /// Frees a floor whose lease has ended. Any gateway may ask at any time, as often as it likes; one of the calls frees
    /// and announces. Answers the floor as it is afterwards. Ask while a channel is busy, when the lease should end and at
    /// least once in every lease: the end that was announced may lie too far ahead if the backend's clock was set back.
    fn expire_floor(&self, channel: &ChannelId) -> impl Future<Output = Result<Floor, StateError>> + Send;

    /// A channel's floor now.
    fn floor(&self, channel: &ChannelId) -> impl Future<Output = Result<Floor, StateError>> + Send;

    /// Makes a connection a member of a channel. Announced when it is the user's first connection there. Repeating it is
    /// success; through another gateway it moves the connection, and the floor that it holds, to that gateway, and
    /// announces nothing. Answers the users on the channel, this one among them.
    fn join(&self, channel: &ChannelId, member: &Owner) -> impl Future<Output = Result<Roster, JoinError>> + Send;

    /// Ends a membership and frees the floor if this connection holds it. Announced when it was the user's last
    /// connection there. What the connection has through another gateway by now stays; that and unknown members are
    /// success. Answers the number of users that remain.
    fn leave(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        leaving: Leaving,
    ) -> impl Future<Output = Result<usize, StateError>> + Send;

    /// The users on a channel with their names, each once, ordered by name.
    fn members(&self, channel: &ChannelId) -> impl Future<Output = Result<Vec<(UserId, String)>, StateError>> + Send;

    /// Marks a key as used for this time. `true`: nobody else had, within their times. A claim whose answer was lost is a
    /// claim all the same: who repeats it may be told `false`.
    fn claim(&self, key: &str, for_time: Duration) -> impl Future<Output = Result<bool, StateError>> + Send;

    /// A new subscription that watches nothing yet.
    fn subscribe(&self) -> Subscription;
}

/// The answer to [`State::take_floor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The caller holds the floor. `renewed`: it held it before, and nothing was announced.
    Granted {
        /// The floor, held by the caller.
        floor: Floor,
        /// The caller held it already.
        renewed: bool,
    },
    /// Somebody else holds it.
    Busy(Floor),
}

/// Why a member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It asked to.
    Left,
    /// Its connection ended.
    Disconnected,
}

/// The state cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The backend is out of reach; the caller may try again.
    #[error("the shared state is unavailable: {0}")]
    Unavailable(String),
}

/// A join that did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The channel has as many users as it may have.
    #[error("the channel has its limit of {0} users")]
    Full(usize),
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
}
