//! Announcements: to whom, once, in which order.

use voiceping_state::{ChannelId, Event, Floor, State};

use crate::support::*;

pub(crate) async fn only_watched_channels_are_heard<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let stage = ChannelId::from("stage");
    let mut bus = state.listen().await;
    state.take_floor(&stage, &owner("alice.1"), &node(), None).await.expect("available");
    state.join(&stage, &owner("alice.1")).await.expect("no limit");
    assert_eq!(state.heard(&mut bus).await, []);

    bus.watch(&stage).await.expect("available");
    state.join(&stage, &owner("bob.1")).await.expect("no limit");
    assert_eq!(state.heard(&mut bus).await.len(), 1);
}

pub(crate) async fn watching_twice_is_watching_once<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    bus.watch(&lobby()).await.expect("available");
    state.granted("alice.1").await;
    assert_eq!(state.heard(&mut bus).await.len(), 1);

    bus.unwatch(&lobby()).await.expect("available");
    bus.watch(&ChannelId::from("stage")).await.expect("available");
    state.release("alice.1", None).await;
    let heard = state.heard_on(&ChannelId::from("stage"), &mut bus).await;
    assert_eq!(heard, [], "one unwatch undoes both");
}

pub(crate) async fn nothing_is_heard_after_unwatching<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    state.granted("alice.1").await;
    bus.unwatch(&lobby()).await.expect("available");
    bus.unwatch(&lobby()).await.expect("watching nothing is fine");
    state.release("alice.1", None).await;

    bus.watch(&lobby()).await.expect("available");
    let floor = state.granted("bob.1").await;
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(change(&events[0]).1, floor.epoch);
}

pub(crate) async fn every_gateway_hears_every_change_once_in_one_order<H: Harness>() {
    let harness: H = start().await;
    let gateways = [harness.gateway(), harness.gateway(), harness.gateway()];
    let mut buses = Vec::new();
    for gateway in &gateways {
        buses.push(gateway.listen().await);
    }
    for (n, gateway) in gateways.iter().enumerate() {
        let connection = format!("user{n}.1");
        gateway.enter(&connection).await.expect("no limit");
        gateway.granted(&connection).await;
        gateway.release(&connection, None).await;
    }
    let heard = gateways[0].heard(&mut buses[0]).await;
    assert_eq!(heard.len(), 9);
    for bus in &mut buses[1..] {
        for event in &heard {
            assert_eq!(next(bus).await, *event);
        }
    }
}

pub(crate) async fn a_snapshot_after_watching_leaves_no_gap<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let talking = {
        let state = harness.gateway();
        tokio::spawn(async move {
            for _ in 0..500 {
                state.granted("alice.1").await;
                state.release("alice.1", None).await;
                tokio::task::yield_now().await;
            }
        })
    };
    // Comes in somewhere among the changes, and must end where they end.
    tokio::task::yield_now().await;
    let mut bus = state.listen().await;
    let mut known: Floor = state.look().await;
    talking.await.expect("no panic");
    for event in state.heard(&mut bus).await {
        let Event::Floor(change) = event else {
            panic!("nobody joined: {event:?}");
        };
        if change.floor.epoch > known.epoch {
            let previous = known.holder.as_ref().map(|holder| &holder.owner);
            assert_eq!(change.previous.as_ref(), previous, "nothing between snapshot and event");
            known = change.floor;
        }
    }
    assert_eq!(known, state.look().await);
}

pub(crate) async fn giving_up_on_next_loses_nothing<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.listen().await;
    let talking = {
        let state = harness.gateway();
        tokio::spawn(async move {
            let mut epochs = Vec::new();
            for _ in 0..200 {
                epochs.push(state.granted("alice.1").await.epoch);
                epochs.push(state.release("alice.1", None).await.0.epoch);
                tokio::task::yield_now().await;
            }
            epochs
        })
    };
    let mut heard = Vec::new();
    while heard.len() < 400 {
        // As a select does whose other branch is ready time and again.
        tokio::select! {
            biased;
            event = next(&mut bus) => heard.push(change(&event).1),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(heard, talking.await.expect("no panic"));
}
