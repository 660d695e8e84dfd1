//! The scripts against the rules: random schedules through the pure function, the memory and the scripts give the same
//! answers and the same announcements. proptest prints the schedule that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use voiceping_state::floor::{Answer, Outcome, Request, transition};
use voiceping_state::{
    Event, Floor, FloorCause, FloorChanged, FloorRules, Limits, Memory, NodeId, Owner, Redis, State, Subscription,
    Taken,
};

use super::{Kind, Standalone, config};
use crate::support::*;

/// A connection, and the gateway through which it acts.
type Who = (usize, usize);

const GATEWAYS: [&str; 2] = ["g1", "g2"];
const CONNECTIONS: [&str; 4] = ["alice.1", "alice.2", "bob.1", "carol.1"];
const START_MS: u64 = 1_700_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    Take(Who, bool),
    Release(Who, Option<bool>, FloorCause),
    Renew(Who, bool),
    Expire,
    Look,
}

fn any_op() -> impl Strategy<Value = Op> {
    let who = (0..CONNECTIONS.len(), 0..GATEWAYS.len());
    let cause = prop_oneof![Just(FloorCause::Released), Just(FloorCause::Silent), Just(FloorCause::NodeFailed)];
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, over)| Op::Take(who, over)),
        2 => (who.clone(), any::<Option<bool>>(), cause).prop_map(|(who, exact, cause)| Op::Release(who, exact, cause)),
        2 => (who, any::<bool>()).prop_map(|(who, exact)| Op::Renew(who, exact)),
        2 => Just(Op::Expire),
        1 => Just(Op::Look),
    ]
}

fn any_clock_step() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..4_000_i64, 2 => 0..20_000_i64, 1 => -10_000..0_i64, 1 => -7_200_000..7_200_000_i64]
}

#[test]
fn the_scripts_are_the_rules() {
    let schedules = (any::<bool>(), vec((any_op(), any_clock_step()), 1..120));
    proptest!(ProptestConfig::with_cases(48), |((limited, schedule) in schedules)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(rules(limited.then_some(TALK_LIMIT)), &schedule));
    });
}

async fn run(rules: FloorRules, schedule: &[(Op, i64)]) {
    let now_ms = Arc::new(AtomicU64::new(START_MS));
    let clock = || {
        let now_ms = Arc::clone(&now_ms);
        move || now_ms.load(Ordering::SeqCst)
    };
    let memory = Memory::with_clock(rules, Limits::default(), clock());
    let config = config(Standalone::servers());
    let redis = Redis::with_clock(&config, rules, Limits::default(), clock()).expect("good settings");
    let (mut of_memory, mut of_redis) = (memory.listen().await, redis.listen().await);

    let mut floor = Floor::default();
    let mut announced = Vec::new();
    for (op, step) in schedule {
        let now = now_ms.load(Ordering::SeqCst).saturating_add_signed(*step);
        now_ms.store(now, Ordering::SeqCst);
        let outcome = by_rules(&floor, op, now, &rules);
        assert_eq!(by_state(&memory, op, floor.epoch).await, answer_of(op, &outcome), "memory: {op:?}");
        assert_eq!(by_state(&redis, op, floor.epoch).await, answer_of(op, &outcome), "redis: {op:?}");
        floor = outcome.floor;
        assert_eq!(redis.look().await, floor, "as it is kept");
        if let Some(announcement) = outcome.announce {
            announced.push(Event::Floor(FloorChanged {
                channel: lobby(),
                floor: floor.clone(),
                cause: announcement.cause,
                previous: announcement.previous,
                trace: None,
            }));
        }
    }
    assert_eq!(heard(&memory, &mut of_memory).await, announced);
    assert_eq!(heard(&redis, &mut of_redis).await, announced);
}

async fn heard<S: State>(state: &S, bus: &mut Subscription) -> Vec<Event> {
    state.heard(bus).await
}

/// An answer, whatever was asked.
#[derive(Debug, PartialEq)]
enum Said {
    Taken(Taken),
    Released(Floor, bool),
    Renewed(bool),
    Floor(Floor),
}

async fn by_state<S: State>(state: &S, op: &Op, last: u64) -> Said {
    match *op {
        Op::Take(who, over) => {
            let taken = state.take_floor(&lobby(), &as_owner(who), &node_of(who), over.then_some(last)).await;
            Said::Taken(taken.expect("available"))
        }
        Op::Release(who, exact, cause) => {
            let epoch = exact.map(|exact| named(last, exact));
            let released = state.release_floor(&lobby(), &as_owner(who), epoch, cause).await;
            let (floor, freed) = released.expect("available");
            Said::Released(floor, freed)
        }
        Op::Renew(who, exact) => {
            let renewed = state.renew_floor(&lobby(), &as_owner(who), named(last, exact), &node()).await;
            Said::Renewed(renewed.expect("available"))
        }
        Op::Expire => Said::Floor(state.expire().await),
        Op::Look => Said::Floor(state.look().await),
    }
}

fn by_rules(floor: &Floor, op: &Op, now_ms: u64, rules: &FloorRules) -> Outcome {
    let last = floor.epoch;
    let floor = floor.clone();
    match *op {
        Op::Take(who, over) => {
            let request = Request::Take { owner: &as_owner(who), node: &node_of(who), take_over: over.then_some(last) };
            transition(floor, request, now_ms, rules)
        }
        Op::Release(who, exact, cause) => {
            let epoch = exact.map(|exact| named(last, exact));
            let request = Request::Release { owner: &as_owner(who), epoch, cause };
            transition(floor, request, now_ms, rules)
        }
        Op::Renew(who, exact) => {
            let request = Request::Renew { owner: &as_owner(who), epoch: named(last, exact), node: &node() };
            transition(floor, request, now_ms, rules)
        }
        Op::Expire => transition(floor, Request::Expire, now_ms, rules),
        Op::Look => transition(floor, Request::Look, now_ms, rules),
    }
}

fn answer_of(op: &Op, outcome: &Outcome) -> Said {
    let floor = outcome.floor.clone();
    match op {
        Op::Take(..) => Said::Taken(match outcome.answer {
            Answer::Granted => Taken::Granted { floor, renewed: false },
            Answer::Renewed => Taken::Granted { floor, renewed: true },
            _ => Taken::Busy(floor),
        }),
        Op::Release(..) => Said::Released(floor, outcome.answer == Answer::Freed),
        Op::Renew(..) => Said::Renewed(outcome.answer == Answer::Renewed),
        Op::Expire | Op::Look => Said::Floor(floor),
    }
}

fn as_owner((connection, gateway): Who) -> Owner {
    through(GATEWAYS[gateway], CONNECTIONS[connection])
}

/// Where its gate will be. It is at another node, [`node`]'s, when the lease is renewed.
fn node_of((_, gateway): Who) -> NodeId {
    ["n2", "n3"][gateway].into()
}

/// The talk's own epoch, or another.
fn named(last: u64, exact: bool) -> u64 {
    if exact { last } else { last.wrapping_sub(1) }
}
