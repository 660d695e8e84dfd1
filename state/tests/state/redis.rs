//! The Redis backend under the contract suite: on one server, on a Cluster, and on a server that has just taken over from
//! one that was killed.

mod faults;
mod model;
mod presence;
mod secure;
mod servers;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use voiceping_state::{FloorRules, Limits, Redis, RedisConfig, Servers};

use crate::support::Harness;
use servers::{NOTHING_KEPT, Server, Watched};

/// Servers that all tests of a kind share; each test has a prefix of its own.
pub(crate) trait Kind: Send + Sync + 'static {
    const SCHEDULES: u32;
    fn servers() -> Servers;
}

pub(crate) struct Standalone;

impl Kind for Standalone {
    const SCHEDULES: u32 = 32;

    fn servers() -> Servers {
        static SERVER: OnceLock<Server> = OnceLock::new();
        Servers::Standalone(SERVER.get_or_init(|| Server::start(&NOTHING_KEPT)).url())
    }
}

pub(crate) struct Cluster;

impl Kind for Cluster {
    const SCHEDULES: u32 = 8;

    fn servers() -> Servers {
        // Two are enough to find the others.
        Servers::Cluster(Self::nodes()[1..3].iter().map(Server::url).collect())
    }
}

impl Cluster {
    /// Three masters, then their replicas.
    fn nodes() -> &'static [Server] {
        static NODES: OnceLock<Vec<Server>> = OnceLock::new();
        NODES.get_or_init(servers::cluster)
    }
}

pub(crate) struct Sentinel;

impl Kind for Sentinel {
    const SCHEDULES: u32 = 8;

    fn servers() -> Servers {
        static WATCHED: OnceLock<Watched> = OnceLock::new();
        by_sentinels(WATCHED.get_or_init(|| {
            let watched = servers::sentinels();
            watched.fail_over();
            watched
        }))
    }
}

pub(crate) fn by_sentinels(watched: &Watched) -> Servers {
    Servers::Sentinel { sentinels: watched.sentinels.iter().map(Server::url).collect(), master: "main".into() }
}

/// Three gateways with a connection each, on a prefix that nobody else has, and the clock that they give to the scripts.
pub(crate) struct OnRedis<K> {
    gateways: Vec<Redis>,
    next: AtomicUsize,
    now_ms: Arc<AtomicU64>,
    kind: PhantomData<K>,
}

impl<K: Kind> Harness for OnRedis<K> {
    type State = Redis;
    const SCHEDULES: u32 = K::SCHEDULES;

    async fn start(rules: FloorRules, limits: Limits) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
        let mut config = config(K::servers());
        // The gateways of these tests live through all that the clock does, and share a name.
        config.presence_lease = Duration::from_secs(1 << 30);
        let gateway = |_| {
            let clock = Arc::clone(&now_ms);
            let clock = move || clock.load(Ordering::SeqCst);
            Redis::with_clock(&config, rules, limits, clock).expect("good settings")
        };
        let gateways = (0..3).map(gateway).collect();
        Self { gateways, next: AtomicUsize::new(0), now_ms, kind: PhantomData }
    }

    fn gateway(&self) -> Redis {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.gateways[n % self.gateways.len()].clone()
    }

    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    async fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(millis(by), Ordering::SeqCst);
    }

    async fn set_back(&self, by: Duration) {
        self.now_ms.fetch_sub(millis(by), Ordering::SeqCst);
    }
}

/// The usual settings under a name that nothing has used yet.
pub(crate) fn config(servers: Servers) -> RedisConfig {
    let mut config = RedisConfig::new(servers);
    config.prefix = format!("test{:x}", rand::random::<u64>());
    // A machine that is busy with other tests is no fault.
    config.timeout = Duration::from_secs(5);
    config
}

fn millis(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).expect("a test's time")
}

mod standalone {
    use super::*;
    contract_suite!(OnRedis<Standalone>);
}

mod cluster {
    use super::*;
    contract_suite!(OnRedis<Cluster>);
}

mod sentinel {
    use super::*;
    contract_suite!(OnRedis<Sentinel>);
}
