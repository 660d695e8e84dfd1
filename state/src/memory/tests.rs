//! What only this backend does: it forgets idle channels, and its queues are bounded. The contract itself is judged by
//! the suite in `tests/state`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::event::Event;
use crate::queue::CAPACITY;

fn memory() -> (Memory, Arc<AtomicU64>) {
    let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
    let rules = FloorRules { lease: Duration::from_secs(10), talk_limit: None };
    let clock = Arc::clone(&now_ms);
    let memory = Memory::with_clock(rules, Limits::default(), move || clock.load(Ordering::Relaxed));
    (memory, now_ms)
}

fn node() -> NodeId {
    "n1".into()
}

fn owner(user: &str) -> Owner {
    Owner { user: user.into(), user_name: user.into(), connection: format!("{user}.1").into(), gateway: "g1".into() }
}

fn channels(memory: &Memory) -> usize {
    memory.shared.channels.lock().expect("not poisoned").by_id.len()
}

#[tokio::test]
async fn forgets_channels_that_nobody_uses() {
    let (memory, _) = memory();
    let (lobby, alice) = (ChannelId::from("lobby"), owner("alice"));
    memory.floor(&lobby).await.expect("in memory");
    assert_eq!(channels(&memory), 0, "looking makes no channel");

    memory.join(&lobby, &alice).await.expect("no limit");
    memory.take_floor(&lobby, &alice, &node(), None).await.expect("in memory");
    let mut subscription = memory.subscribe();
    subscription.watch(&lobby).await.expect("in memory");
    memory.leave(&lobby, &alice, Leaving::Left).await.expect("in memory");
    assert_eq!(channels(&memory), 1, "still watched");
    drop(subscription);
    assert_eq!(channels(&memory), 0);
}

#[tokio::test]
async fn a_forgotten_channel_comes_back_with_higher_epochs_whatever_the_clock() {
    let (memory, now_ms) = memory();
    let (lobby, alice) = (ChannelId::from("lobby"), owner("alice"));
    let mut last = 0;
    for step in [0, 0, 1_000, -3_600_000, 0] {
        now_ms.store(now_ms.load(Ordering::Relaxed).saturating_add_signed(step), Ordering::Relaxed);
        let Ok(Taken::Granted { floor, .. }) = memory.take_floor(&lobby, &alice, &node(), None).await else {
            panic!("a free floor is granted");
        };
        assert!(floor.epoch > last);
        last = floor.epoch;
        memory.leave(&lobby, &alice, Leaving::Disconnected).await.expect("in memory");
        assert_eq!(channels(&memory), 0);
        let seen = memory.floor(&lobby).await.expect("in memory");
        assert!(seen.epoch > last, "also to a reader");
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_to_read_snapshots() {
    let (memory, _) = memory();
    let (lobby, alice) = (ChannelId::from("lobby"), owner("alice"));
    let mut slow = memory.subscribe();
    slow.watch(&lobby).await.expect("in memory");
    let mut quick = memory.subscribe();
    quick.watch(&lobby).await.expect("in memory");

    for _ in 0..CAPACITY / 2 {
        memory.join(&lobby, &alice).await.expect("no limit");
        memory.leave(&lobby, &alice, Leaving::Left).await.expect("in memory");
        for _ in 0..2 {
            assert!(matches!(quick.next().await, Some(Event::Member(_))));
        }
    }
    memory.take_floor(&lobby, &alice, &node(), None).await.expect("in memory");
    memory.join(&lobby, &alice).await.expect("no limit");

    assert_eq!(slow.next().await, Some(Event::Resync), "for the event that did not fit");
    assert!(matches!(slow.next().await, Some(Event::Member(_))), "events go on after it");
    assert!(matches!(quick.next().await, Some(Event::Floor(_))), "others lost nothing");
}

#[tokio::test]
async fn unwatching_drops_what_is_queued() {
    let (memory, _) = memory();
    let (lobby, stage, alice) = (ChannelId::from("lobby"), ChannelId::from("stage"), owner("alice"));
    let mut subscription = memory.subscribe();
    for channel in [&lobby, &stage] {
        subscription.watch(channel).await.expect("in memory");
        memory.join(channel, &alice).await.expect("no limit");
    }
    subscription.unwatch(&lobby).await.expect("in memory");
    let Some(Event::Member(change)) = subscription.next().await else {
        panic!("a member event is queued");
    };
    assert_eq!(change.channel, stage);
}

#[tokio::test]
async fn giving_up_on_next_loses_nothing() {
    let (memory, _) = memory();
    let (lobby, alice) = (ChannelId::from("lobby"), owner("alice"));
    let mut subscription = memory.subscribe();
    subscription.watch(&lobby).await.expect("in memory");
    for _ in 0..100 {
        // Polled once while nothing is there, then dropped, as a select does.
        tokio::select! {
            biased;
            event = subscription.next() => panic!("nothing has happened: {event:?}"),
            () = std::future::ready(()) => {}
        }
        memory.join(&lobby, &alice).await.expect("no limit");
        assert!(matches!(subscription.next().await, Some(Event::Member(_))));
        memory.leave(&lobby, &alice, Leaving::Left).await.expect("in memory");
        assert!(matches!(subscription.next().await, Some(Event::Member(_))));
    }
}
