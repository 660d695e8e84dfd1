//! Workers that are behind: what waits in the socket and in the rings when a talk ends is heard, and nothing is heard of one
//! that was taken. A worker is made to be behind by a command that does not return until the test lets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use voiceping_engine::{Error, NewHolder};
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::path::{Kind, Path, Way};
use voiceping_testkit::{Options, soon, voice};

use super::{Answers, home};
use crate::io::BATCH;
use crate::service::FloorChange;
use crate::test_node::{CHANNEL, GATEWAY, Listener, Member, Node, Speaker};

const ALICE: u32 = 1;

/// More than a worker takes from its socket in one turn, and few enough for a socket with the system's usual buffer.
const BEHIND: u32 = BATCH as u32 + 30;

/// Holds a worker up until the answer is dropped.
async fn hold_up(node: &Node, worker: usize) -> Result<mpsc::Sender<()>> {
    let (release, held) = mpsc::channel();
    let (stopped, has_stopped) = tokio::sync::oneshot::channel();
    node.node.workers[worker].ask(move |_, _, _| {
        // Nobody listens if the test has failed already.
        let _ = stopped.send(());
        let _ = held.recv();
    })?;
    soon("the worker", has_stopped).await??;
    Ok(release)
}

/// A speaker whose voice is counted on its way to the node.
async fn counted_speaker(member: &Member) -> Result<(Path, Speaker, Arc<AtomicUsize>)> {
    let (transport, mut server) = member.create_transport(Direction::Send).await?;
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let passes = move |way, datagram: &[u8]| {
        if way == Way::Up && matches!(Kind::of(datagram), Kind::Rtp { .. }) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        true
    };
    let path = Path::open(server.candidates[0], passes).await?;
    server.candidates = vec![path.address()];
    let speaker = member.speaker_over(transport, server, CHANNEL, ALICE, Options::default()).await?;
    Ok((path, speaker, count))
}

/// Speaks at once what a worker that is behind has before it, and one frame more, which shows that the others are in its
/// socket.
async fn speak_into_socket(speaker: &Speaker, count: &AtomicUsize) -> Result<u32> {
    let first = speaker.microphone.spoken();
    let until = count.load(Ordering::SeqCst) + BEHIND as usize + 1;
    for number in first..=first + BEHIND {
        speaker.microphone.speak(voice::frame(ALICE, number)).await?;
    }
    let arrived = async {
        while count.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(1)).await; // looks again; what it waits for is the count
        }
    };
    soon("the packets at the node", arrived).await?;
    Ok(first)
}

async fn hear(listener: &mut Listener, first: u32, count: u32) -> Result<()> {
    let heard = listener.ear.hear(count as usize).await?;
    let numbers: Vec<u32> = heard.iter().map(|packet| packet.number).collect();
    assert_eq!(numbers, (first..first + count).collect::<Vec<_>>());
    Ok(())
}

/// Members of one node, of which the first speaks and the second listens, on these workers.
fn members(node: &Node, workers: usize, homes: [usize; 2]) -> Result<[Member; 2]> {
    let mut names = (0..).map(|number| format!("member {number}"));
    let mut on = |worker| {
        let name = names.find(|name| home(&name.as_str().into(), workers) == worker);
        name.map(|name| node.member(&name)).context("names do not end")
    };
    Ok([on(homes[0])?, on(homes[1])?])
}

/// Queues a change of the floor on all workers.
fn change(node: &Node, epoch: u64, change: FloorChange) -> Answers<Result<bool, Error>> {
    node.node.service.change_floor(CHANNEL.into(), epoch, change)
}

fn open(holder: &Member) -> FloorChange {
    let valid_until = Instant::now() + Duration::from_secs(3600);
    let connection = holder.connection.as_str().into();
    FloorChange::Open(NewHolder { connection, gateway: GATEWAY.into(), valid_until })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_what_was_in_the_socket_before_it() -> Result<()> {
    let node = Node::start(1).await?;
    let [alice, bob] = members(&node, 1, [0, 0])?;
    let (_path, speaker, count) = counted_speaker(&alice).await?;
    let mut listener = bob.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;

    let behind = hold_up(&node, 0).await?;
    let first = speak_into_socket(&speaker, &count).await?;
    let released = change(&node, 1, FloorChange::Release(None));
    drop(behind);
    hear(&mut listener, first, BEHIND).await?;
    assert_eq!(released.all().await?, [Ok(false)], "it is closed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_is_taken_is_silent_at_once_whatever_waits_in_the_socket() -> Result<()> {
    for taken in [true, false] {
        let node = Node::start(1).await?;
        let [alice, bob] = members(&node, 1, [0, 0])?;
        let (_path, speaker, count) = counted_speaker(&alice).await?;
        let mut listener = bob.listener(CHANNEL, Options::default()).await?;
        node.set_floor(CHANNEL, 1, Some(&alice)).await?;

        let behind = hold_up(&node, 0).await?;
        let first = speak_into_socket(&speaker, &count).await?;
        // A release that waits is overtaken by one who interrupts, and by a gateway that closes.
        let released = change(&node, 1, FloorChange::Release(None));
        let closed = change(&node, 2, if taken { open(&bob) } else { FloorChange::Close(None) });
        drop(behind);
        assert_eq!(closed.all().await?, [Ok(false)]);
        assert!(matches!(released.all().await?[..], [Err(Error::Conflict(_))]), "its epoch is over");

        node.set_floor(CHANNEL, 3, Some(&alice)).await?;
        let next = speaker.microphone.say(1).await?;
        let mut heard = Vec::new();
        while heard.last() != Some(&next) {
            heard.push(listener.ear.next().await?.number);
        }
        // What the worker took in before it came to the command was said while the gate was open.
        assert!(heard.len() <= BATCH + 1, "{heard:?}");
        assert!(heard[..heard.len() - 1].iter().all(|number| *number < first + BATCH as u32), "{heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_ring_is_heard_before_the_next_talk_begins() -> Result<()> {
    let node = Node::start(2).await?;
    let [alice, bob] = members(&node, 2, [0, 1])?;
    let (_path, speaker, count) = counted_speaker(&alice).await?;
    let mut listener = bob.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    speaker.microphone.say(1).await?;
    hear(&mut listener, 0, 1).await?;

    // The listener's worker is behind; the speaker's is not.
    let behind = hold_up(&node, 1).await?;
    let first = speak_into_socket(&speaker, &count).await?;
    let released = change(&node, 1, FloorChange::Release(None));
    // A gateway opens no gate before the other is closed at the speaker's worker.
    while node.node.workers[0].call(|engine, _, _| engine.has_holder(&CHANNEL.into())).await? {}
    let next = change(&node, 2, open(&alice));
    drop(behind);
    hear(&mut listener, first, BEHIND).await?;
    assert_eq!(released.all().await?, [Ok(false), Ok(false)]);
    assert_eq!(next.all().await?, [Ok(false), Ok(false)]);
    Ok(())
}
