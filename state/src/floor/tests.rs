//! The rules by example; `schedules` has them under any sequence of requests at any times.

mod schedules;

use std::time::Duration;

use super::*;
use crate::event::FloorCause;

const LEASE_MS: u64 = 10_000;
const LIMIT_MS: u64 = 60_000;
const NOW_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn rules(talk_limit_ms: Option<u64>) -> FloorRules {
    FloorRules { lease: Duration::from_millis(LEASE_MS), talk_limit: talk_limit_ms.map(Duration::from_millis) }
}

/// A connection named `alice.1` belongs to `alice`.
fn owner(connection: &str) -> Owner {
    let user = connection.split('.').next().expect("split yields one part at least");
    Owner { user: user.into(), user_name: user.to_uppercase(), connection: connection.into(), gateway: "g1".into() }
}

fn node() -> NodeId {
    "n1".into()
}

/// The same through another gateway.
fn through(gateway: &str, connection: &str) -> Owner {
    Owner { gateway: gateway.into(), ..owner(connection) }
}

fn take(floor: &Floor, connection: &str, now_ms: u64, rules: &FloorRules) -> Outcome {
    take_over(floor, connection, None, now_ms, rules)
}

fn take_over(floor: &Floor, connection: &str, epoch: Option<u64>, now_ms: u64, rules: &FloorRules) -> Outcome {
    let request = Request::Take { owner: &owner(connection), node: &node(), take_over: epoch };
    transition(floor.clone(), request, now_ms, rules)
}

fn release(floor: &Floor, connection: &str, epoch: Option<u64>, now_ms: u64) -> Outcome {
    let request = Request::Release { owner: &owner(connection), epoch, cause: FloorCause::Released };
    transition(floor.clone(), request, now_ms, &rules(None))
}

fn renew(floor: &Floor, connection: &str, now_ms: u64, rules: &FloorRules) -> Outcome {
    let request = Request::Renew { owner: &owner(connection), epoch: floor.epoch, node: &node() };
    transition(floor.clone(), request, now_ms, rules)
}

fn expire(floor: &Floor, now_ms: u64, rules: &FloorRules) -> Outcome {
    transition(floor.clone(), Request::Expire, now_ms, rules)
}

fn held(connection: &str, rules: &FloorRules) -> Floor {
    take(&Floor::default(), connection, NOW_MS, rules).floor
}

fn holder(outcome: &Outcome) -> &Holder {
    outcome.floor.holder.as_ref().expect("held")
}

fn announced(cause: FloorCause, previous: Option<&str>) -> Option<Announcement> {
    Some(Announcement { cause, previous: previous.map(owner) })
}

#[test]
fn a_free_floor_is_granted_at_the_time() {
    let outcome = take(&Floor::default(), "alice.1", NOW_MS, &rules(None));
    assert_eq!(outcome.answer, Answer::Granted);
    assert_eq!(outcome.announce, announced(FloorCause::Taken, None));
    assert_eq!(outcome.floor.epoch, NOW_MS);
    let holder = holder(&outcome);
    assert_eq!(holder.owner, owner("alice.1"));
    assert_eq!(holder.taken_at_ms, NOW_MS);
    assert_eq!(holder.lease_until_ms, NOW_MS + LEASE_MS);
}

#[test]
fn asking_again_renews_and_announces_nothing() {
    let floor = held("alice.1", &rules(None));
    let outcome = take(&floor, "alice.1", NOW_MS + 4_000, &rules(None));
    assert_eq!(outcome.answer, Answer::Renewed);
    assert_eq!(outcome.announce, None);
    assert_eq!(outcome.floor.epoch, floor.epoch);
    assert_eq!(holder(&outcome).taken_at_ms, NOW_MS);
    assert_eq!(holder(&outcome).lease_until_ms, NOW_MS + 4_000 + LEASE_MS);
}

#[test]
fn busy_for_others_and_for_the_same_users_other_device() {
    let floor = held("alice.1", &rules(None));
    for other in ["bob.1", "alice.2"] {
        let outcome = take(&floor, other, NOW_MS + 1, &rules(None));
        assert_eq!(outcome.answer, Answer::Busy);
        assert_eq!(outcome.announce, None);
        assert_eq!(outcome.floor, floor);
    }
}

#[test]
fn the_same_user_takes_over_the_talk_that_it_names() {
    let floor = held("alice.1", &rules(None));
    let outcome = take_over(&floor, "alice.2", Some(floor.epoch), NOW_MS + 1, &rules(None));
    assert_eq!(outcome.answer, Answer::Granted);
    assert_eq!(outcome.announce, announced(FloorCause::Taken, Some("alice.1")));
    assert_eq!(outcome.floor.epoch, NOW_MS + 1);
    assert_eq!(holder(&outcome).owner, owner("alice.2"));

    let stale = take_over(&floor, "alice.2", Some(floor.epoch - 1), NOW_MS + 1, &rules(None));
    assert_eq!(stale.answer, Answer::Busy, "the floor has moved on");
    let foreign = take_over(&floor, "bob.1", Some(floor.epoch), NOW_MS + 1, &rules(None));
    assert_eq!(foreign.answer, Answer::Busy, "the floor is somebody else's");
}

#[test]
fn release_frees_once_and_only_for_the_holder() {
    let floor = held("alice.1", &rules(None));
    for (connection, epoch) in [("bob.1", None), ("alice.2", None), ("alice.1", Some(floor.epoch - 1))] {
        let outcome = release(&floor, connection, epoch, NOW_MS + 5);
        assert_eq!(outcome.answer, Answer::Unchanged);
        assert_eq!((outcome.floor, outcome.announce), (floor.clone(), None));
    }
    let freed = release(&floor, "alice.1", Some(floor.epoch), NOW_MS + 5);
    assert_eq!(freed.answer, Answer::Freed);
    assert_eq!(freed.announce, announced(FloorCause::Released, Some("alice.1")));
    assert_eq!(freed.floor.epoch, NOW_MS + 5);
    assert_eq!(freed.floor.holder, None);

    let again = release(&freed.floor, "alice.1", None, NOW_MS + 6);
    assert_eq!(again.answer, Answer::Unchanged);
    assert_eq!((again.floor, again.announce), (freed.floor, None));
}

#[test]
fn changes_within_one_millisecond_still_count_up() {
    let floor = held("alice.1", &rules(None));
    let freed = release(&floor, "alice.1", None, NOW_MS).floor;
    assert_eq!(freed.epoch, NOW_MS + 1);
    let taken = take(&freed, "bob.1", NOW_MS, &rules(None)).floor;
    assert_eq!(taken.epoch, NOW_MS + 2);
}

#[test]
fn a_lease_ends_at_its_millisecond_and_once() {
    let floor = held("alice.1", &rules(None));
    let early = expire(&floor, NOW_MS + LEASE_MS - 1, &rules(None));
    assert_eq!((early.answer, early.announce), (Answer::Unchanged, None));
    assert_eq!(early.floor, floor);

    let ended = expire(&floor, NOW_MS + LEASE_MS, &rules(None));
    assert_eq!(ended.answer, Answer::Freed);
    assert_eq!(ended.announce, announced(FloorCause::Expired, Some("alice.1")));
    let again = expire(&ended.floor, NOW_MS + LEASE_MS, &rules(None));
    assert_eq!((again.answer, again.announce), (Answer::Unchanged, None));
}

#[test]
fn past_the_lease_the_floor_is_anybodys_in_one_change() {
    let floor = held("alice.1", &rules(None));
    for next in ["bob.1", "alice.2", "alice.1"] {
        let outcome = take(&floor, next, NOW_MS + LEASE_MS, &rules(None));
        assert_eq!(outcome.answer, Answer::Granted);
        assert_eq!(outcome.announce, announced(FloorCause::Taken, Some("alice.1")));
        assert!(outcome.floor.epoch > floor.epoch);
    }
}

#[test]
fn a_lease_is_renewed_until_it_ends_and_not_from_then_on() {
    let floor = held("alice.1", &rules(None));
    let outcome = renew(&floor, "alice.1", NOW_MS + LEASE_MS - 1, &rules(None));
    assert_eq!((outcome.answer, &outcome.announce), (Answer::Renewed, &None));
    assert_eq!(holder(&outcome).lease_until_ms, NOW_MS + 2 * LEASE_MS - 1);

    let late = renew(&floor, "alice.1", NOW_MS + LEASE_MS, &rules(None));
    assert_eq!((late.answer, late.announce), (Answer::Unchanged, None));
    assert_eq!(late.floor, floor, "whoever asks for it ends it, and says so");
}

#[test]
fn a_connection_that_moves_takes_its_floor_along_and_the_old_gateway_has_no_say() {
    let rules = rules(None);
    let floor = held("alice.1", &rules);
    let there = through("g2", "alice.1");
    let moves = [Request::Move { owner: &there }, Request::Take { owner: &there, node: &node(), take_over: None }];
    for request in moves {
        let moved = transition(floor.clone(), request, NOW_MS + 1, &rules);
        assert_eq!(moved.announce, None);
        assert_eq!((moved.floor.epoch, &holder(&moved).owner), (floor.epoch, &there));
        let unchanged =
            [renew(&moved.floor, "alice.1", NOW_MS + 2, &rules), release(&moved.floor, "alice.1", None, NOW_MS + 2)];
        for late in unchanged {
            assert_eq!((late.answer, late.announce), (Answer::Unchanged, None));
        }
        let renewal = Request::Renew { owner: &there, epoch: floor.epoch, node: &node() };
        assert_eq!(transition(moved.floor.clone(), renewal, NOW_MS + 2, &rules).answer, Answer::Renewed);
        let end = Request::Release { owner: &there, epoch: None, cause: FloorCause::Released };
        let freed = transition(moved.floor, end, NOW_MS + 2, &rules);
        assert_eq!(freed.announce, Some(Announcement { cause: FloorCause::Released, previous: Some(there.clone()) }));
    }
}

#[test]
fn only_the_holders_connection_moves_it() {
    let floor = held("alice.1", &rules(None));
    let impostor = Owner { user: "bob".into(), ..through("g2", "alice.1") };
    for other in [through("g2", "alice.2"), through("g2", "bob.1"), impostor] {
        let moved = transition(floor.clone(), Request::Move { owner: &other }, NOW_MS + 1, &rules(None));
        assert_eq!((moved.answer, moved.announce, &moved.floor), (Answer::Unchanged, None, &floor));
        let taken = transition(
            floor.clone(),
            Request::Take { owner: &other, node: &node(), take_over: None },
            NOW_MS,
            &rules(None),
        );
        assert_eq!(taken.answer, Answer::Busy);
    }
}

#[test]
fn only_the_holder_renews_and_only_this_talk() {
    let floor = held("alice.1", &rules(None));
    assert_eq!(renew(&floor, "bob.1", NOW_MS, &rules(None)).answer, Answer::Unchanged);
    let last_talk = Request::Renew { owner: &owner("alice.1"), epoch: floor.epoch - 1, node: &node() };
    let outcome = transition(floor.clone(), last_talk, NOW_MS, &rules(None));
    assert_eq!((outcome.answer, outcome.floor), (Answer::Unchanged, floor));
}

#[test]
fn the_talk_limit_cannot_be_renewed_away() {
    let rules = rules(Some(LIMIT_MS));
    let mut floor = held("alice.1", &rules);
    for second in (5..60).step_by(5) {
        let outcome = renew(&floor, "alice.1", NOW_MS + second * 1_000, &rules);
        assert_eq!(outcome.answer, Answer::Renewed);
        floor = outcome.floor;
    }
    let end = NOW_MS + LIMIT_MS;
    assert_eq!(floor.holder.as_ref().expect("held").lease_until_ms, end);
    assert_eq!(renew(&floor, "alice.1", end, &rules).answer, Answer::Unchanged);
    let ended = expire(&floor, end, &rules);
    assert_eq!(ended.announce, announced(FloorCause::TalkLimit, Some("alice.1")));
}

#[test]
fn a_gateway_that_died_before_the_limit_is_an_expiry_however_late() {
    let rules = rules(Some(LIMIT_MS));
    let ended = expire(&held("alice.1", &rules), NOW_MS + 2 * LIMIT_MS, &rules);
    assert_eq!(ended.announce, announced(FloorCause::Expired, Some("alice.1")));
}

#[test]
fn a_clock_set_back_neither_lowers_epochs_nor_keeps_a_dead_holder() {
    let rules = rules(Some(LIMIT_MS));
    let floor = held("alice.1", &rules);
    let back = NOW_MS - HOUR_MS;

    let seen = transition(floor.clone(), Request::Look, back, &rules);
    assert_eq!((seen.answer, &seen.announce), (Answer::Unchanged, &None));
    assert_eq!(seen.floor.epoch, floor.epoch);
    assert_eq!(holder(&seen).taken_at_ms, back);
    assert_eq!(holder(&seen).lease_until_ms, back + LEASE_MS);
    assert_eq!(take(&seen.floor, "bob.1", back + 1, &rules).answer, Answer::Busy);

    let ended = expire(&seen.floor, back + LEASE_MS, &rules);
    assert_eq!(ended.answer, Answer::Freed);
    assert_eq!(ended.floor.epoch, floor.epoch + 1);
    let taken = take(&ended.floor, "bob.1", back + LEASE_MS, &rules);
    assert_eq!(taken.floor.epoch, floor.epoch + 2);
}

#[test]
fn the_ends_of_time_are_times() {
    let rules = FloorRules { lease: Duration::MAX, talk_limit: Some(Duration::MAX) };
    let floor = take(&Floor::default(), "alice.1", u64::MAX, &rules).floor;
    assert_eq!(expire(&floor, 0, &rules).answer, Answer::Unchanged);
    assert_eq!(take(&floor, "bob.1", 0, &rules).answer, Answer::Busy);
}
