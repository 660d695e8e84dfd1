//! The rules under random requests and a clock that goes where it likes. proptest prints the schedule that fails.

use proptest::prelude::*;

use super::*;

/// What the requests of a random schedule are made from.
#[derive(Debug, Clone)]
enum Op {
    Take(Who, bool),
    Release(Who, bool),
    Renew(Who, bool),
    Move(Who),
    Expire,
    Look,
}

/// A connection, and the gateway through which it acts.
type Who = (usize, usize);

const GATEWAYS: [&str; 2] = ["g1", "g2"];
const CONNECTIONS: [&str; 4] = ["alice.1", "alice.2", "bob.1", "carol.1"];

fn any_op() -> impl Strategy<Value = Op> {
    let who = (0..CONNECTIONS.len(), 0..GATEWAYS.len());
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, over)| Op::Take(who, over)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, exact)| Op::Release(who, exact)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, exact)| Op::Renew(who, exact)),
        1 => who.prop_map(Op::Move),
        2 => Just(Op::Expire),
        1 => Just(Op::Look),
    ]
}

/// Mostly small steps around the lease, sometimes a clock that jumps an hour either way.
fn any_step() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0..4_000_i64,
        2 => 0..2 * LEASE_MS as i64,
        1 => -(LEASE_MS as i64)..0,
        1 => -(HOUR_MS as i64)..HOUR_MS as i64,
    ]
}

proptest! {
    #[test]
    fn any_schedule_keeps_the_invariants(
        limited: bool,
        schedule in prop::collection::vec((any_op(), any_step()), 1..200),
    ) {
        let rules = rules(limited.then_some(LIMIT_MS));
        let mut now_ms = NOW_MS;
        let mut floor = Floor::default();
        for (op, step) in schedule {
            now_ms = now_ms.saturating_add_signed(step);
            let last = floor.clone();
            let outcome = apply(&last, &op, now_ms, &rules);
            prop_assert_eq!(outcome.announce.is_some(), outcome.floor.epoch > last.epoch, "announced as it changes");
            prop_assert!(outcome.floor.epoch >= last.epoch);
            let owner_of = |floor: &Floor| floor.holder.as_ref().map(|holder| holder.owner.clone());
            let connection_of = |floor: &Floor| owner_of(floor).map(|owner| owner.connection);
            match &outcome.announce {
                Some(announcement) => {
                    prop_assert_eq!(&announcement.previous, &owner_of(&last));
                    prop_assert!(outcome.floor.epoch >= now_ms, "survives a store that lost its last writes");
                }
                None => prop_assert_eq!(connection_of(&outcome.floor), connection_of(&last)),
            }
            if let (Op::Release(who, _) | Op::Renew(who, _), Some(last_owner)) = (&op, owner_of(&last))
                && last_owner != as_owner(*who)
            {
                prop_assert_eq!(outcome.answer, Answer::Unchanged, "neither another's nor through another gateway");
            }
            if let (Op::Take(who, _) | Op::Move(who), Some(owner)) = (&op, owner_of(&outcome.floor))
                && owner.connection == as_owner(*who).connection
            {
                prop_assert_eq!(owner, as_owner(*who), "it is the gateway's through which it came last");
            }
            if let Some(holder) = &outcome.floor.holder {
                prop_assert!(holder.taken_at_ms <= now_ms);
                prop_assert!(holder.lease_until_ms <= now_ms + LEASE_MS, "no floor outlives a lease from now");
                if limited {
                    prop_assert!(holder.lease_until_ms <= holder.taken_at_ms + LIMIT_MS);
                }
                let end = now_ms + LEASE_MS;
                prop_assert_eq!(expire(&outcome.floor, end, &rules).answer, Answer::Freed, "never stuck");
            }
            floor = outcome.floor;
        }
    }
}

fn as_owner((connection, gateway): Who) -> Owner {
    through(GATEWAYS[gateway], CONNECTIONS[connection])
}

fn apply(floor: &Floor, op: &Op, now_ms: u64, rules: &FloorRules) -> Outcome {
    let stale = |exact: bool| if exact { floor.epoch } else { floor.epoch.wrapping_sub(1) };
    match *op {
        Op::Take(who, over) => {
            let request =
                Request::Take { owner: &as_owner(who), node: &node(), take_over: over.then_some(floor.epoch) };
            transition(floor.clone(), request, now_ms, rules)
        }
        Op::Move(who) => transition(floor.clone(), Request::Move { owner: &as_owner(who) }, now_ms, rules),
        Op::Release(who, exact) => {
            let request = Request::Release {
                owner: &as_owner(who),
                epoch: exact.then_some(floor.epoch),
                cause: FloorCause::Released,
            };
            transition(floor.clone(), request, now_ms, rules)
        }
        Op::Renew(who, exact) => {
            let request = Request::Renew { owner: &as_owner(who), epoch: stale(exact), node: &node() };
            transition(floor.clone(), request, now_ms, rules)
        }
        Op::Expire => expire(floor, now_ms, rules),
        Op::Look => transition(floor.clone(), Request::Look, now_ms, rules),
    }
}
