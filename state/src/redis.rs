//! The state of a deployment, on Redis 6 or newer: one server, a Cluster, or a master that Sentinels watch.
//!
//! Scripts on the server decide and announce in one step; they mirror the rules in [`crate::floor`], which the contract
//! suite and the model check hold them to. Time is the server's. A call ends within its time; while the servers are away
//! it ends at once, with [`StateError::Unavailable`], and calls work again by themselves when they are back.
//!
//! A failover may lose the last writes, a talk among them. Who has heard of them tells them to the new master again
//! (`redis/known.rs`). What nobody has heard of is lost; the next change makes the epoch `max(last + 1, now)`, and that is
//! higher than a lost one, which was given out earlier, as long as the servers' clocks differ by less than a failover
//! takes.
//!
//! [`Owner::gateway`] must be unique to a process and its life: presence of a gateway that is gone ends by that name.

mod args;
mod config;
mod dialer;
mod keys;
mod known;
mod lag;
mod link;
mod nodes;
mod presence;
mod scripts;
mod subscription;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{FromRedisValue, cmd};
use voiceping_signals::trace;

use crate::contract::{JoinError, Leaving, State, StateError, Taken};
use crate::event::{FloorCause, Roster};
use crate::floor::{Floor, FloorRules, Holder, Owner};
use crate::id::{ChannelId, NodeId, UserId};
use crate::memory::Limits;
use crate::metrics;
use crate::store::Subscription;
pub use args::{RedisArgs, RedisMode};
pub use config::{RedisConfig, RedisConfigError, Servers};
use dialer::Dialer;
use keys::Keys;
use known::Known;
use lag::Lag;
use link::Link;
use presence::Presence;
use scripts::Script;
pub use subscription::RedisSubscription;

/// The Redis backend. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

struct Shared {
    rules: FloorRules,
    limits: Limits,
    keys: Keys,
    patience: Duration,
    presence_lease: Duration,
    /// Only of tests; `None`: the server's.
    clock: Option<Clock>,
    dialer: Arc<Dialer>,
    link: Link,
    known: Arc<Known>,
    lag: Arc<Lag>,
    presence: Presence,
}

impl Redis {
    /// A state that connects when it is first used. Use it inside a tokio runtime.
    pub fn new(config: &RedisConfig, rules: FloorRules, limits: Limits) -> Result<Self, RedisConfigError> {
        Self::build(config, rules, limits, None)
    }

    /// The same by another clock, in milliseconds since the Unix epoch: for tests, as in [`crate::Memory::with_clock`].
    pub fn with_clock(
        config: &RedisConfig,
        rules: FloorRules,
        limits: Limits,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Self, RedisConfigError> {
        Self::build(config, rules, limits, Some(Box::new(clock)))
    }

    fn build(
        config: &RedisConfig,
        rules: FloorRules,
        limits: Limits,
        clock: Option<Clock>,
    ) -> Result<Self, RedisConfigError> {
        let dialer = Arc::new(Dialer::new(config)?);
        let shared = Shared {
            rules,
            limits,
            keys: Keys::new(&config.prefix),
            patience: config.timeout,
            presence_lease: config.presence_lease,
            clock,
            link: Link::new(Arc::clone(&dialer), config.timeout),
            dialer,
            known: Arc::default(),
            lag: Arc::default(),
            presence: Presence::default(),
        };
        let shared = Arc::new(shared);
        link::observe(&shared);
        Ok(Self { shared })
    }
}

impl Shared {
    /// What the scripts take for the time: nothing, for the server's own.
    fn now(&self) -> String {
        self.clock.as_ref().map(|clock| clock().to_string()).unwrap_or_default()
    }

    /// Runs a script about a channel.
    async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        channel: &ChannelId,
        args: &[&str],
    ) -> Result<T, StateError> {
        let (now, lease) = (self.now(), millis(self.rules.lease));
        let limit = self.rules.talk_limit.map(millis).unwrap_or_default();
        let mut all = vec![now.as_str(), &lease, &limit];
        all.extend(args);
        self.link.run(script, &self.keys.channel(channel), &all).await
    }

    /// Runs a script that decides about a floor, on servers that know what is known here.
    async fn decide(&self, script: &Script, channel: &ChannelId, args: &[&str]) -> Result<(String, Floor), StateError> {
        loop {
            let known = text(self.known.epoch(channel));
            let trace = trace::parent().unwrap_or_default();
            let answer = self.script(script, channel, &[args, &[&trace, &known]].concat()).await?;
            let (word, floor) = wire::answer(answer).ok_or_else(not_ours)?;
            if word != "behind" {
                self.known.heard(channel, &floor);
                return Ok((word, floor));
            }
            self.recover(channel).await?;
        }
    }

    /// The same for one that may change the floor, and is announced then: `changes` says by which words.
    async fn change(
        &self,
        script: &Script,
        channel: &ChannelId,
        args: &[&str],
        changes: &[&str],
    ) -> Result<(String, Floor), StateError> {
        self.lag.asked(channel, Instant::now());
        let decided = self.decide(script, channel, args).await;
        let epoch =
            decided.as_ref().ok().filter(|(word, _)| changes.contains(&word.as_str())).map(|(_, floor)| floor.epoch);
        if let Some(lag) = self.lag.answered(channel, epoch) {
            metrics::announced(lag);
        }
        decided
    }

    async fn recover(&self, channel: &ChannelId) -> Result<(), StateError> {
        let Some(known) = self.known.floor(channel) else { return Ok(()) };
        tracing::info!(%channel, epoch = known.epoch, "the shared state had lost a change of the floor; telling it");
        metrics::RECOVERIES.add(1, &[]);
        let mut args = vec![known.epoch.to_string()];
        if let Some(Holder { owner, node, taken_at_ms, .. }) = known.holder {
            let (user, connection) = (owner.user.to_string(), owner.connection.to_string());
            args.extend([user, owner.user_name, connection, owner.gateway, node.to_string(), taken_at_ms.to_string()]);
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        self.script::<Vec<String>>(&scripts::RECOVER, channel, &args).await.map(drop)
    }
}

impl State for Redis {
    async fn take_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        node: &NodeId,
        take_over: Option<u64>,
    ) -> Result<Taken, StateError> {
        let (user, connection) = (owner.user.as_str(), owner.connection.as_str());
        let over = text(take_over);
        let args = [user, &owner.user_name, connection, &owner.gateway, node.as_str(), &over];
        let (word, floor) = self.shared.change(&scripts::TAKE, channel, &args, &["granted"]).await?;
        if word == "granted" && take_over.is_some() {
            metrics::freed(FloorCause::Taken);
        }
        match word.as_str() {
            "granted" => Ok(Taken::Granted { floor, renewed: false }),
            "renewed" => Ok(Taken::Granted { floor, renewed: true }),
            "busy" => Ok(Taken::Busy(floor)),
            _ => Err(not_ours()),
        }
    }

    async fn release_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: Option<u64>,
        cause: FloorCause,
    ) -> Result<(Floor, bool), StateError> {
        let args = [owner.user.as_str(), owner.connection.as_str(), &owner.gateway, &text(epoch), cause.as_str()];
        let (word, floor) = self.shared.change(&scripts::RELEASE, channel, &args, &["freed"]).await?;
        let freed = word == "freed";
        if freed {
            metrics::freed(cause);
        }
        Ok((floor, freed))
    }

    async fn renew_floor(
        &self,
        channel: &ChannelId,
        owner: &Owner,
        epoch: u64,
        node: &NodeId,
    ) -> Result<bool, StateError> {
        let epoch = text(Some(epoch));
        let args = [owner.user.as_str(), owner.connection.as_str(), &owner.gateway, &epoch, node.as_str()];
        let (word, _) = self.shared.decide(&scripts::RENEW, channel, &args).await?;
        Ok(word == "renewed")
    }

    async fn expire_floor(&self, channel: &ChannelId) -> Result<Floor, StateError> {
        let (word, floor) = self.shared.decide(&scripts::EXPIRE, channel, &[]).await?;
        if let Some(cause) = wire::cause(&word) {
            metrics::freed(cause);
        }
        Ok(floor)
    }

    async fn floor(&self, channel: &ChannelId) -> Result<Floor, StateError> {
        Ok(self.shared.decide(&scripts::LOOK, channel, &[]).await?.1)
    }

    async fn join(&self, channel: &ChannelId, member: &Owner) -> Result<Roster, JoinError> {
        let (users, version) = self.shared.join(channel, member).await?;
        let full = |_| JoinError::Full(self.shared.limits.users_per_channel.unwrap_or_default());
        Ok(Roster { users: usize::try_from(users).map_err(full)?, version })
    }

    async fn leave(&self, channel: &ChannelId, owner: &Owner, leaving: Leaving) -> Result<usize, StateError> {
        let word = match leaving {
            Leaving::Left => "left",
            Leaving::Disconnected => "disconnected",
        };
        self.shared.leave(channel, owner, word).await
    }

    async fn members(&self, channel: &ChannelId) -> Result<Vec<(UserId, String)>, StateError> {
        let kept: Vec<(String, String)> = self.shared.script(&scripts::MEMBERS, channel, &[]).await?;
        let mut members: Vec<(UserId, String)> = kept
            .into_iter()
            .map(|(user, kept)| {
                let name = kept.split_once(':').map(|(_, name)| name.to_owned());
                (user.into(), name.unwrap_or_default())
            })
            .collect();
        members.sort_by(|(id, name), (other_id, other_name)| (name, id).cmp(&(other_name, other_id)));
        Ok(members)
    }

    async fn claim(&self, key: &str, for_time: Duration) -> Result<bool, StateError> {
        // Redis knows no time of no length.
        let time = millis(for_time.max(Duration::from_millis(1)));
        let mut claim = cmd("SET");
        claim.arg(self.shared.keys.claim(key)).arg(1).arg("NX").arg("PX").arg(time);
        let set: Option<String> = self.shared.link.command(&claim).await?;
        Ok(set.is_some())
    }

    fn subscribe(&self) -> Subscription {
        Subscription::Redis(RedisSubscription::new(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .field("keys", &self.keys)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// The scripts count in numbers that are exact up to 2^53: a duration beyond is as good as that, and some time can still
/// be added to it.
fn millis(duration: Duration) -> String {
    duration.as_millis().min(1 << 52).to_string()
}

fn text(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn not_ours() -> StateError {
    StateError::Unavailable("the server gave an answer that is none of ours".into())
}
