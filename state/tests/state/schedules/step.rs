//! One step of a schedule: what the clock does, then what a connection does.

use proptest::prelude::*;

use super::CHANNELS;

const USERS: usize = 6;
const DEVICES: usize = 2;

#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The clock before the action.
    pub(crate) clock: Clock,
    pub(crate) channel: usize,
    /// Which connection acts.
    pub(crate) user: usize,
    pub(crate) device: usize,
    /// Through which of the two gateways.
    pub(crate) gateway: usize,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    Forward(u64),
    Back(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Press {
        take_over: bool,
    },
    Release {
        this_talk: bool,
    },
    Renew,
    Expire,
    Join,
    Leave,
    /// Leaves every channel.
    Disconnect,
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        8 => (0..3_000_u64).prop_map(Clock::Forward),
        2 => (8_000..12_000_u64).prop_map(Clock::Forward),
        1 => (0..7_200_000_u64).prop_map(Clock::Forward),
        1 => (0..7_200_000_u64).prop_map(Clock::Back),
    ];
    let action = prop_oneof![
        4 => any::<bool>().prop_map(|take_over| Action::Press { take_over }),
        2 => any::<bool>().prop_map(|this_talk| Action::Release { this_talk }),
        2 => Just(Action::Renew),
        2 => Just(Action::Expire),
        2 => Just(Action::Join),
        1 => Just(Action::Leave),
        1 => Just(Action::Disconnect),
    ];
    let gateway = prop_oneof![4 => Just(0_usize), 1 => Just(1)];
    (clock, 0..CHANNELS, 0..USERS, 0..DEVICES, gateway, action).prop_map(
        |(clock, channel, user, device, gateway, action)| Step { clock, channel, user, device, gateway, action },
    )
}
