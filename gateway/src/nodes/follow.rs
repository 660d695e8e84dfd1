//! Follows the registry of nodes, and each node's events: one task for the one, one for each of the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use voiceping_proto::media::v1::node_event::Event;
use voiceping_proto::media::v1::{NodeEvent, WatchEventsRequest};
use voiceping_state::{Node, NodeId, NodeWatch};

use super::events;
use super::handle::{Lost, NodeHandle};
use crate::moving;
use crate::shared::Shared;

/// How often the registry is read.
const EVERY: Duration = Duration::from_secs(1);

/// Events that ended may be there again within this time, before the node counts as lost.
const AWAY: Duration = Duration::from_millis(750);

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A node that says nothing at all is not waited for longer than this, and asked again.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Follows the registry until the gateway ends.
pub(crate) async fn follow(gateway: &Arc<Shared>, end: CancellationToken) {
    let mut registry = NodeWatch::new(gateway.store.clone(), EVERY);
    let (mut tasks, mut followed) = (JoinSet::new(), HashMap::new());
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            // What comes first is the registry as it is now.
            () = gateway.nodes.wanted.notified() => {}
            nodes = registry.next() => registered(gateway, &nodes, &mut tasks, &mut followed),
            Some(ended) = tasks.join_next() => match ended {
                Ok(id) => drop(followed.remove(&id)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }
}

type Followed = HashMap<NodeId, CancellationToken>;

fn registered(gateway: &Arc<Shared>, nodes: &[Node], tasks: &mut JoinSet<NodeId>, followed: &mut Followed) {
    let by_id: HashMap<_, _> = nodes.iter().map(|node| (&node.id, node)).collect();
    for handle in gateway.nodes.all() {
        handle.describe(by_id.get(handle.id()).copied());
        // One whose events have come is there until they end, whatever the registry says.
        if !handle.is_registered()
            && !handle.was_ready()
            && let Some(task) = followed.get(handle.id())
        {
            task.cancel();
        }
    }
    for node in nodes.iter().filter(|node| !followed.contains_key(&node.id)).cloned().collect::<Vec<_>>() {
        if let Some(handle) = gateway.nodes.meet(&node) {
            let stop = CancellationToken::new();
            followed.insert(node.id, stop.clone());
            tasks.spawn(follow_node(Arc::clone(gateway), handle, stop));
        }
    }
}

/// Follows one node until it is lost and in the registry no more.
async fn follow_node(gateway: Arc<Shared>, first: Arc<NodeHandle>, stop: CancellationToken) -> NodeId {
    let mut handle = first;
    loop {
        let lost = tokio::select! {
            lost = live(&gateway, &handle) => lost,
            () = stop.cancelled() => Lost::Silent,
        };
        handle.lose(lost);
        moving::node_lost(&gateway, &handle, lost);
        // What was there is not there any more. What answers from now on is met as if it were new.
        let again = handle.is_registered() && !stop.is_cancelled();
        let node = handle.described();
        gateway.nodes.forget(&handle);
        handle = match again.then(|| gateway.nodes.meet(&node)).flatten() {
            Some(again) => again,
            None => return node.id,
        };
        sleep(SHORTEST_PAUSE).await;
    }
}

/// Follows the events of one life of a node; answers how it ended.
async fn live(gateway: &Arc<Shared>, handle: &Arc<NodeHandle>) -> Lost {
    let mut broke: Option<Instant> = None;
    let mut pause = pauses();
    loop {
        let first_word = broke.map_or_else(|| Instant::now() + FIRST_WORD, |broke| broke + AWAY);
        let ended = match subscribe(gateway, handle, first_word).await {
            Ok(mut stream) => {
                pause = pauses();
                let ended = read(gateway, handle, &mut stream).await;
                broke = Some(Instant::now());
                handle.away();
                ended
            }
            Err(NotReady::Another) => {
                handle.describe(None);
                return Lost::Gone;
            }
            Err(NotReady::Failed(status)) => status,
        };
        tracing::debug!(node = %handle.id(), why = %ended, "a media node's events ended; subscribing again");
        if let Some(broke) = broke {
            if voiceping_rpc::is_refused(&ended) {
                return Lost::Gone;
            }
            if broke.elapsed() >= AWAY {
                return Lost::Silent;
            }
            sleep(SHORTEST_PAUSE.min(AWAY.saturating_sub(broke.elapsed()))).await;
        } else {
            sleep(pause.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

/// Why a node's events do not flow.
enum NotReady {
    /// At its address is another process, or another life of it.
    Another,
    Failed(Status),
}

/// Subscribes, and waits for the first word.
async fn subscribe(
    gateway: &Shared,
    handle: &Arc<NodeHandle>,
    until: Instant,
) -> Result<Streaming<NodeEvent>, NotReady> {
    let first_word = async {
        let request = WatchEventsRequest { gateway_id: gateway.id.clone() };
        let mut stream = handle.call(|mut node| async move { node.watch_events(request).await }).await?;
        match stream.message().await? {
            Some(NodeEvent { event: Some(Event::Ready(ready)) }) => Ok((stream, ready)),
            _ => Err(Status::internal("the first event is not the one that it should be")),
        }
    };
    let no_word = |_| Err(Status::deadline_exceeded("the media node said nothing in time"));
    let (stream, ready) = timeout_at(until, first_word).await.unwrap_or_else(no_word).map_err(NotReady::Failed)?;
    if ready.node_id != handle.id().as_str() {
        return Err(NotReady::Another);
    }
    tracing::info!(node = %handle.id(), "a media node is ready");
    handle.ready(ready.clock_ms, ready.channel_ids.into_iter().map(Into::into).collect());
    gateway.floors.media_unknown(handle);
    Ok(stream)
}

/// Reads a stream to its end; answers why it ended.
async fn read(gateway: &Arc<Shared>, handle: &Arc<NodeHandle>, stream: &mut Streaming<NodeEvent>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(NodeEvent { event: Some(event) })) => events::take(gateway, handle, event),
            // Of a newer node.
            Ok(Some(NodeEvent { event: None })) => {}
            Ok(None) => return Status::ok("the node ended the stream"),
            Err(status) => return status,
        }
    }
}
