//! Connections that come to another gateway, and what their old one may still do: nothing.

use voiceping_state::{Floor, FloorCause, Leaving, MemberAction, NodeId, State, Taken};

use crate::support::*;

pub(crate) async fn a_member_that_moves_is_not_announced_and_its_old_gateway_has_no_say<H: Harness>() {
    let harness: H = start().await;
    let (old, new) = (harness.gateway(), harness.gateway());
    old.join(&lobby(), &through("g1", "alice.1")).await.expect("no limit");
    let before = old.join(&lobby(), &through("g1", "bob.1")).await.expect("no limit");
    let mut bus = new.listen().await;
    let after = new.join(&lobby(), &through("g2", "alice.1")).await.expect("no limit");
    assert_eq!(after, before);

    assert_eq!(old.leave(&lobby(), &through("g1", "alice.1"), Leaving::Disconnected).await, Ok(2));
    assert_eq!(new.names().await, ["Alice", "Bob"]);
    assert_eq!(new.heard(&mut bus).await, []);
    assert_eq!(new.leave(&lobby(), &through("g2", "alice.1"), Leaving::Left).await, Ok(1));
    let events = new.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(visit(&events[0]), (MemberAction::Left, "alice.1", 1));
}

pub(crate) async fn a_floor_moves_with_a_join<H: Harness>() {
    let harness: H = start().await;
    let (old, new) = (harness.gateway(), harness.gateway());
    let (alice, moved) = (through("g1", "alice.1"), through("g2", "alice.1"));
    old.join(&lobby(), &alice).await.expect("no limit");
    let taken = old.granted("alice.1").await;
    let mut bus = new.listen().await;
    new.join(&lobby(), &moved).await.expect("no limit");
    let floor = new.look().await;
    assert_eq!(floor.epoch, taken.epoch);
    assert_eq!(floor.holder.expect("held").owner, moved);

    assert_eq!(old.renew_floor(&lobby(), &alice, taken.epoch, &node()).await, Ok(false));
    let released = old.release_floor(&lobby(), &alice, None, FloorCause::Silent).await.expect("available");
    assert_eq!((released.0.epoch, released.1), (taken.epoch, false));
    old.leave(&lobby(), &alice, Leaving::Disconnected).await.expect("available");
    assert_eq!(new.renew_floor(&lobby(), &moved, taken.epoch, &node()).await, Ok(true));
    assert_eq!(new.heard(&mut bus).await, [], "to the others nothing has happened");

    new.leave(&lobby(), &moved, Leaving::Left).await.expect("available");
    let events = new.heard(&mut bus).await;
    assert_eq!(events.len(), 2);
    assert_eq!(change(&events[0]).0, FloorCause::Left);
    assert_eq!(visit(&events[1]), (MemberAction::Left, "alice.1", 0));
}

pub(crate) async fn a_floor_moves_with_a_press<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    let moved = through("g2", "alice.1");
    let Ok(Taken::Granted { floor, renewed: true }) = state.take_floor(&lobby(), &moved, &node(), None).await else {
        panic!("the talk goes on");
    };
    assert_eq!(floor.epoch, taken.epoch);
    assert_eq!(floor.holder.as_ref().expect("held").owner, moved);
    assert_eq!(state.release("alice.1", Some(taken.epoch)).await, (floor, false), "through the old one");
    assert_eq!(state.heard(&mut bus).await, []);
    let freed = state.release_floor(&lobby(), &moved, Some(taken.epoch), FloorCause::Released).await;
    assert!(freed.expect("available").1);
}

pub(crate) async fn a_renewal_says_where_the_gate_is<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let node_of = |floor: &Floor| floor.holder.as_ref().expect("held").node.clone();
    assert_eq!(node_of(&taken), node());
    let elsewhere = NodeId::from("n2");
    let stale = state.renew_floor(&lobby(), &owner("alice.1"), taken.epoch - 1, &elsewhere).await;
    assert_eq!((stale, node_of(&state.look().await)), (Ok(false), node()));
    let renewed = state.renew_floor(&lobby(), &owner("alice.1"), taken.epoch, &elsewhere).await;
    assert_eq!((renewed, node_of(&state.look().await)), (Ok(true), elsewhere.clone()));
    let Taken::Busy(floor) = state.take("bob.1").await else { panic!("it is held") };
    assert_eq!(node_of(&floor), elsewhere, "who would like to have it is told");
}

/// As it is when the old gateway has died, and the end of its members was announced already.
pub(crate) async fn a_floor_outlives_a_move_without_a_membership<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let moved = through("g2", "alice.1");
    assert_eq!(state.join(&lobby(), &moved).await.expect("no limit").users, 1);
    assert_eq!(state.renew_floor(&lobby(), &moved, taken.epoch, &node()).await, Ok(true));
    assert!(!state.renew("alice.1", taken.epoch).await);
}

pub(crate) async fn a_connection_may_move_back<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    for gateway in ["g1", "g2", "g1", "g3", "g1"] {
        let roster = state.join(&lobby(), &through(gateway, "alice.1")).await;
        assert_eq!(roster.expect("no limit").users, 1);
    }
    for (gateway, users) in [("g3", 1), ("g2", 1), ("g1", 0), ("g1", 0)] {
        assert_eq!(state.leave(&lobby(), &through(gateway, "alice.1"), Leaving::Left).await, Ok(users));
    }
}
