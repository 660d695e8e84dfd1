//! The relay's contract, seen by a subscriber that is no node: who is sent what, and who is refused.

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use voiceping_media_node::RelayClient;
use voiceping_proto::media::v1::subscribe_request::{Hello, Listening, Message};
use voiceping_proto::media::v1::{SubscribeRequest, SubscribeResponse, subscribe_response};
use voiceping_testkit::{Options, soon};

use crate::cluster::Cluster;
use crate::node::{CHANNEL, Node, assert_refused};

/// A subscription by hand.
struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    answers: Streaming<SubscribeResponse>,
    socket: UdpSocket,
}

/// What is in the clear of a relayed datagram.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    session: u32,
    counter: u64,
}

const SESSION: u32 = 0x0102_0304;

impl Subscriber {
    async fn subscribe(client: &RelayClient, to: &Node, spoil: impl FnOnce(&mut Hello)) -> Result<Self, Status> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let mut hello = Hello {
            node_id: "by hand".to_owned(),
            address: "127.0.0.1:1".to_owned(), // nobody is there: it cannot be subscribed to in turn
            session: SESSION,
            key: vec![7; 16],
            udp_addresses: vec![socket.local_addr()?.to_string()],
            channel_ids: Vec::new(),
            to_node_id: to.node.id().to_string(),
        };
        spoil(&mut hello);
        let (requests, stream) = mpsc::channel(16);
        let first = SubscribeRequest { message: Some(Message::Hello(hello)) };
        requests.try_send(first).expect("there is room");
        let mut answers = client.clone().subscribe(ReceiverStream::new(stream)).await?.into_inner();
        let ready = answers.message().await?.and_then(|answer| answer.message);
        let Some(subscribe_response::Message::Ready(ready)) = ready else { panic!("ready comes first: {ready:?}") };
        assert_eq!(ready.node_id, to.node.id().as_str());
        Ok(Self { requests, answers, socket })
    }

    async fn listen(&self, channel: &str, listening: bool) -> Result<()> {
        let message = Message::Listening(Listening { channel_id: channel.to_owned(), listening });
        Ok(self.requests.send(SubscribeRequest { message: Some(message) }).await?)
    }

    /// The next datagram. There is one sender only, so they come in order.
    async fn datagram(&self) -> Result<Header> {
        let mut datagram = [0; 1500];
        let (len, _) = soon("a datagram", self.socket.recv_from(&mut datagram)).await??;
        anyhow::ensure!(len > 12 + 16 && datagram[0] == 0xf0, "a sealed packet");
        let word = |range: std::ops::Range<usize>| {
            datagram[range].iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
        };
        Ok(Header { session: word(1..5) as u32, counter: word(6..12) })
    }

    /// How the stream ends.
    async fn end(&mut self) -> Result<Code> {
        let ended = soon("the end of the stream", self.answers.message()).await?;
        Ok(ended.err().context("an end with a reason")?.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_listeners_is_sent_nothing() -> Result<()> {
    let cluster = Cluster::new()?;
    let node = cluster.node(1).await?;
    let (alice, carol) = (node.member("alice"), node.member("carol"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut c = carol.listener(CHANNEL, Options::default()).await?;
    let subscriber = Subscriber::subscribe(&cluster.stranger(&node).await?, &node, |_| {}).await?;
    subscriber.listen("another channel", true).await?;

    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(10).await?;
    c.ear.hear(10).await?; // all of them have been through the worker that would relay them
    let _speaking = a.microphone.keep_speaking();
    subscriber.listen(CHANNEL, true).await?;
    for counter in 0..10 {
        assert_eq!(subscriber.datagram().await?, Header { session: SESSION, counter }, "nothing was sent before");
    }
    // When it listens again, nothing has been sent in between but what was on its way.
    subscriber.listen(CHANNEL, false).await?;
    subscriber.listen("no more of it", true).await?;
    let before = c.ear.rest().len();
    c.ear.hear(50 + before).await?;
    subscriber.listen(CHANNEL, true).await?;
    let mut last = 9;
    for _ in 0..50 {
        let counter = subscriber.datagram().await?.counter;
        assert_eq!(counter, last + 1);
        last = counter;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_relayed_to_a_node_it_does_not_relay() -> Result<()> {
    let cluster = Cluster::new()?;
    let (east, west) = (cluster.node(1).await?, cluster.node(1).await?);
    let (alice, bob) = (east.member("alice"), west.member("bob"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let b = bob.speaker(CHANNEL, 2, Options::default()).await?;
    let mut c = west.member("carol").listener(CHANNEL, Options::default()).await?;
    let listens = |hello: &mut Hello| hello.channel_ids = vec![CHANNEL.to_owned()];
    let subscriber = Subscriber::subscribe(&cluster.stranger(&west).await?, &west, listens).await?;
    east.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let speaking = a.microphone.keep_speaking();
    c.ear.hear(10).await?;
    drop(speaking);
    // The first datagram that the subscriber gets is of the node's own client.
    west.set_floor(CHANNEL, 2, Some(&bob)).await?;
    b.microphone.say(2).await?;
    for counter in 0..2 {
        assert_eq!(subscriber.datagram().await?, Header { session: SESSION, counter });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_one_subscription_and_the_newer_one_counts() -> Result<()> {
    let cluster = Cluster::new()?;
    let node = cluster.node(1).await?;
    let client = cluster.stranger(&node).await?;
    let alice = node.member("alice");
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let listens = |hello: &mut Hello| hello.channel_ids = vec![CHANNEL.to_owned()];
    let mut first = Subscriber::subscribe(&client, &node, listens).await?;
    let other = |hello: &mut Hello| (hello.node_id, hello.channel_ids) = ("other".into(), vec![CHANNEL.into()]);
    let other = Subscriber::subscribe(&client, &node, other).await?;
    let second = Subscriber::subscribe(&client, &node, listens).await?;
    assert_eq!(first.end().await?, Code::Aborted);
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(1).await?;
    second.datagram().await?;
    other.datagram().await?;
    assert!(first.socket.try_recv_from(&mut [0; 1500]).is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_the_node() -> Result<()> {
    let cluster = Cluster::new()?;
    let node = cluster.node(1).await?;
    let client = cluster.stranger(&node).await?;
    let mut subscriber = Subscriber::subscribe(&client, &node, |_| {}).await?;
    node.shutdown().await;
    assert_eq!(subscriber.end().await?, Code::Unavailable);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello_is_refused() -> Result<()> {
    let cluster = Cluster::new()?;
    let node = cluster.node(1).await?;
    let client = cluster.stranger(&node).await?;
    type Spoil = fn(&mut Hello);
    let wrong: [(Spoil, Code); 4] = [
        (|hello| hello.key.truncate(15), Code::InvalidArgument),
        (|hello| hello.udp_addresses = vec!["224.0.0.1:7".to_owned()], Code::InvalidArgument),
        (|hello| hello.node_id = hello.to_node_id.clone(), Code::InvalidArgument),
        (|hello| hello.to_node_id = "the one before".to_owned(), Code::FailedPrecondition),
    ];
    for (spoil, code) in wrong {
        let refused = Subscriber::subscribe(&client, &node, spoil).await;
        assert_refused(refused.map(|_| ()), code);
    }
    let listening = Listening { channel_id: CHANNEL.to_owned(), listening: true };
    let no_hello = tokio_stream::iter([SubscribeRequest { message: Some(Message::Listening(listening)) }]);
    assert_refused(client.clone().subscribe(no_hello).await, Code::InvalidArgument);
    // A second hello ends the subscription.
    let mut subscriber = Subscriber::subscribe(&client, &node, |_| {}).await?;
    subscriber.requests.send(SubscribeRequest { message: Some(Message::Hello(Hello::default())) }).await?;
    assert_eq!(subscriber.end().await?, Code::InvalidArgument);
    Ok(())
}
