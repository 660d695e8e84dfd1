//! The passing of time, and of time that goes backwards.

use std::time::Duration;

use voiceping_state::{FloorCause, Limits, State, Taken};

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn an_expiry_is_announced_once_however_many_ask<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;

    harness.advance(LEASE - Duration::from_millis(1)).await;
    assert_eq!(state.expire().await, taken, "not yet");
    harness.advance(Duration::from_millis(1)).await;
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let gateway = harness.gateway();
            tokio::spawn(async move { gateway.expire_floor(&lobby()).await })
        })
        .collect();
    for answer in asked {
        let floor = answer.await.expect("no panic").expect("available");
        assert_eq!(floor.holder, None);
        assert!(floor.epoch > taken.epoch);
    }
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    let free = state.look().await;
    assert_eq!(change(&events[0]), (FloorCause::Expired, free.epoch, Some("alice.1"), None));
    assert!(!state.renew("alice.1", taken.epoch).await);
}

pub(crate) async fn a_press_past_the_lease_is_one_change<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut holder = "alice.1";
    state.granted(holder).await;
    let mut bus = state.listen().await;
    for next in ["bob.1", "bob.2", "bob.2"] {
        harness.advance(LEASE).await;
        let floor = state.granted(next).await;
        let events = state.heard(&mut bus).await;
        assert_eq!(events.len(), 1);
        let expected = (FloorCause::Taken, floor.epoch, Some(holder), Some(next));
        assert_eq!(change(&events[0]), expected);
        holder = next;
    }
}

pub(crate) async fn a_long_talk_is_renewed<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    for _ in 0..100 {
        harness.advance(LEASE / 2).await;
        assert!(state.renew("alice.1", taken.epoch).await);
        assert_eq!(state.expire().await.epoch, taken.epoch);
        assert!(matches!(state.take("bob.1").await, Taken::Busy(_)));
    }
    assert_eq!(state.heard(&mut bus).await, []);
    harness.advance(LEASE).await;
    assert_eq!(state.expire().await.holder, None, "no renewals, no floor");
}

pub(crate) async fn only_the_holder_renews_its_own_talk<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let first = state.granted("alice.1").await;
    assert!(!state.renew("bob.1", first.epoch).await);
    assert!(!state.renew("alice.2", first.epoch).await);
    state.release("alice.1", None).await;
    assert!(!state.renew("alice.1", first.epoch).await);
    let second = state.granted("alice.1").await;
    assert!(!state.renew("alice.1", first.epoch).await, "a late renewal of the talk before");
    assert_eq!(state.look().await, second);
}

/// As a gateway asks that was paused: the media node has closed the gate by then.
pub(crate) async fn a_lease_that_ended_is_not_renewed_though_nobody_has_noticed<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let mut bus = state.listen().await;
    harness.advance(LEASE - Duration::from_millis(1)).await;
    assert!(state.renew("alice.1", taken.epoch).await, "a millisecond is enough");
    harness.advance(LEASE).await;
    assert!(!state.renew("alice.1", taken.epoch).await);
    assert_eq!(state.look().await.epoch, taken.epoch);
    assert_eq!(state.heard(&mut bus).await, []);
    assert_eq!(state.expire().await.holder, None);
    assert_eq!(change(&state.heard(&mut bus).await[0]).0, FloorCause::Expired);
}

pub(crate) async fn a_talk_limit_ends_a_talk_that_is_renewed<H: Harness>() {
    let harness = H::start(rules(Some(TALK_LIMIT)), Limits::default()).await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    let started_ms = taken.holder.as_ref().expect("held").taken_at_ms;
    let mut bus = state.listen().await;
    let step = LEASE / 2;
    let steps = TALK_LIMIT.as_millis() / step.as_millis();
    for _ in 1..steps {
        harness.advance(step).await;
        assert!(state.renew("alice.1", taken.epoch).await);
        assert!(matches!(state.take("alice.1").await, Taken::Granted { renewed: true, .. }));
    }
    let limit_ms = u64::try_from(TALK_LIMIT.as_millis()).expect("small");
    let until_ms = state.look().await.holder.expect("held").lease_until_ms;
    assert_eq!(until_ms, started_ms + limit_ms);

    harness.advance(step).await;
    assert!(!state.renew("alice.1", taken.epoch).await);
    let free = state.expire().await;
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(change(&events[0]), (FloorCause::TalkLimit, free.epoch, Some("alice.1"), None));
}

pub(crate) async fn a_clock_set_back_keeps_no_dead_holder<H: Harness>() {
    let harness = H::start(rules(Some(TALK_LIMIT)), Limits::default()).await;
    let state = harness.gateway();
    let taken = state.granted("alice.1").await;
    harness.set_back(HOUR).await;

    let seen = state.look().await;
    assert_eq!(seen.epoch, taken.epoch);
    let end_ms = seen.holder.as_ref().expect("still held").lease_until_ms;
    assert_eq!(end_ms, harness.now_ms() + u64::try_from(LEASE.as_millis()).expect("small"));
    assert_eq!(state.take("bob.1").await, Taken::Busy(seen));
    assert!(state.renew("alice.1", taken.epoch).await, "the talk itself goes on");

    harness.advance(LEASE).await;
    let free = state.expire().await;
    assert!(free.holder.is_none() && free.epoch > taken.epoch);
    state.granted("bob.1").await;
}

pub(crate) async fn a_clock_set_back_lowers_no_epoch<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    let mut last = 0;
    for _ in 0..5 {
        let taken = state.granted("alice.1").await;
        assert!(taken.epoch > last);
        harness.set_back(HOUR).await;
        let (free, freed) = state.release("alice.1", Some(taken.epoch)).await;
        assert!(freed && free.epoch > taken.epoch);
        // Everybody is gone, and the channel comes back later.
        let later = state.look().await;
        assert!(later.epoch >= free.epoch && later.holder.is_none());
        last = later.epoch;
    }
}
