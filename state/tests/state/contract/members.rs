//! Presence: users counted once, whatever their connections.

use voiceping_state::{Event, FloorCause, JoinError, Leaving, Limits, MemberAction, Roster, State};

use crate::support::*;

pub(crate) async fn a_user_is_counted_and_announced_once<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    assert_eq!(state.enter("alice.1").await, Ok(1));
    assert_eq!(harness.gateway().enter("alice.2").await, Ok(1));
    assert_eq!(state.enter("bob.1").await, Ok(2));
    assert_eq!(state.names().await, ["Alice", "Bob"]);
    assert_eq!(state.exit("alice.1", Leaving::Left).await, 2);
    assert_eq!(state.exit("alice.2", Leaving::Disconnected).await, 1);
    assert_eq!(state.exit("bob.1", Leaving::Left).await, 0);

    let events = state.heard(&mut bus).await;
    let visits: Vec<_> = events.iter().map(visit).collect();
    let expected = [
        (MemberAction::Joined, "alice.1", 1),
        (MemberAction::Joined, "bob.1", 2),
        (MemberAction::Disconnected, "alice.2", 1),
        (MemberAction::Left, "bob.1", 0),
    ];
    assert_eq!(visits, expected);
}

pub(crate) async fn twenty_sockets_close_in_any_order<H: Harness>() {
    // Steps through the sockets that meet each of the twenty once.
    for stride in [1, 3, 7, 19] {
        let harness: H = start().await;
        let state = harness.gateway();
        state.enter("bob.1").await.expect("no limit");
        for n in 0..20 {
            assert_eq!(state.enter(&format!("alice.{n}")).await, Ok(2));
        }
        let mut bus = state.listen().await;
        for n in 0..20 {
            assert_eq!(state.names().await, ["Alice", "Bob"]);
            let left = state.exit(&format!("alice.{}", n * stride % 20), Leaving::Disconnected).await;
            assert_eq!(left, if n < 19 { 2 } else { 1 });
        }
        let events = state.heard(&mut bus).await;
        assert_eq!(events.len(), 1);
        let last = format!("alice.{}", 19 * stride % 20);
        assert_eq!(visit(&events[0]), (MemberAction::Disconnected, last.as_str(), 1));
    }
}

/// A gateway hears of a join from its answer and of others from the bus: the version tells which came first.
pub(crate) async fn a_join_is_ordered_among_the_announced_changes<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    let join = async |connection: &str| state.join(&lobby(), &owner(connection)).await.expect("no limit");
    let answers = [join("alice.1").await, join("alice.2").await, join("bob.1").await, join("alice.1").await];
    state.exit("alice.1", Leaving::Left).await;
    state.exit("bob.1", Leaving::Left).await;
    let again = join("bob.1").await;

    let events = state.heard(&mut bus).await;
    let rosters: Vec<Roster> = events
        .iter()
        .map(|event| match event {
            Event::Member(change) => change.roster,
            event => panic!("not a change of the members: {event:?}"),
        })
        .collect();
    let [alice, bob, bob_left, bob_again] = rosters[..] else { panic!("four changes: {rosters:?}") };
    assert!(rosters.windows(2).all(|pair| pair[0].version < pair[1].version), "{rosters:?}");
    assert_eq!((bob_left.users, again), (1, bob_again));
    // Another device and a repeated join change nothing, and are answered with what is.
    assert_eq!(answers, [alice, alice, bob, bob]);
}

pub(crate) async fn repeating_a_join_or_a_leave_changes_nothing<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    state.enter("alice.1").await.expect("no limit");
    state.enter("bob.1").await.expect("no limit");
    let mut bus = state.listen().await;
    assert_eq!(state.enter("alice.1").await, Ok(2));
    assert_eq!(state.exit("carol.1", Leaving::Left).await, 2, "never joined");
    assert_eq!(state.heard(&mut bus).await, []);

    assert_eq!(state.exit("alice.1", Leaving::Left).await, 1);
    assert_eq!(state.exit("alice.1", Leaving::Disconnected).await, 1);
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(visit(&events[0]), (MemberAction::Left, "alice.1", 1));
}

pub(crate) async fn members_are_listed_by_name<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    for connection in ["zoe.1", "alice.2", "mona.1", "alice.1"] {
        state.enter(connection).await.expect("no limit");
    }
    let members = state.members(&lobby()).await.expect("available");
    let expected = [("alice", "Alice"), ("mona", "Mona"), ("zoe", "Zoe")];
    assert_eq!(members, expected.map(|(id, name)| (id.into(), name.to_owned())));
}

pub(crate) async fn a_full_channel_refuses_users_but_not_devices<H: Harness>() {
    let limits = Limits { users_per_channel: Some(2) };
    let harness = H::start(rules(None), limits).await;
    let state = harness.gateway();
    state.enter("alice.1").await.expect("room");
    state.enter("bob.1").await.expect("room");
    assert_eq!(state.enter("carol.1").await, Err(JoinError::Full(2)));
    assert_eq!(state.enter("alice.2").await, Ok(2));
    assert_eq!(state.enter("alice.1").await, Ok(2), "a repeated join is no newcomer");
    assert_eq!(state.names().await, ["Alice", "Bob"]);

    state.exit("alice.1", Leaving::Left).await;
    assert_eq!(state.enter("carol.1").await, Err(JoinError::Full(2)), "still on one device");
    state.exit("alice.2", Leaving::Left).await;
    assert_eq!(state.enter("carol.1").await, Ok(2));
}

pub(crate) async fn leaving_frees_the_floor_first<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    state.enter("alice.1").await.expect("no limit");
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    state.exit("alice.1", Leaving::Disconnected).await;

    let free = state.look().await;
    assert!(free.holder.is_none() && free.epoch > taken.epoch);
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 2);
    assert_eq!(change(&events[0]), (FloorCause::Left, free.epoch, Some("alice.1"), None));
    assert_eq!(visit(&events[1]), (MemberAction::Disconnected, "alice.1", 0));
}

pub(crate) async fn another_device_leaving_leaves_the_floor_alone<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    for connection in ["alice.1", "alice.2", "bob.1"] {
        state.enter(connection).await.expect("no limit");
    }
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    state.exit("alice.2", Leaving::Disconnected).await;
    state.exit("bob.1", Leaving::Left).await;
    assert_eq!(state.look().await, taken);
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(visit(&events[0]), (MemberAction::Left, "bob.1", 1));
}

pub(crate) async fn a_leave_frees_the_floor_of_who_was_no_member<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    state.granted("alice.1").await;
    assert_eq!(state.exit("alice.1", Leaving::Disconnected).await, 0);
    assert_eq!(state.look().await.holder, None);
}
