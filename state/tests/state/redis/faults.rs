//! Servers that stop, hang and fail over, in the middle of a talk. Each test has servers of its own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use voiceping_state::{
    ChannelId, Event, Floor, FloorCause, FloorRules, JoinError, Limits, Redis, Servers, State, StateError,
    Subscription, Taken,
};

use super::servers::{self, NOTHING_KEPT, Server};
use super::{Cluster, Kind, by_sentinels, config};
use crate::support::*;

/// The longest that a call may take while the servers are away: its own time and that of the attempt to connect, on a
/// busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

fn state(servers: Servers) -> Redis {
    let mut config = config(servers);
    config.timeout = Duration::from_millis(500);
    config.presence_lease = Duration::from_secs(3);
    // No lease ends here, however busy the machine.
    let rules = FloorRules { lease: Duration::from_secs(600), talk_limit: None };
    Redis::new(&config, rules, Limits::default()).expect("good settings")
}

/// Presses until the servers answer. Every answer on the way is an error, and comes at once.
async fn press_until_granted(state: &Redis, channel: &ChannelId, connection: &str) -> Floor {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let asked = Instant::now();
        let taken = state.take_floor(channel, &owner(connection), &node(), None).await;
        assert!(asked.elapsed() < AT_ONCE, "no call hangs");
        match taken {
            Ok(Taken::Granted { floor, .. }) => return floor,
            Ok(Taken::Busy(floor)) => panic!("nobody else presses: {floor:?}"),
            Err(StateError::Unavailable(_)) => assert!(Instant::now() < patience, "it comes back by itself"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Skips what is heard before the call to read snapshots.
async fn until_resync(bus: &mut Subscription) {
    while next(bus).await != Event::Resync {}
}

/// What the servers forgot, the gateway tells them again.
async fn until_named(state: &Redis, expected: &[&str]) {
    let patience = Instant::now() + Duration::from_secs(60);
    while state.names().await != expected {
        assert!(Instant::now() < patience, "presence returns to the truth: {:?}", state.names().await);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_empty() {
    let server = Server::start(&NOTHING_KEPT);
    let state = state(Servers::Standalone(server.url()));
    state.enter("alice.1").await.expect("no limit");
    let mut bus = state.listen().await;
    let before = state.granted("alice.1").await;
    let stage = ChannelId::from("stage");
    let unwatched = press_until_granted(&state, &stage, "alice.1").await;

    server.kill();
    for _ in 0..20 {
        let asked = Instant::now();
        let error = state.take_floor(&lobby(), &owner("bob.1"), &node(), None).await.expect_err("nobody is there");
        assert!(matches!(error, StateError::Unavailable(_)));
        let joined = state.enter("bob.1").await;
        assert!(matches!(joined, Err(JoinError::State(StateError::Unavailable(_)))));
        assert!(asked.elapsed() < AT_ONCE);
    }

    let _server = server.start_again();
    let after = press_until_granted(&state, &stage, "alice.1").await;
    assert!(after.epoch > unwatched.epoch, "although nobody here knows of the talk before");
    let after = press_until_granted(&state, &lobby(), "alice.1").await;
    assert_eq!(after.epoch, before.epoch, "this talk goes on: whoever watches has told the server");
    until_resync(&mut bus).await;
    until_named(&state, &["Alice"]).await;
    state.release("alice.1", None).await;
    while !matches!(next(&mut bus).await, Event::Floor(change) if change.floor.holder.is_none()) {}
}

/// One server that loses writes as a failover does, and two gateways: one that has heard of them, and one that has not.
struct Forgetful {
    server: Server,
    floor: String,
    knows: Redis,
    bus: Subscription,
    other: Redis,
}

impl Forgetful {
    async fn start() -> Self {
        let server = Server::start(&NOTHING_KEPT);
        let mut config = config(Servers::Standalone(server.url()));
        config.presence_lease = Duration::from_secs(600);
        let open = || Redis::new(&config, rules(None), Limits::default()).expect("good settings");
        let (knows, other) = (open(), open());
        let bus = knows.listen().await;
        Self { server, floor: format!("{}:{{lobby}}:floor", config.prefix), knows, bus, other }
    }

    fn keep(&self) {
        let _: u32 = self.server.ask(&format!("COPY {0} {{lobby}}kept REPLACE", self.floor));
    }

    fn forget(&self) {
        let _: u32 = self.server.ask(&format!("DEL {0}", self.floor));
        let _: u32 = self.server.ask(&format!("COPY {{lobby}}kept {0} REPLACE", self.floor));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_lost_is_told_again() {
    let mut it = Forgetful::start().await;
    let bob = it.knows.granted("bob.1").await;
    let (free, _) = it.knows.release("bob.1", None).await;
    assert_eq!(it.knows.heard(&mut it.bus).await.len(), 2);
    it.keep();
    // Granted by another gateway, and heard of.
    let taken = it.other.granted("alice.1").await;
    assert_eq!(change(&next(&mut it.bus).await).1, taken.epoch);
    it.forget();
    assert_eq!(it.other.look().await, free, "to who has not heard of it, there is nothing missing");

    let floor = it.knows.look().await;
    assert_eq!((floor.epoch, holder_of(&floor)), (taken.epoch, holder_of(&taken)));
    assert!(it.other.renew("alice.1", taken.epoch).await, "the talk goes on");
    assert!(matches!(it.other.take("bob.1").await, Taken::Busy(_)));
    assert!(!it.other.renew("bob.1", bob.epoch).await);
    let events = it.knows.heard(&mut it.bus).await;
    let expected = (FloorCause::Taken, taken.epoch, None, Some("alice.1"));
    assert_eq!(events.iter().map(change).collect::<Vec<_>>(), [expected], "for those who had not heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_talk_that_was_lost_is_told_again() {
    let it = Forgetful::start().await;
    it.knows.granted("alice.1").await;
    it.keep();
    let (free, _) = it.knows.release("alice.1", None).await;
    it.forget();
    assert!(matches!(it.other.take("bob.1").await, Taken::Busy(_)), "who has not heard of it");
    // Any question tells it, also one that changes nothing.
    assert_eq!(it.knows.expire().await, free);
    assert!(it.other.granted("bob.1").await.epoch > free.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs() {
    let server = Server::start(&NOTHING_KEPT);
    let state = state(Servers::Standalone(server.url()));
    let before = state.granted("alice.1").await;
    server.signal("-STOP");
    for _ in 0..5 {
        let asked = Instant::now();
        let looked = state.floor(&lobby()).await;
        assert!(matches!(looked, Err(StateError::Unavailable(_))));
        assert!(asked.elapsed() < AT_ONCE);
    }
    server.signal("-CONT");
    let after = press_until_granted(&state, &lobby(), "alice.1").await;
    assert_eq!(after.epoch, before.epoch, "the talk has gone on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_sharded_pub_sub() {
    let hidden = ["--rename-command", "SPUBLISH", "", "--rename-command", "SSUBSCRIBE", ""];
    let server = Server::start(&[NOTHING_KEPT.as_slice(), &hidden].concat());
    let state = state(Servers::Standalone(server.url()));
    let mut bus = state.listen().await;
    let taken = state.granted("alice.1").await;
    let events = state.heard(&mut bus).await;
    assert_eq!(events.len(), 1);
    assert_eq!(change(&events[0]).1, taken.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_another_master() {
    let watched = tokio::task::spawn_blocking(servers::sentinels).await.expect("no panic");
    let state = state(by_sentinels(&watched));
    state.enter("alice.1").await.expect("no limit");
    let mut bus = state.listen().await;
    let before = state.granted("alice.1").await;

    watched.servers[0].kill();
    let after = press_until_granted(&state, &lobby(), "alice.1").await;
    assert!(after.epoch >= before.epoch);
    until_resync(&mut bus).await;
    until_named(&state, &["Alice"]).await;
    state.release("alice.1", None).await;
    while !matches!(next(&mut bus).await, Event::Floor(change) if change.floor.holder.is_none()) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_master() {
    let nodes = tokio::task::spawn_blocking(|| servers::cluster_with(&["--cluster-node-timeout", "1000"]))
        .await
        .expect("no panic");
    let state = state(Servers::Cluster(nodes.iter().map(Server::url).collect()));
    // Some on each shard.
    let channels: Vec<_> = (0..12).map(|n| ChannelId::from(format!("channel-{n}"))).collect();
    let mut bus = state.subscribe();
    let mut before = Vec::new();
    for channel in &channels {
        state.join(channel, &owner("alice.1")).await.expect("no limit");
        bus.watch(channel).await.expect("available");
        before.push(press_until_granted(&state, channel, "alice.1").await);
    }
    nodes[0].kill();
    for (channel, before) in channels.iter().zip(&before) {
        let after = press_until_granted(&state, channel, "alice.1").await;
        assert!(after.epoch >= before.epoch);
    }
    // Heard again everywhere, also on the shard that was taken over.
    let patience = Instant::now() + Duration::from_secs(60);
    let mut unheard: HashSet<_> = channels.iter().cloned().collect();
    let mut resynced = false;
    while !unheard.is_empty() {
        assert!(Instant::now() < patience, "not heard: {unheard:?}");
        for channel in &unheard {
            let alice = owner("alice.1");
            let released = state.release_floor(channel, &alice, None, FloorCause::Released).await;
            released.expect("available");
            state.take_floor(channel, &alice, &node(), None).await.expect("available");
        }
        while let Ok(Some(event)) = timeout(Duration::from_millis(200), bus.next()).await {
            match event {
                Event::Floor(change) => _ = unheard.remove(&change.channel),
                Event::Resync => resynced = true,
                Event::Member(_) => {}
            }
        }
    }
    assert!(resynced);
    for channel in &channels {
        let members = state.members(channel).await.expect("available");
        assert_eq!(members, [("alice".into(), "Alice".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_to_another_shard() {
    // A channel that no other test has, for the cluster is everybody's.
    let channel = ChannelId::from("moving");
    let state = state(Cluster::servers());
    let mut bus = state.subscribe();
    bus.watch(&channel).await.expect("available");

    let masters = &Cluster::nodes()[..3];
    let slot: usize = masters[0].ask("CLUSTER KEYSLOT moving");
    let (source, target) = (&masters[slot / 5462], &masters[(slot / 5462 + 1) % 3]);
    let (from, to): (String, String) = (source.ask("CLUSTER MYID"), target.ask("CLUSTER MYID"));
    let () = target.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    let () = source.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    for node in [target, source] {
        let () = node.ask(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
    }
    until_resync(&mut bus).await;
    let taken = press_until_granted(&state, &channel, "alice.1").await;
    assert_eq!(change(&next(&mut bus).await).1, taken.epoch, "heard where it is now");
}
