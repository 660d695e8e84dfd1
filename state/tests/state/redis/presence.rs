//! Gateways that die, and one that was only paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};
use voiceping_state::{
    Event, FloorCause, FloorRules, Leaving, Limits, MemberAction, Redis, RedisConfig, Servers, State, StateError,
    Subscription, Taken,
};

use super::servers::{NOTHING_KEPT, Server};
use super::{Cluster, Kind, Standalone, config};
use crate::support::*;

/// Short enough to wait for, long enough for a busy machine.
const PRESENCE_LEASE: Duration = Duration::from_millis(1500);

fn settings<K: Kind>() -> RedisConfig {
    let mut config = config(K::servers());
    config.presence_lease = PRESENCE_LEASE;
    config
}

/// Longer than any of these tests: a floor's lease ends when a test moves the clock.
const FLOOR_LEASE: Duration = Duration::from_secs(3600);

/// What the clock of a test is ahead, in milliseconds.
type Ahead = Arc<AtomicU64>;

fn gateway(config: &RedisConfig, ahead: &Ahead) -> Redis {
    let ahead = Arc::clone(ahead);
    let clock = move || {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        u64::try_from(since_epoch.as_millis()).expect("small") + ahead.load(Ordering::SeqCst)
    };
    let rules = FloorRules { lease: FLOOR_LEASE, talk_limit: None };
    Redis::with_clock(config, rules, Limits::default(), clock).expect("good settings")
}

fn end_leases(ahead: &Ahead) {
    ahead.fetch_add(u64::try_from(FLOOR_LEASE.as_millis()).expect("small"), Ordering::SeqCst);
}

/// A gateway with a runtime of its own: it stands still while nothing drives that, and dies with it.
fn apart(config: &RedisConfig, ahead: &Ahead) -> (Runtime, Redis) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let redis = runtime.block_on(async { gateway(config, ahead) });
    (runtime, redis)
}

async fn enter(redis: &Redis, gateway: &str, connection: &str) -> Result<usize, StateError> {
    match redis.join(&lobby(), &through(gateway, connection)).await {
        Ok(roster) => Ok(roster.users),
        Err(error) => panic!("no limit: {error}"),
    }
}

/// All that is heard until a departure that leaves this many users.
async fn until_users(bus: &mut Subscription, users: usize) -> Vec<Event> {
    let mut heard = Vec::new();
    loop {
        heard.push(next(bus).await);
        if let Some(Event::Member(change)) = heard.last()
            && change.roster.users == users
        {
            return heard;
        }
    }
}

fn a_dead_gateways_members_leave_once<K: Kind>() {
    let (config, ahead) = (settings::<K>(), Ahead::default());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (dying, dead) = apart(&config, &ahead);
    let alive: Vec<_> = runtime.block_on(async { (0..3).map(|_| gateway(&config, &ahead)).collect() });

    runtime.block_on(async {
        for (n, redis) in alive.iter().enumerate() {
            enter(redis, &format!("alive{n}"), &format!("alive{n}.1")).await.expect("available");
        }
        // On the dead gateway and on another: such a user stays.
        enter(&alive[0], "alive0", "alice.2").await.expect("available");
    });
    dying.block_on(async {
        enter(&dead, "dead", "alice.1").await.expect("available");
        enter(&dead, "dead", "bob.1").await.expect("available");
        enter(&dead, "dead", "bob.2").await.expect("available");
        enter(&dead, "dead", "carol.1").await.expect("available");
        let taken = dead.take_floor(&lobby(), &through("dead", "bob.2"), &node(), None).await;
        taken.expect("available");
    });
    runtime.block_on(async {
        let mut bus = alive[0].listen().await;
        drop(dead);
        dying.shutdown_background();

        let heard = until_users(&mut bus, 4).await;
        assert_eq!(alive[1].names().await, ["Alice", "Alive0", "Alive1", "Alive2"]);
        let visits: Vec<_> = heard.iter().map(visit).collect();
        let expected = [(MemberAction::Disconnected, "bob.2", 5), (MemberAction::Disconnected, "carol.1", 4)];
        assert_eq!(visits, expected, "each user once, with the last connection");
        assert_eq!(alive[0].heard(&mut bus).await, [], "and nothing more");

        // A media node may still let the talk through: nobody else gets the floor before its lease has ended.
        let floor = alive[1].look().await;
        assert_eq!(holder_of(&floor), Some(&"bob.2".into()));
        assert_eq!(alive[2].take("alive2.1").await, Taken::Busy(floor.clone()));
        end_leases(&ahead);
        for redis in &alive {
            assert_eq!(redis.expire().await.holder, None);
        }
        let events = alive[0].heard(&mut bus).await;
        assert_eq!(events.len(), 1, "once: {events:?}");
        let ended = change(&events[0]);
        assert_eq!((ended.0, ended.2), (FloorCause::Expired, Some("bob.2")));
        alive[2].granted("alive2.1").await;
    });
}

#[test]
fn a_dead_gateways_members_leave_once_on_one_server() {
    a_dead_gateways_members_leave_once::<Standalone>();
}

#[test]
fn a_dead_gateways_members_leave_once_on_a_cluster() {
    a_dead_gateways_members_leave_once::<Cluster>();
}

/// A gateway with a member who speaks, paused for so long that its members were announced as gone.
struct Paused {
    config: RedisConfig,
    ahead: Ahead,
    alive: (Runtime, Redis),
    bus: Subscription,
    paused: (Runtime, Redis),
    epoch: u64,
}

fn pause() -> Paused {
    let (config, ahead) = (settings::<Standalone>(), Ahead::default());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (pausing, paused) = apart(&config, &ahead);
    let alive = runtime.block_on(async { gateway(&config, &ahead) });
    let epoch = pausing.block_on(async {
        enter(&paused, "paused", "bob.1").await.expect("available");
        let taken = paused.take_floor(&lobby(), &through("paused", "bob.1"), &node(), None).await;
        let Ok(Taken::Granted { floor, .. }) = taken else { panic!("free: {taken:?}") };
        floor.epoch
    });
    let bus = runtime.block_on(async {
        enter(&alive, "alive", "alice.1").await.expect("available");
        let mut bus = alive.listen().await;
        let heard = until_users(&mut bus, 1).await;
        assert_eq!(visit(&heard[0]), (MemberAction::Disconnected, "bob.1", 1));
        bus
    });
    Paused { config, ahead, alive: (runtime, alive), bus, paused: (pausing, paused), epoch }
}

#[test]
fn a_gateway_that_was_paused_has_its_members_and_its_talk_back() {
    let Paused { alive: (runtime, alive), mut bus, paused: (pausing, paused), epoch, .. } = pause();
    // Driven again, it finds out by its next heartbeat, with nobody having called it.
    let back = pausing.block_on(async {
        let mut own = paused.listen().await;
        next(&mut own).await
    });
    assert_eq!(visit(&back), (MemberAction::Joined, "bob.1", 2));
    runtime.block_on(async {
        assert_eq!(visit(&next(&mut bus).await), (MemberAction::Joined, "bob.1", 2));
        assert_eq!(alive.names().await, ["Alice", "Bob"]);
    });
    let renewed = pausing.block_on(paused.renew_floor(&lobby(), &through("paused", "bob.1"), epoch, &node()));
    assert_eq!(renewed, Ok(true));
    assert_eq!(runtime.block_on(alive.look()).epoch, epoch);
}

#[test]
fn a_gateway_that_was_paused_for_longer_than_the_lease_has_lost_its_talk() {
    let Paused { ahead, alive: (runtime, alive), mut bus, paused: (pausing, paused), epoch, .. } = pause();
    end_leases(&ahead);
    let bob = through("paused", "bob.1");
    let renewed = pausing.block_on(paused.renew_floor(&lobby(), &bob, epoch, &node()));
    assert_eq!(renewed, Ok(false), "though nobody has noticed yet");
    runtime.block_on(async {
        assert_eq!(alive.expire().await.holder, None);
        while !matches!(next(&mut bus).await, Event::Floor(change) if change.cause == FloorCause::Expired) {}
        alive.granted("alice.1").await;
    });
    assert_eq!(pausing.block_on(paused.renew_floor(&lobby(), &bob, epoch, &node())), Ok(false));
    let released = pausing.block_on(paused.release_floor(&lobby(), &bob, Some(epoch), FloorCause::Silent));
    assert!(!released.expect("available").1);
}

#[test]
fn a_member_that_came_to_another_gateway_meanwhile_stays_there() {
    let Paused { config, ahead, alive: (runtime, alive), mut bus, paused: (pausing, paused), epoch } = pause();
    let moved = through("other", "bob.1");
    let other = runtime.block_on(async {
        let other = gateway(&config, &ahead);
        other.join(&lobby(), &moved).await.expect("no limit");
        assert_eq!(visit(&next(&mut bus).await), (MemberAction::Joined, "bob.1", 2));
        other
    });
    pausing.block_on(async {
        // Its next heartbeats tell who is there, in its opinion, before the visit of a member of its own that we wait for.
        tokio::time::sleep(PRESENCE_LEASE).await;
        let late = paused.renew_floor(&lobby(), &through("paused", "bob.1"), epoch, &node()).await;
        assert_eq!(late, Ok(false));
        let left = paused.leave(&lobby(), &through("paused", "bob.1"), Leaving::Disconnected).await;
        assert_eq!(left, Ok(2));
    });
    runtime.block_on(async {
        assert_eq!(other.renew_floor(&lobby(), &moved, epoch, &node()).await, Ok(true));
        assert_eq!(alive.heard(&mut bus).await, []);
        assert_eq!(alive.names().await, ["Alice", "Bob"]);
        assert_eq!(other.leave(&lobby(), &moved, Leaving::Left).await, Ok(1));
    });
}

/// A failover brings back what a move has changed: both gateways then tell the servers that the connection is theirs.
#[test]
fn of_two_gateways_that_claim_a_connection_the_later_has_it() {
    let server = Server::start(&NOTHING_KEPT);
    let mut config = config(Servers::Standalone(server.url()));
    config.presence_lease = PRESENCE_LEASE;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ahead = Ahead::default();
    runtime.block_on(async {
        let (old, new) = (gateway(&config, &ahead), gateway(&config, &ahead));
        let members = format!("{}:{{lobby}}:members", config.prefix);
        enter(&old, "old", "alice.1").await.expect("available");
        let lost: String = server.ask(&format!("HGET {members} alice.1"));
        enter(&new, "new", "alice.1").await.expect("available");
        let () = server.ask(&format!("HSET {members} alice.1 {lost}"));
        let _: u32 = server.ask("CLIENT KILL TYPE normal");

        let patience = Instant::now() + Duration::from_secs(60);
        while !server.ask::<String>(&format!("HGET {members} alice.1")).contains(r#""gateway":"new""#) {
            assert!(Instant::now() < patience, "told again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whatever the other tells, in some heartbeats of both.
        tokio::time::sleep(PRESENCE_LEASE).await;
        assert_eq!(old.leave(&lobby(), &through("old", "alice.1"), Leaving::Disconnected).await, Ok(1));
        assert_eq!(new.leave(&lobby(), &through("new", "alice.1"), Leaving::Left).await, Ok(0));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_were_away_for_longer_than_the_lease_lose_nobody() {
    let server = Server::start(&NOTHING_KEPT);
    let mut config = config(Servers::Standalone(server.url()));
    config.presence_lease = PRESENCE_LEASE;
    config.timeout = Duration::from_millis(500);
    let ahead = Ahead::default();
    let (east, west) = (gateway(&config, &ahead), gateway(&config, &ahead));
    enter(&east, "east", "alice.1").await.expect("available");
    enter(&west, "west", "bob.1").await.expect("available");
    let mut bus = east.listen().await;
    server.signal("-STOP");
    tokio::time::sleep(PRESENCE_LEASE * 2).await;
    server.signal("-CONT");
    while next(&mut bus).await != Event::Resync {}
    // Heartbeats of both, of which the first would have taken the other for dead.
    tokio::time::sleep(PRESENCE_LEASE).await;
    assert_eq!(east.heard(&mut bus).await, []);
    assert_eq!(west.names().await, ["Alice", "Bob"]);
}

/// To the first who asks then, everybody else has been silent for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_takes_nobody_for_dead() {
    let (config, ahead) = (settings::<Standalone>(), Ahead::default());
    let (east, west) = (gateway(&config, &ahead), gateway(&config, &ahead));
    enter(&east, "east", "alice.1").await.expect("available");
    enter(&west, "west", "bob.1").await.expect("available");
    let mut bus = east.listen().await;
    for _ in 0..3 {
        end_leases(&ahead);
        // A heartbeat of each, at least.
        tokio::time::sleep(PRESENCE_LEASE / 2).await;
    }
    assert_eq!(east.heard(&mut bus).await, []);
}
