//! Random schedules of everything that members, gateways and clocks do, over many members and channels. Whatever comes:
//! never two holders, never a stuck floor, and every change announced exactly once. proptest prints the schedule that
//! fails, cut down to its core, and keeps its seed.

mod step;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use voiceping_state::{
    ChannelId, ConnectionId, Event, Floor, FloorCause, FloorChanged, Leaving, Limits, MemberAction, Owner, State,
    Subscription, Taken, UserId,
};

use crate::support::*;
use step::{Action, Clock, Step, any_step};

const CHANNELS: usize = 4;

pub(crate) fn any_schedule_is_announced_as_it_happened<H: Harness>() {
    let schedules = (any::<bool>(), vec(any_step(), 1..150));
    proptest!(ProptestConfig::with_cases(H::SCHEDULES), |((limited, schedule) in schedules)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let harness = H::start(rules(limited.then_some(TALK_LIMIT)), Limits::default()).await;
            let mut run = Run::new(harness).await;
            for step in &schedule {
                run.step(step).await;
            }
            run.compare_announcements().await;
            run.everything_ends().await;
        });
    });
}

/// A schedule as it runs, with what must have been announced by now.
struct Run<H: Harness> {
    harness: H,
    state: H::State,
    bus: Subscription,
    floors: Vec<Floor>,
    /// User and device, with the gateway through which they came last.
    members: Vec<HashMap<(usize, usize), String>>,
    /// Who believes that it may speak: its last answer said so, and no event has said otherwise.
    speaker: Vec<Option<ConnectionId>>,
    expected: Vec<Vec<Expected>>,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Floor { epoch: u64, holder: Option<ConnectionId>, previous: Option<ConnectionId> },
    Member { user: UserId, action: MemberAction, users: usize },
}

impl<H: Harness> Run<H> {
    /// Watches all channels but the last: that one may be forgotten by the backend at any time.
    async fn new(harness: H) -> Self {
        let state = harness.gateway();
        let mut bus = state.subscribe();
        for n in 0..CHANNELS - 1 {
            bus.watch(&channel(n)).await.expect("available");
        }
        Self {
            harness,
            state,
            bus,
            floors: vec![Floor::default(); CHANNELS],
            members: vec![HashMap::new(); CHANNELS],
            speaker: vec![None; CHANNELS],
            expected: (0..CHANNELS).map(|_| Vec::new()).collect(),
        }
    }

    async fn step(&mut self, step: &Step) {
        match step.clock {
            Clock::Forward(ms) => self.harness.advance(Duration::from_millis(ms)).await,
            Clock::Back(ms) => self.harness.set_back(Duration::from_millis(ms)).await,
        }
        let member = member_of(step);
        let (n, id, connection) = (step.channel, channel(step.channel), &member.connection);
        let last = self.floors[n].clone();
        match step.action {
            Action::Press { take_over } => {
                let take_over = take_over.then_some(last.epoch);
                let taken = self.state.take_floor(&id, &member, &node(), take_over).await.expect("available");
                self.check_press(n, connection, &taken);
            }
            Action::Release { this_talk } => {
                let epoch = this_talk.then_some(last.epoch);
                let release = self.state.release_floor(&id, &member, epoch, FloorCause::Released).await;
                let (_, freed) = release.expect("available");
                assert_eq!(freed, last.holder.is_some_and(|holder| holder.owner == member));
            }
            Action::Renew => {
                let renewed = self.state.renew_floor(&id, &member, last.epoch, &node()).await.expect("available");
                assert!(!renewed || last.holder.is_some_and(|holder| holder.owner == member));
            }
            Action::Expire => {
                let floor = self.state.expire_floor(&id).await.expect("available");
                let now_ms = self.harness.now_ms();
                assert!(floor.holder.is_none_or(|holder| holder.lease_until_ms > now_ms));
            }
            Action::Join => {
                let users = self.state.join(&id, &member).await.expect("no limit").users;
                let known = self.has_user(n, step.user);
                self.members[n].insert((step.user, step.device), member.gateway.clone());
                assert_eq!(users, self.users(n));
                if !known {
                    self.expect_member(n, member.user.clone(), MemberAction::Joined);
                }
            }
            Action::Leave => self.leave(n, step, Leaving::Left).await,
            Action::Disconnect => {
                for n in 0..CHANNELS {
                    self.leave(n, step, Leaving::Disconnected).await;
                }
            }
        }
        self.observe(n).await;
    }

    fn check_press(&mut self, n: usize, connection: &ConnectionId, taken: &Taken) {
        match taken {
            Taken::Granted { floor, renewed } => {
                assert_eq!(holder_of(floor), Some(connection));
                if *renewed {
                    assert_eq!(self.speaker[n].as_ref(), Some(connection));
                    assert_eq!(floor.epoch, self.floors[n].epoch);
                } else {
                    assert!(floor.epoch > self.floors[n].epoch);
                }
            }
            Taken::Busy(floor) => {
                let holder = floor.holder.as_ref().expect("somebody else");
                assert_ne!(holder.owner.connection, *connection);
                assert!(holder.lease_until_ms > self.harness.now_ms(), "nobody waits for the dead");
            }
        }
    }

    async fn leave(&mut self, n: usize, step: &Step, leaving: Leaving) {
        let member = member_of(step);
        let users = self.state.leave(&channel(n), &member, leaving).await;
        self.observe(n).await;
        assert_ne!(self.floors[n].holder.as_ref().map(|holder| &holder.owner), Some(&member));
        let device = (step.user, step.device);
        let was_member = self.members[n].get(&device) == Some(&member.gateway);
        if was_member {
            self.members[n].remove(&device);
        }
        assert_eq!(users, Ok(self.users(n)));
        if was_member && !self.has_user(n, step.user) {
            let action = match leaving {
                Leaving::Left => MemberAction::Left,
                Leaving::Disconnected => MemberAction::Disconnected,
            };
            self.expect_member(n, member.user, action);
        }
    }

    /// Reads the floor, and notes the change that must have been announced if it is another.
    async fn observe(&mut self, n: usize) {
        let floor = self.state.floor(&channel(n)).await.expect("available");
        let last = std::mem::replace(&mut self.floors[n], floor);
        let floor = &self.floors[n];
        assert!(floor.epoch >= last.epoch, "epochs never go back");
        if floor.epoch == last.epoch {
            assert_eq!(holder_of(floor), holder_of(&last));
            return;
        }
        self.speaker[n] = holder_of(floor).cloned();
        self.expected[n].push(Expected::Floor {
            epoch: floor.epoch,
            holder: holder_of(floor).cloned(),
            previous: holder_of(&last).cloned(),
        });
    }

    fn expect_member(&mut self, n: usize, user: UserId, action: MemberAction) {
        let users = self.users(n);
        self.expected[n].push(Expected::Member { user, action, users });
    }

    fn has_user(&self, n: usize, user: usize) -> bool {
        self.members[n].keys().any(|(member, _)| *member == user)
    }

    fn users(&self, n: usize) -> usize {
        let users: HashSet<_> = self.members[n].keys().map(|(user, _)| user).collect();
        users.len()
    }

    async fn compare_announcements(&mut self) {
        let mut heard: HashMap<ChannelId, Vec<Event>> = HashMap::new();
        for n in 0..CHANNELS - 1 {
            for event in self.state.heard_on(&channel(n), &mut self.bus).await {
                heard.entry(channel_of(&event)).or_default().push(event);
            }
        }
        for (n, expected) in self.expected[..CHANNELS - 1].iter().enumerate() {
            let heard = heard.remove(&channel(n)).unwrap_or_default();
            let as_expected: Vec<_> = heard.iter().map(expected_of).collect();
            assert_eq!(as_expected, *expected);
            a_gate_ends_right(&heard, &self.floors[n]);
        }
        assert_eq!(heard.len(), 0);
    }

    /// Nobody renews any more: a lease after somebody looked, every floor can be freed, and pressed.
    async fn everything_ends(&mut self) {
        for n in 0..CHANNELS {
            self.state.expire_floor(&channel(n)).await.expect("available");
        }
        self.harness.advance(LEASE).await;
        for n in 0..CHANNELS {
            let floor = self.state.expire_floor(&channel(n)).await.expect("available");
            assert_eq!(floor.holder, None);
            let taken = self.state.take_floor(&channel(n), &owner("last.1"), &node(), None).await;
            assert!(matches!(taken, Ok(Taken::Granted { renewed: false, .. })));
        }
    }
}

/// A media node that hears of the changes late and in any order, and refuses what is not newer, ends with the floor as
/// it is, and never lets a second speaker in beside the one whom it let in last.
fn a_gate_ends_right(heard: &[Event], last: &Floor) {
    let mut changes: Vec<&FloorChanged> = heard
        .iter()
        .filter_map(|event| match event {
            Event::Floor(change) => Some(change),
            _ => None,
        })
        .collect();
    // Any order will do; by the holder's name it has little to do with the order of the changes.
    changes.sort_by_key(|change| holder_of(&change.floor).cloned());
    let mut gate = Floor::default();
    for change in changes {
        if change.floor.epoch > gate.epoch {
            gate = change.floor.clone();
        }
    }
    assert_eq!(holder_of(&gate), holder_of(last));
}

fn member_of(step: &Step) -> Owner {
    through(["g1", "g2"][step.gateway], &format!("user{}.{}", step.user, step.device))
}

fn channel(n: usize) -> ChannelId {
    format!("channel-{n}").into()
}

fn channel_of(event: &Event) -> ChannelId {
    match event {
        Event::Floor(change) => change.channel.clone(),
        Event::Member(change) => change.channel.clone(),
        Event::Resync => panic!("the queue is longer than a schedule"),
    }
}

fn expected_of(event: &Event) -> Expected {
    match event {
        Event::Floor(change) => Expected::Floor {
            epoch: change.floor.epoch,
            holder: holder_of(&change.floor).cloned(),
            previous: change.previous.as_ref().map(|owner| owner.connection.clone()),
        },
        Event::Member(change) => {
            Expected::Member { user: change.member.user.clone(), action: change.action, users: change.roster.users }
        }
        Event::Resync => panic!("the queue is longer than a schedule"),
    }
}
