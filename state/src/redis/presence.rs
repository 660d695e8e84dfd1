//! Presence that ends by itself when a gateway dies, at the cost of one heartbeat per gateway.
//!
//! Members belong to their gateway's lease, which one heartbeat renews for all of them. A gateway that stops is noticed
//! by the next heartbeat of any other, which then cleans up after it, channel by channel; the scripts see to it that each
//! departure is announced once, and that a gateway which comes back is not cleaned away: each of its lives has a
//! generation of its own.
//!
//! What the servers hold may be behind the truth after a failover, an outage or a pause. So this remembers the members
//! that joined through it, and tells the servers again when there is reason to doubt: [`Local`] is the truth.

mod local;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::{StreamExt, stream};
use redis::cmd;
use tokio::time::timeout;

use self::local::{Doubt, Local, Members, Place};
use super::wire::WireMember;
use super::{Shared, scripts};
use crate::contract::StateError;
use crate::floor::Owner;
use crate::id::{ChannelId, ConnectionId};

pub(super) use self::local::Presence;

/// Channels that are told or cleaned up at a time.
const CONCURRENCY: usize = 16;

/// Heartbeats in a lease. The servers may be away for more than half of it, and nobody is lost.
const BEATS: u32 = 5;

/// A heartbeat that has failed is repeated after this part of a lease.
const RETRIES: u32 = 30;

/// Heartbeats after which a channel without members is forgotten: a lease and a little.
const IDLE_BEATS: u32 = BEATS + 1;

/// Names in one command.
const BATCH: usize = 500;

impl Shared {
    /// Answers the number of users, a negative one if the channel is full, and the version of the roster.
    pub(super) async fn join(self: &Arc<Self>, channel: &ChannelId, member: &Owner) -> Result<(i64, u64), StateError> {
        let generation = self.generation(&member.gateway).await?;
        let place = (member.gateway.clone(), channel.clone());
        let is_new = self.presence.add(&place, member);
        let joining = is_new.then_some(&member.connection);
        let mut doubt = Doubt { presence: &self.presence, place: Some(place.clone()), joining };
        if !self.presence.lock().listed.contains_key(&place) {
            self.list(&member.gateway, generation, std::slice::from_ref(channel)).await?;
        }
        let generation = generation.to_string();
        let limit = self.limits.users_per_channel.map(|limit| limit.to_string()).unwrap_or_default();
        let (user, connection) = (member.user.as_str(), member.connection.as_str());
        let args = [user, &member.user_name, connection, &member.gateway, &generation, &limit];
        let (users, version, since) = self.script(&scripts::JOIN, channel, &args).await?;
        doubt.place = None;
        if users >= 0 {
            self.presence.joined(&place, &member.connection, since);
        } else if is_new {
            self.presence.remove(&place, &member.connection);
        }
        Ok((users, version))
    }

    /// Answers the number of users that remain.
    pub(super) async fn leave(&self, channel: &ChannelId, owner: &Owner, word: &str) -> Result<usize, StateError> {
        let place = (owner.gateway.clone(), channel.clone());
        let place = self.presence.remove(&place, &owner.connection).then_some(place);
        let mut doubt = Doubt { presence: &self.presence, place, joining: None };
        let args = [owner.user.as_str(), owner.connection.as_str(), &owner.gateway, word];
        let users = self.script(&scripts::LEAVE, channel, &args).await?;
        doubt.place = None;
        Ok(users)
    }

    /// The generation of a gateway in its present life, which begins with its first member.
    async fn generation(self: &Arc<Self>, gateway: &str) -> Result<u64, StateError> {
        if let Some(generation) = self.presence.lock().generation_by_gateway.get(gateway) {
            return Ok(*generation);
        }
        let generation = self.beat(gateway).await?;
        let mut local = self.presence.lock();
        if !std::mem::replace(&mut local.has_heart, true) {
            tokio::spawn(heart(Arc::downgrade(self)));
        }
        Ok(generation)
    }

    /// One heartbeat. Cleans up after the gateways that have none any more.
    async fn beat(self: &Arc<Self>, gateway: &str) -> Result<u64, StateError> {
        let lives = self.presence_lease.as_millis().to_string();
        let args = [self.now().as_str(), gateway, &lives].map(str::to_owned);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer: Vec<String> = self.link.run(&scripts::BEAT, &self.keys.gateways(), &args).await?;
        let mut words = answer.into_iter();
        let parsed = |word: Option<String>| word.and_then(|word| word.parse::<u64>().ok());
        let generation = parsed(words.next()).ok_or_else(super::not_ours)?;
        let last = self.presence.lock().generation_by_gateway.insert(gateway.to_owned(), generation);
        if last.is_some_and(|last| last != generation) {
            // It was taken for dead, or the servers have forgotten it.
            tracing::info!(gateway, "the shared state had lost this gateway; telling it its members");
            self.presence.doubt_everything();
            self.presence.lock().listed.retain(|(listed, _), _| listed != gateway);
        }
        while let (Some(gone), Some(generation)) = (words.next(), parsed(words.next())) {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = shared.sweep(&gone, generation).await {
                    tracing::debug!(gateway = gone, %error, "a dead gateway is left to the next one");
                }
            });
        }
        Ok(generation)
    }

    /// Ends all that a dead gateway had. May be repeated and be given up at any point.
    async fn sweep(&self, gateway: &str, generation: u64) -> Result<(), StateError> {
        let list = self.keys.channels_of(gateway, generation);
        let channels: Vec<String> = self.link.command(cmd("SMEMBERS").arg(&list)).await?;
        tracing::info!(gateway, channels = channels.len(), "a gateway is gone; its members leave");
        let text = generation.to_string();
        let sweeps = stream::iter(channels).map(|channel| {
            let text = &text;
            async move { self.script::<i64>(&scripts::SWEEP, &channel.into(), &[gateway, text]).await }
        });
        let swept: Vec<_> = sweeps.buffer_unordered(CONCURRENCY).collect().await;
        swept.into_iter().collect::<Result<Vec<_>, _>>()?;
        let () = self.link.command(cmd("DEL").arg(&list)).await?;
        let [_, dead, generations] = self.keys.gateways();
        self.link.run(&scripts::SWEPT, &[dead, generations], &[gateway, &text]).await
    }

    async fn list(&self, gateway: &str, generation: u64, channels: &[ChannelId]) -> Result<(), StateError> {
        let list = self.keys.channels_of(gateway, generation);
        for batch in channels.chunks(BATCH) {
            let names: Vec<_> = batch.iter().map(ChannelId::as_str).collect();
            let () = self.link.command(cmd("SADD").arg(&list).arg(names)).await?;
        }
        let places = channels.iter().map(|channel| ((gateway.to_owned(), channel.clone()), 0));
        self.presence.lock().listed.extend(places);
        Ok(())
    }

    /// Tells the servers who is there, wherever there is doubt.
    async fn restore(&self) {
        let doubtful: Vec<_> = std::mem::take(&mut self.presence.lock().doubtful).into_iter().collect();
        let tellings = stream::iter(doubtful).map(|place| async move {
            let mut doubt = Doubt { presence: &self.presence, place: Some(place.clone()), joining: None };
            match self.tell(&place).await {
                Ok(()) => doubt.place = None,
                Err(error) => {
                    tracing::debug!(channel = %place.1, %error, "members are told to the shared state later");
                    // Not by way of a notification: the next heartbeat is early enough.
                    doubt.place = None;
                    self.presence.lock().doubtful.insert(place);
                }
            }
        });
        tellings.buffer_unordered(CONCURRENCY).collect::<()>().await;
    }

    async fn tell(&self, place: &Place) -> Result<(), StateError> {
        let (gateway, channel) = place;
        let (generation, mut members, listed) = {
            let local = self.presence.lock();
            let Some(generation) = local.generation_by_gateway.get(gateway) else { return Ok(()) };
            let members = local.members_by_place.get(place).cloned().unwrap_or_default();
            (*generation, members, local.listed.contains_key(place))
        };
        if !listed && !members.is_empty() {
            self.list(gateway, generation, std::slice::from_ref(channel)).await?;
        }
        let told: Vec<_> = members.values().map(|member| WireMember::new(&member.owner, member.since)).collect();
        let json = serde_json::to_string(&told).expect("text has a JSON form");
        let args = [gateway, generation.to_string().as_str(), json.as_str()].map(str::to_owned);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let elsewhere: Vec<String> = self.script(&scripts::RESTORE, channel, &args).await?;
        for connection in elsewhere.into_iter().map(ConnectionId::from) {
            let told = members.remove(&connection);
            // Not one that comes (back) just now: its join is on its way.
            self.presence.remove_if(place, &connection, |member| member.since > 0 && Some(member) == told.as_ref());
        }
        // Who came or left meanwhile may have been quicker than what was just told.
        let is_so = |there: Option<&Members>| there.map_or(members.is_empty(), |there| *there == members);
        let is_so = is_so(self.presence.lock().members_by_place.get(place));
        if !is_so {
            self.presence.doubt(place.clone());
        }
        Ok(())
    }

    /// Channels without members are taken off the list, so that it does not grow for ever. Not at once: a failover may
    /// bring back who has just left, and [`Presence::doubt_everything`] looks there.
    async fn unlist_idle(&self) -> Result<(), StateError> {
        let mut idle: HashMap<String, Vec<ChannelId>> = HashMap::new();
        {
            let mut local = self.presence.lock();
            let Local { listed, members_by_place, doubtful, .. } = &mut *local;
            listed.retain(|place, beats| {
                let is_idle = !members_by_place.contains_key(place) && !doubtful.contains(place);
                *beats = if is_idle { *beats + 1 } else { 0 };
                if *beats > IDLE_BEATS {
                    idle.entry(place.0.clone()).or_default().push(place.1.clone());
                }
                *beats <= IDLE_BEATS
            });
        }
        for (gateway, channels) in idle {
            let Some(generation) = self.presence.lock().generation_by_gateway.get(&gateway).copied() else { continue };
            let list = self.keys.channels_of(&gateway, generation);
            for batch in channels.chunks(BATCH) {
                let names: Vec<_> = batch.iter().map(ChannelId::as_str).collect();
                let () = self.link.command(cmd("SREM").arg(&list).arg(names)).await?;
            }
            // Who joined while that was on its way is on the list again.
            let mut back = channels;
            back.retain(|channel| {
                self.presence.lock().members_by_place.contains_key(&(gateway.clone(), channel.clone()))
            });
            self.list(&gateway, generation, &back).await?;
        }
        Ok(())
    }
}

/// The one task of presence: ends with the state that it serves.
async fn heart(shared: Weak<Shared>) {
    let Some(first) = shared.upgrade() else { return };
    let lease = first.presence_lease;
    let mut pause = lease / BEATS;
    let mut made = first.link.made();
    drop(first);
    loop {
        let Some(presence) = shared.upgrade() else { return };
        // The state is not kept alive by a heart that sleeps: it looks up now and then.
        let _ = timeout(pause, presence.presence.doubted.notified()).await;
        let shared = presence;
        let gateways: Vec<_> = shared.presence.lock().generation_by_gateway.keys().cloned().collect();
        let mut alive = true;
        for gateway in gateways {
            alive &= shared.beat(&gateway).await.is_ok();
        }
        if std::mem::replace(&mut made, shared.link.made()) != made {
            shared.presence.doubt_everything();
        }
        pause = if alive { lease / BEATS } else { lease / RETRIES };
        if alive {
            shared.restore().await;
            let _ = shared.unlist_idle().await;
        }
    }
}
