//! Pressing and releasing.

use voiceping_state::{ChannelId, FloorCause, State, Taken};

use crate::support::*;

pub(crate) async fn a_press_is_granted_and_announced<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    assert_eq!(state.look().await.holder, None);

    let floor = state.granted("alice.1").await;
    let holder = floor.holder.as_ref().expect("held");
    assert_eq!(holder.owner, owner("alice.1"));
    assert!(floor.epoch >= holder.taken_at_ms);
    assert!(holder.lease_until_ms > holder.taken_at_ms);
    assert_eq!(state.look().await, floor);

    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    let expected = (FloorCause::Taken, floor.epoch, None, Some("alice.1"));
    assert_eq!(change(&events[0]), expected);
}

pub(crate) async fn asking_again_is_the_same_talk<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let first = state.granted("alice.1").await;
    let mut bus = state.listen().await;

    harness.advance(LEASE / 2).await;
    let Taken::Granted { floor, renewed: true } = state.take("alice.1").await else {
        panic!("the talk goes on");
    };
    assert_eq!(floor.epoch, first.epoch);
    let lease_until = |floor: &voiceping_state::Floor| floor.holder.as_ref().expect("held").lease_until_ms;
    assert!(lease_until(&floor) > lease_until(&first));
    assert_eq!(state.heard(&mut bus).await, []);
}

pub(crate) async fn a_second_presser_is_told_who_speaks<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let floor = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    for other in ["bob.1", "alice.2"] {
        assert_eq!(harness.gateway().take(other).await, Taken::Busy(floor.clone()));
    }
    assert_eq!(state.heard(&mut bus).await, []);
}

pub(crate) async fn releasing_what_is_not_yours_changes_nothing<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let floor = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    for (other, epoch) in
        [("bob.1", None), ("alice.2", None), ("bob.1", Some(floor.epoch)), ("alice.1", Some(floor.epoch - 1))]
    {
        assert_eq!(state.release(other, epoch).await, (floor.clone(), false));
    }
    assert_eq!(state.heard(&mut bus).await, []);
}

pub(crate) async fn a_release_is_announced_once_with_its_cause<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    for cause in [FloorCause::Released, FloorCause::Silent, FloorCause::NodeFailed] {
        let taken = state.granted("alice.1").await;
        let (lobby, alice) = (lobby(), owner("alice.1"));
        let release = || state.release_floor(&lobby, &alice, Some(taken.epoch), cause);
        let (free, freed) = release().await.expect("available");
        assert!(freed);
        assert!(free.holder.is_none() && free.epoch > taken.epoch);
        assert_eq!(release().await, Ok((free.clone(), false)), "a lost answer is asked for again");

        let events = state.heard(&mut bus).await;
        assert_eq!(events.len(), 2);
        assert_eq!(change(&events[1]), (cause, free.epoch, Some("alice.1"), None));
    }
}

pub(crate) async fn another_device_takes_over_only_the_talk_that_it_names<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let first = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    let take_over = async |connection: &str, epoch| {
        let owner = owner(connection);
        state.take_floor(&lobby(), &owner, &node(), Some(epoch)).await.expect("available")
    };
    assert_eq!(take_over("bob.1", first.epoch).await, Taken::Busy(first.clone()));
    assert_eq!(take_over("alice.2", first.epoch - 1).await, Taken::Busy(first.clone()));

    let Taken::Granted { floor, renewed: false } = take_over("alice.2", first.epoch).await else {
        panic!("the same user may");
    };
    assert!(floor.epoch > first.epoch);
    assert_eq!(state.release("alice.1", None).await, (floor.clone(), false));

    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    let expected = (FloorCause::Taken, floor.epoch, Some("alice.1"), Some("alice.2"));
    assert_eq!(change(&events[0]), expected);
}

pub(crate) async fn of_many_who_press_at_once_one_speaks<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    let presses: Vec<_> = (0..50)
        .map(|n| {
            let gateway = harness.gateway();
            tokio::spawn(
                async move { gateway.take_floor(&lobby(), &owner(&format!("user{n}.1")), &node(), None).await },
            )
        })
        .collect();
    let mut granted = Vec::new();
    let mut told = Vec::new();
    for press in presses {
        match press.await.expect("no panic").expect("available") {
            Taken::Granted { floor, renewed: false } => granted.push(floor),
            Taken::Busy(floor) => told.push(floor),
            other => panic!("nobody held it: {other:?}"),
        }
    }
    assert_eq!(granted.len(), 1);
    assert!(told.iter().all(|floor| *floor == granted[0]));
    assert_eq!(state.heard(&mut bus).await.len(), 1);
}

pub(crate) async fn channels_do_not_disturb_each_other<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let lobby = state.granted("alice.1").await;
    let stage = ChannelId::from("stage");
    for speaker in ["alice.1", "bob.1"] {
        let taken = state.take_floor(&stage, &owner(speaker), &node(), None).await.expect("available");
        assert!(matches!(taken, Taken::Granted { renewed: false, .. }));
        let (_, freed) =
            state.release_floor(&stage, &owner(speaker), None, FloorCause::Released).await.expect("available");
        assert!(freed);
    }
    assert_eq!(state.look().await, lobby);
}
