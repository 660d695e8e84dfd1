//! The subscriptions of other nodes to this one: checked, carried out on every worker, and taken back when they end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use voiceping_engine::Error;
use voiceping_engine::id::{ChannelId, RelayId};
use voiceping_proto::media::v1::relay_server::Relay;
use voiceping_proto::media::v1::subscribe_request::Message;
use voiceping_proto::media::v1::subscribe_response::{self, Ready};
use voiceping_proto::media::v1::{SubscribeRequest, SubscribeResponse};

use super::Mesh;
use super::hello::{MAX_CHANNELS, Subscriber};
use crate::service::check::{id, refused, stopped};
use crate::worker::Answers;

/// How long a caller may take to say hello.
const PATIENCE: Duration = Duration::from_secs(2);

#[tonic::async_trait]
impl Relay for Mesh {
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut messages = request.into_inner();
        let first = timeout(PATIENCE, messages.message())
            .await
            .map_err(|_| Status::invalid_argument("no hello has come"))??;
        let Some(SubscribeRequest { message: Some(Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message is not hello"));
        };
        let subscriber = Subscriber::check(hello, &self.inner.node_id, &self.inner.sockets)?;
        if self.inner.end.is_cancelled() {
            return Err(Status::unavailable("this node ends"));
        }
        // From here on in a task, which takes back what it has done however the caller goes.
        let (answers, stream) = mpsc::channel(1);
        self.inner.tasks.spawn(serve(self.clone(), subscriber, messages, answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn serve(
    mesh: Mesh,
    subscriber: Subscriber,
    messages: Streaming<SubscribeRequest>,
    answers: mpsc::Sender<Result<SubscribeResponse, Status>>,
) {
    let node = subscriber.node.clone();
    let (relay, replaced) = mesh.admit(&node, &subscriber.address);
    mesh.inner.events.vitals.relay(true);
    tracing::info!(%node, address = subscriber.address, "a media node subscribes");
    let ended = tokio::select! {
        ended = follow(&mesh, relay, subscriber, messages, &answers) => ended,
        () = answers.closed() => Status::cancelled("the caller has gone"),
        () = replaced.cancelled() => Status::aborted("the node has subscribed again"),
        () = mesh.inner.end.cancelled() => Status::unavailable("this node ends"),
    };
    let removed = Answers::ask(&mesh.inner.workers, move |engine, now| engine.remove_relay(now, relay));
    // Workers that have stopped relay nothing.
    let _ = removed.all().await;
    mesh.dismiss(&node, relay);
    mesh.inner.events.vitals.relay(false);
    tracing::info!(%node, why = %ended, "a media node's subscription has ended");
    // If nobody has read the first answer, nobody reads this one.
    let _ = answers.try_send(Err(ended));
}

/// Does what the subscriber says, and answers why it stopped.
async fn follow(
    mesh: &Mesh,
    relay: RelayId,
    subscriber: Subscriber,
    mut messages: Streaming<SubscribeRequest>,
    answers: &mpsc::Sender<Result<SubscribeResponse, Status>>,
) -> Status {
    match begin(mesh, relay, &subscriber).all().await {
        Err(error) => return stopped(error),
        Ok(begun) => {
            if let Some(error) = begun.into_iter().find_map(Result::err) {
                return refused(error);
            }
        }
    }
    let mut channels = subscriber.channels;
    let ready = subscribe_response::Message::Ready(Ready { node_id: mesh.inner.node_id.to_string() });
    // The queue is empty: there is room.
    let _ = answers.try_send(Ok(SubscribeResponse { message: Some(ready) }));
    loop {
        let listening = match messages.message().await {
            Ok(Some(SubscribeRequest { message: Some(Message::Listening(listening)) })) => listening,
            Ok(Some(_)) => return Status::invalid_argument("only changes follow the hello"),
            Ok(None) => return Status::ok("the caller has ended the stream"),
            Err(status) => return status,
        };
        let (channel, listening) = match id(&listening.channel_id, "channel_id") {
            Ok(channel) => (ChannelId::from(channel), listening.listening),
            Err(status) => return status,
        };
        let _ = if listening { channels.insert(channel.clone()) } else { channels.remove(&channel) };
        if channels.len() > MAX_CHANNELS {
            return Status::resource_exhausted("too many channels");
        }
        let told = Answers::of(mesh.inner.workers.iter().map(|worker| {
            let channel = channel.clone();
            worker.ask(move |engine, now, batch| {
                engine.set_relay_listening(now, &channel, relay, listening);
                if listening {
                    engine.replay_to_node(now, &channel, relay, batch);
                }
            })
        }));
        if let Err(error) = told.all().await {
            return stopped(error);
        }
    }
}

/// Tells all workers to whom to relay, and what.
fn begin(mesh: &Mesh, relay: RelayId, subscriber: &Subscriber) -> Answers<Result<(), Error>> {
    Answers::of(mesh.inner.workers.iter().enumerate().map(|(index, worker)| {
        let (out, channels) = (subscriber.relay_from(index), subscriber.channels.clone());
        worker.ask(move |engine, now, _| {
            engine.add_relay(now, relay, out)?;
            for channel in &channels {
                engine.set_relay_listening(now, channel, relay, true);
            }
            Ok(())
        })
    }))
}
