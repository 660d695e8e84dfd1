//! The floor under a push to many: as many bare writes of as many bytes to as many sockets of this machine, in the same run.
//!
//! One thread writes, and this tool reads as it reads its members' sockets, without the WebSockets: what the push takes
//! beyond that is the deployment's, and the WebSockets' in this tool.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// A `speaker-changed` of this tool's members in its frame.
const BYTES: usize = 190;

const ROUNDS: usize = 20;

/// Between two rounds, as between talks: nothing is in a hurry.
const PAUSE: Duration = Duration::from_millis(100);

/// For one round. A machine that takes longer has other troubles.
const PATIENCE: Duration = Duration::from_secs(5);

/// One round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// From the first write until the last socket has read.
    pub(crate) last: Duration,
    /// CPU time of the writing thread for each write.
    pub(crate) cpu: Duration,
}

#[derive(Debug, Default)]
struct Reading {
    left: AtomicUsize,
    all: Notify,
}

/// Writes to so many sockets, round by round. No rounds: it cannot be measured here.
pub(crate) async fn measure(sockets: usize) -> Vec<Round> {
    if sockets == 0 {
        return Vec::new();
    }
    let reading = Arc::new(Reading::default());
    let Ok(mut writers) = connect(sockets, &reading).await else { return Vec::new() };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        sleep(PAUSE).await;
        reading.left.store(sockets, Ordering::Relaxed);
        let (began, all) = (Instant::now(), reading.all.notified());
        let written = tokio::task::spawn_blocking(move || (write(&mut writers), writers));
        if timeout(PATIENCE, all).await.is_err() {
            return rounds;
        }
        let last = began.elapsed();
        let Ok((Some(cpu), back)) = written.await else { return rounds };
        rounds.push(Round { last, cpu: cpu / u32::try_from(sockets).unwrap_or(u32::MAX).max(1) });
        writers = back;
    }
    rounds
}

/// The writing ends; each other end has a task that reads.
async fn connect(sockets: usize, reading: &Arc<Reading>) -> std::io::Result<Vec<StdStream>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut writers = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (reader, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (reader, (writer, _)) = (reader?, accepted?);
        writer.set_nodelay(true)?;
        writers.push(writer.into_std()?);
        tokio::spawn(read(reader, Arc::clone(reading)));
    }
    Ok(writers)
}

/// Until the writing end is dropped.
async fn read(mut stream: TcpStream, reading: Arc<Reading>) {
    let mut text = [0; BYTES];
    while stream.read_exact(&mut text).await.is_ok() {
        if reading.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            reading.all.notify_one();
        }
    }
}

/// One to each. Answers the CPU time of them all.
fn write(writers: &mut [StdStream]) -> Option<Duration> {
    let before = cpu()?;
    for writer in writers {
        // A few hundred bytes into an empty buffer: it never waits.
        writer.write_all(&[b'x'; BYTES]).ok()?;
    }
    Some(cpu()?.saturating_sub(before))
}

/// As [`super::cpu`], up to now: the kernel counts what a thread has used when another may run.
fn cpu() -> Option<Duration> {
    std::thread::yield_now();
    super::cpu()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn every_round_reaches_every_socket() {
        let rounds = measure(8).await;
        assert_eq!(rounds.len(), ROUNDS);
        assert!(rounds.iter().all(|round| !round.last.is_zero() && !round.cpu.is_zero()), "{rounds:?}");
    }
}
