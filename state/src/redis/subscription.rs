//! A gateway's one subscription: the channels that it watches, on one connection (a Cluster's client keeps one to each
//! shard), and the queue that they fill.
//!
//! One task owns the connection. After each break it makes a new one and subscribes again; what was said meanwhile is
//! lost, so [`Event::Resync`] follows. Messages go from the connection straight into the bounded queue.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use redis::{ErrorKind, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Shared;
use super::dialer::{Connection, Push};
use super::known::Known;
use super::lag::Lag;
use super::link::pauses;
use super::wire;
use crate::contract::StateError;
use crate::event::Event;
use crate::id::ChannelId;
use crate::metrics;
use crate::queue::Queue;

/// Subscriptions that are asked for at a time after a break.
const CONCURRENCY: usize = 64;

/// A subscription to [`Redis`](super::Redis); see [`Subscription`](crate::Subscription). Dropping it ends it.
#[derive(Debug)]
pub struct RedisSubscription {
    inbox: Arc<Inbox>,
    wishes: mpsc::UnboundedSender<Wish>,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What the connection's own task and the subscription share.
#[derive(Debug, Default)]
struct Inbox {
    queue: Queue,
    known: Arc<Known>,
    lag: Arc<Lag>,
    topics: Mutex<Topics>,
    /// The connection has broken, or said that a topic is no longer its own.
    broken: Notify,
    left: Notify,
    /// The number of the connection that counts: the last words of the one before do not.
    current: AtomicU64,
}

#[derive(Debug, Default)]
struct Topics {
    watched: HashMap<String, ChannelId>,
    /// Not watched any more, and the server has not confirmed it yet.
    leaving: HashSet<String>,
}

#[derive(Debug)]
enum Wish {
    Watch(ChannelId, oneshot::Sender<Result<(), StateError>>),
    Unwatch(String),
}

impl RedisSubscription {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let inbox =
            Arc::new(Inbox { known: Arc::clone(&shared.known), lag: Arc::clone(&shared.lag), ..Inbox::default() });
        let (wishes, wished) = mpsc::unbounded_channel();
        let subscriber = Subscriber { inbox: Arc::clone(&inbox), shared: Arc::clone(&shared), sharded: true };
        let task = tokio::spawn(subscriber.run(wished));
        let known = Arc::downgrade(&inbox);
        metrics::CHANNELS.observe(move |observe| {
            if let Some(inbox) = known.upgrade() {
                observe(inbox.lock().watched.len() as f64, &[]);
            }
        });
        Self { inbox, wishes, task, shared }
    }

    pub(crate) async fn watch(&mut self, channel: &ChannelId) -> Result<(), StateError> {
        if self.inbox.lock().watched.contains_key(&self.shared.keys.topic(channel)) {
            return Ok(());
        }
        let (done, watched) = oneshot::channel();
        let gone = || StateError::Unavailable("the subscription has ended".into());
        self.wishes.send(Wish::Watch(channel.clone(), done)).map_err(|_| gone())?;
        watched.await.map_err(|_| gone())?
    }

    pub(crate) fn unwatch(&mut self, channel: &ChannelId) {
        let topic = self.shared.keys.topic(channel);
        let mut topics = self.inbox.lock();
        if topics.watched.remove(&topic).is_some() {
            topics.leaving.insert(topic.clone());
            drop(topics);
            self.inbox.known.unwatch(channel);
            self.inbox.queue.forget(channel);
            // If nobody receives it, there is no connection either.
            let _ = self.wishes.send(Wish::Unwatch(topic));
        }
    }

    /// Never `None`: servers that are away come back.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let event = self.inbox.queue.next().await;
        metrics::event(&event);
        Some(event)
    }
}

impl Drop for RedisSubscription {
    fn drop(&mut self) {
        self.task.abort();
        for (_, channel) in self.inbox.lock().watched.drain() {
            self.inbox.known.unwatch(&channel);
        }
    }
}

impl Inbox {
    /// Called by the connection for each message, in order.
    fn take(&self, info: &PushInfo) {
        let part = |n: usize| match info.data.get(n) {
            Some(Value::BulkString(bytes)) => bytes.as_slice(),
            _ => &[],
        };
        let topic = str::from_utf8(part(0)).unwrap_or_default();
        match info.kind {
            PushKind::SMessage | PushKind::Message => {
                // Under the lock, so that nothing is queued for a channel that is being forgotten.
                let topics = self.lock();
                if let Some(channel) = topics.watched.get(topic)
                    && let Some(event) = wire::event(channel, part(1))
                {
                    if let Event::Floor(change) = &event {
                        self.known.heard(channel, &change.floor);
                        if let Some(lag) = self.lag.heard(channel, change.floor.epoch, Instant::now()) {
                            metrics::announced(lag);
                        }
                    }
                    self.queue.push(event);
                }
            }
            PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                let mut topics = self.lock();
                if topics.leaving.remove(topic) {
                    self.left.notify_one();
                } else if topics.watched.contains_key(topic) {
                    // The slot has moved to another shard.
                    self.broken.notify_one();
                }
            }
            PushKind::Disconnection => self.broken.notify_one(),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().expect("nothing panics while it holds the topics")
    }
}

/// The task's own.
struct Subscriber {
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    /// What the server has; the scripts find out in the same way.
    sharded: bool,
}

impl Subscriber {
    async fn run(mut self, mut wishes: mpsc::UnboundedReceiver<Wish>) {
        let mut connection: Option<Connection> = None;
        let mut check = interval(self.shared.patience * 3);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    None => return,
                    Some(wish) => self.serve(wish, &mut connection).await,
                },
                () = self.inbox.broken.notified() => {
                    connection = None;
                    self.inbox.lock().leaving.clear();
                }
                // A peer that has vanished without a word is found out.
                _ = check.tick(), if connection.is_some() => {
                    if let Some(current) = &mut connection
                        && !matches!(timeout(self.shared.patience, current.query(&redis::cmd("PING"))).await, Ok(Ok(_)))
                    {
                        connection = None;
                    }
                }
            }
            if connection.is_none() && !self.inbox.lock().watched.is_empty() {
                connection = self.again(&mut wishes).await;
                let leaving: Vec<_> = self.inbox.lock().leaving.iter().cloned().collect();
                for topic in leaving {
                    self.leave(&topic, &mut connection).await;
                }
            }
        }
    }

    async fn serve(&mut self, wish: Wish, connection: &mut Option<Connection>) {
        match wish {
            Wish::Watch(channel, done) => {
                let watched = self.watch(channel, connection).await;
                // A caller that has given up asks again.
                let _ = done.send(watched.map_err(|error| StateError::Unavailable(error.to_string())));
            }
            Wish::Unwatch(topic) => self.leave(&topic, connection).await,
        }
    }

    /// Until the connection has passed on all that came before the server's word: what is heard after another watch is
    /// then new.
    async fn leave(&self, topic: &str, connection: &mut Option<Connection>) {
        if let Some(connection) = connection
            && self.subscribe(connection, topic, false).await.is_ok()
        {
            let left = async {
                while self.inbox.lock().leaving.contains(topic) {
                    self.inbox.left.notified().await;
                }
            };
            let _ = timeout(self.shared.patience, left).await;
        }
        self.inbox.lock().leaving.remove(topic);
    }

    async fn watch(&mut self, channel: ChannelId, connection: &mut Option<Connection>) -> RedisResult<()> {
        let mut current = match connection {
            Some(connection) => connection.clone(),
            None => self.dial().await?,
        };
        let topic = self.shared.keys.topic(&channel);
        if self.inbox.lock().watched.insert(topic.clone(), channel.clone()).is_none() {
            self.inbox.known.watch(&channel);
        }
        let watched = self.first_subscribe(&mut current, &topic).await;
        if watched.is_err() && self.inbox.lock().watched.remove(&topic).is_some() {
            self.inbox.known.unwatch(&channel);
        }
        *connection = Some(current);
        watched
    }

    /// Where the server has no sharded pub/sub, it is plain from then on.
    async fn first_subscribe(&mut self, connection: &mut Connection, topic: &str) -> RedisResult<()> {
        match self.subscribe(connection, topic, true).await {
            Err(error) if self.sharded && is_unknown_command(&error) => {
                self.sharded = false;
                self.subscribe(connection, topic, true).await
            }
            subscribed => subscribed,
        }
    }

    async fn subscribe(&self, connection: &mut Connection, topic: &str, on: bool) -> RedisResult<()> {
        let subscribed = timeout(self.shared.patience, connection.subscribe(topic, self.sharded, on));
        subscribed.await.unwrap_or_else(|_| Err(super::dialer::too_late()))
    }

    /// Connects and subscribes until all that is watched is heard again, or nothing is watched any more. New wishes are
    /// answered meanwhile: with an error, for a wait would hold up who joins.
    async fn again(&mut self, wishes: &mut mpsc::UnboundedReceiver<Wish>) -> Option<Connection> {
        let mut connection = None;
        let mut silent: HashSet<String> = self.inbox.lock().watched.keys().cloned().collect();
        for pause in pauses() {
            tokio::select! {
                () = self.try_again(&mut connection, &mut silent) => {}
                () = refuse(wishes) => return None,
            }
            silent.retain(|topic| self.inbox.lock().watched.contains_key(topic));
            if silent.is_empty() && connection.is_some() {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = refuse(wishes) => return None,
            }
        }
        connection
    }

    async fn try_again(&self, connection: &mut Option<Connection>, silent: &mut HashSet<String>) {
        let current = match connection {
            Some(current) => current,
            None => match self.dial().await {
                Ok(dialed) => connection.insert(dialed),
                Err(error) => {
                    tracing::debug!(%error, "no subscription to the shared state");
                    return;
                }
            },
        };
        let topics: Vec<_> = silent.iter().cloned().collect();
        let tries = stream::iter(topics).map(|topic| {
            let mut current = current.clone();
            async move { self.subscribe(&mut current, &topic, true).await.map(|()| topic) }
        });
        let tried: Vec<_> = tries.buffer_unordered(CONCURRENCY).collect().await;
        let mut heard = false;
        let mut failed = false;
        for topic in tried {
            match topic {
                Ok(topic) => {
                    silent.remove(&topic);
                    heard = true;
                }
                Err(_) => failed = true,
            }
        }
        if failed && !current.is_cluster() {
            *connection = None;
            *silent = self.inbox.lock().watched.keys().cloned().collect();
        } else if heard {
            // The servers may have lost what was said to them last, not only what they said.
            self.shared.presence.doubt_everything();
            self.inbox.queue.push(Event::Resync);
        }
    }

    async fn dial(&self) -> RedisResult<Connection> {
        let inbox = Arc::clone(&self.inbox);
        let number = inbox.current.fetch_add(1, Ordering::SeqCst) + 1;
        let push: Push = Box::new(move |info| {
            if inbox.current.load(Ordering::SeqCst) == number {
                inbox.take(&info);
            }
        });
        self.shared.dialer.dial(Some(push)).await
    }
}

/// Answers wishes while there is no connection. Ends when the subscription has.
async fn refuse(wishes: &mut mpsc::UnboundedReceiver<Wish>) {
    while let Some(wish) = wishes.recv().await {
        if let Wish::Watch(_, done) = wish {
            let _ = done.send(Err(StateError::Unavailable("the subscription is being made again".into())));
        }
    }
}

fn is_unknown_command(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.detail().is_some_and(|detail| detail.contains("unknown command"))
}
