//! Gateways that die, and one that was only paused.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use voiceping_state::{
    Event, FloorCause, Limits, MemberAction, Owner, Redis, RedisConfig, State, StateError, Subscription,
};

use super::{Cluster, Kind, Standalone, config};
use crate::support::*;

/// Short enough to wait for, long enough for a busy machine.
const PRESENCE_LEASE: Duration = Duration::from_millis(1500);

fn settings<K: Kind>() -> RedisConfig {
    let mut config = config(K::servers());
    config.presence_lease = PRESENCE_LEASE;
    config
}

fn gateway(config: &RedisConfig) -> Redis {
    Redis::new(config, rules(None), Limits::default()).expect("good settings")
}

/// A connection of a gateway of its own.
fn of(gateway: &str, connection: &str) -> Owner {
    Owner { gateway: gateway.into(), ..owner(connection) }
}

/// A gateway with a runtime of its own: it stands still while nothing drives that, and dies with it.
fn apart(config: &RedisConfig) -> (Runtime, Redis) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let redis = runtime.block_on(async { gateway(config) });
    (runtime, redis)
}

async fn enter(redis: &Redis, gateway: &str, connection: &str) -> Result<usize, StateError> {
    match redis.join(&lobby(), &of(gateway, connection)).await {
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
    let config = settings::<K>();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (dying, dead) = apart(&config);
    let alive: Vec<_> = runtime.block_on(async { (0..3).map(|_| gateway(&config)).collect() });

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
        let taken = dead.take_floor(&lobby(), &of("dead", "bob.2"), None).await;
        taken.expect("available");
    });
    runtime.block_on(async {
        let mut bus = alive[0].listen().await;
        drop(dead);
        dying.shutdown_background();

        let heard = until_users(&mut bus, 4).await;
        assert_eq!(alive[1].names().await, ["Alice", "Alive0", "Alive1", "Alive2"]);
        assert_eq!(alive[1].look().await.holder, None);
        let floors: Vec<_> = heard.iter().filter(|event| matches!(event, Event::Floor(_))).map(change).collect();
        assert_eq!(floors.len(), 1, "once");
        assert_eq!((floors[0].0, floors[0].2), (FloorCause::Left, Some("bob.2")));
        let visits: Vec<_> = heard.iter().filter(|event| matches!(event, Event::Member(_))).map(visit).collect();
        let expected = [(MemberAction::Disconnected, "bob.2", 5), (MemberAction::Disconnected, "carol.1", 4)];
        assert_eq!(visits, expected, "each user once, with the last connection");
        assert_eq!(alive[0].heard(&mut bus).await, [], "and nothing more");
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

#[test]
fn a_gateway_that_was_paused_has_its_members_back() {
    let config = settings::<Standalone>();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (pausing, paused) = apart(&config);
    let alive = runtime.block_on(async { gateway(&config) });
    pausing.block_on(enter(&paused, "paused", "bob.1")).expect("available");
    let mut bus = runtime.block_on(async {
        enter(&alive, "alive", "alice.1").await.expect("available");
        let mut bus = alive.listen().await;
        let heard = until_users(&mut bus, 1).await;
        assert_eq!(visit(&heard[0]), (MemberAction::Disconnected, "bob.1", 1));
        bus
    });

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
}
