//! The way of events from the workers to those who want them: gateways that watch, and the relay, which tells other nodes
//! the channels that have listeners here. Bounded queues throughout; who does not read loses its own stream only.
//!
//! Also knows since when a gateway is away, because the end of its stream is how one learns of it. What is done about it
//! is not decided here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast, mpsc};
use tokio_stream::Stream;
use tonic::Status;
use voiceping_engine::id::{ChannelId, GatewayId};
use voiceping_engine::{ClosedReason, GatewayEvent};
use voiceping_proto::media::v1::NodeEvent;
use voiceping_proto::media::v1::node_event::transport_closed::Reason;
use voiceping_proto::media::v1::node_event::{
    ChannelCarried, Draining, Event, FloorMediaStarted, FloorMediaStopped, Ready, Tick, TransportClosed,
    TransportConnected,
};

use crate::clock::Clock;
use crate::vitals::Vitals;

/// Events that a gateway may be behind before it is cut off. A whole node's clients may leave at once.
const QUEUE: usize = 16_384;

/// Changes of what is carried that another node may be behind.
const CHANGES: usize = 4096;

/// A channel's first listener has come, or its last one has gone.
pub(crate) type Carried = (ChannelId, bool);

/// See the module. Locked for a look-up and a push, by workers at most once for an event that is rare.
#[derive(Debug)]
pub(crate) struct Events {
    node_id: String,
    clock: Clock,
    /// How the node is. It is here because everybody who has something to say of that has this.
    pub(crate) vitals: Arc<Vitals>,
    state: Mutex<State>,
    carried: broadcast::Sender<Carried>,
    draining: Notify,
}

#[derive(Debug, Default)]
struct State {
    gateways: HashMap<GatewayId, Gateway>,
    /// How many workers have listeners on a channel.
    workers_by_channel: HashMap<ChannelId, u32>,
    drain_deadline: Option<Instant>,
    watches: u64,
}

/// A gateway that has something here, or wants to know.
#[derive(Debug)]
enum Gateway {
    Watching { watch: u64, queue: mpsc::Sender<NodeEvent> },
    Away { since: Instant },
}

impl Events {
    /// Nobody watches yet.
    pub(crate) fn new(node_id: String, clock: Clock) -> Self {
        Self {
            node_id,
            clock,
            vitals: Arc::default(),
            state: Mutex::default(),
            carried: broadcast::channel(CHANGES).0,
            draining: Notify::new(),
        }
    }

    /// Begins to watch; an earlier watch of the same gateway ends.
    pub(crate) fn watch(self: &Arc<Self>, gateway: GatewayId) -> Watch {
        let (queue, events) = mpsc::channel(QUEUE);
        let mut state = self.state();
        let ready = Ready {
            node_id: self.node_id.clone(),
            clock_ms: self.clock.now_ms(),
            channel_ids: state.workers_by_channel.keys().map(ChannelId::to_string).collect(),
        };
        let draining = state.drain_deadline.map(draining);
        for event in std::iter::once(Event::Ready(ready)).chain(draining) {
            // The queue is empty: there is room.
            let _ = queue.try_send(NodeEvent { event: Some(event) });
        }
        state.watches += 1;
        let watch = state.watches;
        state.gateways.insert(gateway.clone(), Gateway::Watching { watch, queue });
        Watch { of: Arc::clone(self), gateway, watch, events }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.state().gateways.clear();
    }

    /// Tells one gateway. One that does not watch asks for the truth when it does again.
    pub(crate) fn send(&self, gateway: &GatewayId, event: GatewayEvent) {
        let mut state = self.state();
        if let Some(known) = state.gateways.get_mut(gateway) {
            known.push(gateway, message(event));
        }
    }

    /// Tells all gateways how late it is.
    pub(crate) fn tick(&self) {
        self.state().push_to_all(Event::Tick(Tick { clock_ms: self.clock.now_ms() }));
    }

    /// A worker's first listener of a channel has come, or its last one has gone.
    pub(crate) fn listening(&self, channel: ChannelId, listening: bool) {
        let mut state = self.state();
        let workers = state.workers_by_channel.entry(channel.clone()).or_default();
        let before = *workers;
        *workers = if listening { before + 1 } else { before.saturating_sub(1) };
        if (before == 0) == (*workers == 0) {
            return;
        }
        if !listening {
            state.workers_by_channel.remove(&channel);
        }
        state
            .push_to_all(Event::ChannelCarried(ChannelCarried { channel_id: channel.to_string(), carried: listening }));
        // Nobody receives: this node is alone.
        let _ = self.carried.send((channel, listening));
    }

    /// The channels that have listeners here, and every change from now on.
    pub(crate) fn carried(&self) -> (Vec<ChannelId>, broadcast::Receiver<Carried>) {
        let state = self.state();
        (state.workers_by_channel.keys().cloned().collect(), self.carried.subscribe())
    }

    /// A gateway has a connection here. If it does not watch it is away from now on.
    pub(crate) fn met(&self, gateway: &GatewayId) {
        if let Entry::Vacant(unknown) = self.state().gateways.entry(gateway.clone()) {
            unknown.insert(Gateway::Away { since: Instant::now() });
        }
    }

    /// The gateways that have been away for this long. They are forgotten.
    pub(crate) fn forget_away(&self, grace: Duration) -> Vec<GatewayId> {
        let gone = |_: &GatewayId, gateway: &mut Gateway| match gateway {
            Gateway::Watching { .. } => false,
            Gateway::Away { since } => since.elapsed() >= grace,
        };
        self.state().gateways.extract_if(gone).map(|(id, _)| id).collect()
    }

    /// The node takes nobody new from now on, and says so.
    pub(crate) fn drain(&self, deadline: Instant) {
        let mut state = self.state();
        state.drain_deadline = Some(deadline);
        state.push_to_all(draining(deadline));
        self.draining.notify_one();
    }

    /// Waits for [`Self::drain`]. For one who waits.
    pub(crate) async fn drains(&self) {
        self.draining.notified().await;
    }

    /// Whether the node takes nobody new.
    pub(crate) fn is_draining(&self) -> bool {
        self.state().drain_deadline.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push_to_all(&mut self, event: Event) {
        for (id, gateway) in &mut self.gateways {
            gateway.push(id, event.clone());
        }
    }
}

impl Gateway {
    fn push(&mut self, id: &GatewayId, event: Event) {
        if let Self::Watching { queue, .. } = self
            && queue.try_send(NodeEvent { event: Some(event) }).is_err()
        {
            tracing::warn!(gateway = %id, "a gateway has left or does not read its events: cut off");
            *self = Self::Away { since: Instant::now() };
        }
    }
}

/// A gateway's stream of events.
#[derive(Debug)]
pub(crate) struct Watch {
    of: Arc<Events>,
    gateway: GatewayId,
    watch: u64,
    events: mpsc::Receiver<NodeEvent>,
}

impl Stream for Watch {
    type Item = Result<NodeEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(known) = self.of.state().gateways.get_mut(&self.gateway)
            && matches!(known, Gateway::Watching { watch, .. } if *watch == self.watch)
        {
            *known = Gateway::Away { since: Instant::now() };
        }
    }
}

fn draining(deadline: Instant) -> Event {
    let left = deadline.saturating_duration_since(Instant::now());
    Event::Draining(Draining { deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) })
}

fn message(event: GatewayEvent) -> Event {
    match event {
        GatewayEvent::TransportConnected(connection, transport) => Event::TransportConnected(TransportConnected {
            connection_id: connection.to_string(),
            transport_id: transport.to_string(),
        }),
        GatewayEvent::TransportClosed(connection, transport, reason) => Event::TransportClosed(TransportClosed {
            connection_id: connection.to_string(),
            transport_id: transport.to_string(),
            reason: match reason {
                ClosedReason::IceTimeout => Reason::IceTimeout,
                ClosedReason::DtlsFailed => Reason::DtlsFailed,
                ClosedReason::FingerprintMismatch => Reason::FingerprintMismatch,
                ClosedReason::CloseNotify => Reason::CloseNotify,
            }
            .into(),
        }),
        GatewayEvent::FloorMediaStarted(channel, epoch) => {
            Event::FloorMediaStarted(FloorMediaStarted { channel_id: channel.to_string(), epoch })
        }
        GatewayEvent::FloorMediaStopped(channel, epoch) => {
            Event::FloorMediaStopped(FloorMediaStopped { channel_id: channel.to_string(), epoch })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    fn events() -> Arc<Events> {
        Arc::new(Events::new("node".to_owned(), Clock::start()))
    }

    async fn next(watch: &mut Watch) -> Event {
        watch.next().await.expect("an event").expect("no error").event.expect("content")
    }

    #[tokio::test]
    async fn a_channel_is_carried_from_its_first_listener_on_any_worker_to_its_last() {
        let events = events();
        events.listening("before".into(), true);
        let mut watch = events.watch("g".into());
        let (before, mut changes) = events.carried();
        assert_eq!(before, ["before".into()]);
        for (listening, told) in [(true, true), (true, false), (false, false), (false, true)] {
            events.listening("lobby".into(), listening);
            assert_eq!(changes.try_recv().ok(), told.then(|| ("lobby".into(), listening)));
        }
        let Event::Ready(ready) = next(&mut watch).await else { panic!("ready comes first") };
        assert_eq!((ready.node_id.as_str(), ready.channel_ids), ("node", vec!["before".to_owned()]));
        for carried in [true, false] {
            let channel_id = "lobby".to_owned();
            assert_eq!(next(&mut watch).await, Event::ChannelCarried(ChannelCarried { channel_id, carried }));
        }
    }

    #[test]
    fn a_gateway_is_away_from_the_end_of_its_newest_stream() {
        let events = events();
        let first = events.watch("g".into());
        let second = events.watch("g".into());
        drop(first);
        assert_eq!(events.forget_away(Duration::ZERO), [], "the newer stream lives");
        drop(second);
        assert_eq!(events.forget_away(Duration::from_secs(60)), [], "the grace has just begun");
        assert_eq!(events.forget_away(Duration::ZERO), ["g".into()]);
        assert_eq!(events.forget_away(Duration::ZERO), [], "once");
    }

    #[test]
    fn a_gateway_that_never_watched_is_away_from_its_first_connection() {
        let events = events();
        events.met(&"g".into());
        let _watch = events.watch("h".into());
        events.met(&"h".into());
        assert_eq!(events.forget_away(Duration::ZERO), ["g".into()]);
    }

    #[tokio::test]
    async fn who_comes_while_the_node_drains_is_told() {
        let events = events();
        let mut early = events.watch("early".into());
        events.drain(Instant::now() + Duration::from_secs(60));
        let mut late = events.watch("late".into());
        for watch in [&mut early, &mut late] {
            assert!(matches!(next(watch).await, Event::Ready(_)));
            let Event::Draining(draining) = next(watch).await else { panic!("draining follows") };
            assert!((50_000..=60_000).contains(&draining.deadline_ms), "{draining:?}");
        }
    }

    #[test]
    fn a_gateway_that_does_not_read_is_cut_off() {
        let events = events();
        let _watch = events.watch("g".into());
        for _ in 0..=QUEUE {
            events.tick();
        }
        assert_eq!(events.forget_away(Duration::ZERO), ["g".into()]);
    }
}
