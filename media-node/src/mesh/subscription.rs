//! Our subscription to another node: made, told what changes here, and made again when it breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use voiceping_engine::RelayKey;
use voiceping_engine::id::ChannelId;
use voiceping_proto::media::v1::subscribe_request::{Hello, Listening, Message};
use voiceping_proto::media::v1::{SubscribeRequest, SubscribeResponse, subscribe_response};
use voiceping_state::NodeId;

use super::Mesh;
use crate::events::Carried;
use crate::service::check::stopped;
use crate::worker::Answers;

/// Between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the other node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages that may be on their way to the other node. What is behind that waits in the queue of changes.
const QUEUE: usize = 64;

/// Holds a subscription to a node for as long as it is wanted.
pub(super) async fn keep(mesh: Mesh, node: NodeId, address: String) {
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times();
    let mut pause = pauses.build();
    let mut warned = false;
    loop {
        let mut was_ready = false;
        // When the node ends, its workers do: nobody has to take anything back from them.
        let ended = tokio::select! {
            ended = subscribe(&mesh, &node, &address, &mut was_ready) => ended,
            () = mesh.inner.end.cancelled() => return,
        };
        if !mesh.ended(&node) {
            tracing::info!(%node, "a media node is gone");
            return;
        }
        if was_ready {
            pause = pauses.build();
        }
        if was_ready || !warned {
            tracing::warn!(%node, address, why = %ended, "talks from a media node cannot be heard here; trying again");
        }
        warned = true;
        tokio::select! {
            () = sleep(pause.next().unwrap_or(LONGEST_PAUSE)) => {}
            () = mesh.inner.end.cancelled() => return,
        }
    }
}

/// Subscribes under a fresh key until the stream ends, and answers why it did.
async fn subscribe(mesh: &Mesh, node: &NodeId, address: &str, was_ready: &mut bool) -> Status {
    let session = mesh.inner.next_session.fetch_add(1, Ordering::Relaxed);
    let key: [u8; 16] = rand::random();
    if let Err(error) = accept(mesh, session, key).all().await {
        return stopped(error);
    }
    let (channels, changes) = mesh.inner.events.carried();
    let ended = match open(mesh, node, address, session, key, &channels).await {
        Err(status) => status,
        Ok((requests, answers)) => {
            *was_ready = true;
            mesh.ready(node);
            tracing::info!(%node, address, session, "subscribed to a media node");
            tokio::select! {
                ended = until_end(answers) => ended,
                ended = tell(changes, requests) => ended,
            }
        }
    };
    let refused = Answers::ask(&mesh.inner.workers, move |engine, _| engine.refuse_relay(session));
    // Workers that have stopped accept nothing.
    let _ = refused.all().await;
    ended
}

/// Tells each worker the key, and that it is the one with its index among those that the other node is told of.
fn accept(mesh: &Mesh, session: u32, key: [u8; 16]) -> Answers<()> {
    Answers::of(mesh.inner.workers.iter().enumerate().map(|(index, worker)| {
        worker.ask(move |engine, _, _| engine.accept_relay(session, index as u8, RelayKey::new(key)))
    }))
}

type Open = (mpsc::Sender<SubscribeRequest>, Streaming<SubscribeResponse>);

/// Opens the stream, and waits until the other node is ready to relay.
async fn open(
    mesh: &Mesh,
    node: &NodeId,
    address: &str,
    session: u32,
    key: [u8; 16],
    channels: &[ChannelId],
) -> Result<Open, Status> {
    let own = mesh.inner.own.get().ok_or_else(|| Status::internal("this node has not joined"))?;
    let mut client = (own.dial)(address).map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let hello = Hello {
        node_id: mesh.inner.node_id.to_string(),
        address: own.address.clone(),
        session,
        key: key.to_vec(),
        udp_addresses: own.udp_addresses.iter().map(ToString::to_string).collect(),
        channel_ids: channels.iter().map(ToString::to_string).collect(),
        to_node_id: node.to_string(),
    };
    let (requests, stream) = mpsc::channel(QUEUE);
    // The queue is empty: there is room.
    let _ = requests.try_send(SubscribeRequest { message: Some(Message::Hello(hello)) });
    let answered = async {
        let mut answers = client.subscribe(ReceiverStream::new(stream)).await?.into_inner();
        match answers.message().await? {
            Some(SubscribeResponse { message: Some(subscribe_response::Message::Ready(_)) }) => Ok(answers),
            _ => Err(Status::internal("the first answer is not ready")),
        }
    };
    let answers = timeout(PATIENCE, answered)
        .await
        .map_err(|_| Status::deadline_exceeded("the media node did not answer in time"))??;
    Ok((requests, answers))
}

/// Nothing more is expected of the other node than that it is there.
async fn until_end(mut answers: Streaming<SubscribeResponse>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(_)) => {} // of a newer node
            Ok(None) => return Status::ok("the node ended the stream"),
            Err(status) => return status,
        }
    }
}

/// Passes on which channels have listeners here.
async fn tell(mut changes: broadcast::Receiver<Carried>, requests: mpsc::Sender<SubscribeRequest>) -> Status {
    loop {
        let (channel, listening) = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => return Status::resource_exhausted("the media node does not read"),
            Err(RecvError::Closed) => return Status::cancelled("this node ends"),
        };
        let message = Message::Listening(Listening { channel_id: channel.to_string(), listening });
        if requests.send(SubscribeRequest { message: Some(message) }).await.is_err() {
            return Status::unavailable("the stream has ended");
        }
    }
}
