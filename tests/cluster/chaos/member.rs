//! A scripted member: presses at random, leaves, comes back, and takes whatever happens to its socket as life.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use voiceping_testkit::signaling::Signaling;

use super::between;
use crate::phone::create_transport;
use crate::process::token;

/// What all members have met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    connected: AtomicU64,
    lost: AtomicU64,
    resumed: AtomicU64,
    granted: AtomicU64,
    denied: AtomicU64,
}

impl Tally {
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Lives until it is told to stop. Each third member is one of our own clients, which resumes its session.
pub(super) async fn live(
    number: usize,
    channel: &str,
    gateways: &[String],
    mut random: StdRng,
    stop: &CancellationToken,
    tally: &Tally,
) {
    let mut ticket = number.is_multiple_of(3).then_some(Value::Null);
    while !stop.is_cancelled() {
        let gateway = &gateways[random.random_range(0..gateways.len())];
        let outcome = tokio::select! {
            // A stopped process accepts connections and says nothing.
            outcome = once(number, channel, gateway, &mut random, &mut ticket, tally) => outcome,
            () = stop.cancelled() => return,
        };
        if outcome.is_err() {
            count(&tally.lost);
        }
        sleep(between(&mut random, 50, 500)).await;
    }
}

/// One connection, to its end.
async fn once(
    number: usize,
    channel: &str,
    gateway: &str,
    random: &mut StdRng,
    ticket: &mut Option<Value>,
    tally: &Tally,
) -> Result<()> {
    let user = format!("member{number}");
    let (url, token) = (format!("ws://{gateway}/ws"), token(&user, &[channel]));
    let connect = Signaling::connect(&url, &token);
    let mut socket = timeout(Duration::from_secs(3), Box::pin(connect)).await??;
    count(&tally.connected);
    let mut resumed = false;
    if let Some(ticket) = ticket {
        let data = if ticket.is_null() { json!({}) } else { json!({"ticket": ticket}) };
        let session = socket.ok("session", data).await?;
        resumed = session["resumed"] == true;
        *ticket = session["ticket"].clone();
        if resumed {
            count(&tally.resumed);
        }
    }
    socket.ok("join-channel", json!({"channelId": channel})).await?;
    if !resumed {
        for direction in ["send", "recv"] {
            create_transport(&mut socket, channel, direction).await?;
        }
    }
    loop {
        let pause = between(random, 100, 3000);
        read_for(&mut socket, pause, ticket).await?;
        match random.random_range(0..20) {
            0 => return Ok(()), // gone without a word
            1 => {
                if let Some(ticket) = ticket {
                    *ticket = Value::Null; // a close of its own ends the session
                }
                return socket.close().await;
            }
            2 => {
                socket.ok("leave-channel", json!({"channelId": channel})).await?;
                socket.ok("join-channel", json!({"channelId": channel})).await?;
            }
            _ => {
                let answer = socket.request("ptt-start", json!({"channelId": channel})).await?;
                if answer["type"] == "ptt-start" {
                    count(&tally.granted);
                    let talk = between(random, 100, 1200);
                    read_for(&mut socket, talk, ticket).await?;
                    socket.ok("ptt-stop", json!({"channelId": channel})).await?;
                } else {
                    count(&tally.denied);
                }
            }
        }
    }
}

/// Reads what is pushed for so long: a client that does not read is dropped.
async fn read_for(socket: &mut Signaling, time: Duration, ticket: &mut Option<Value>) -> Result<()> {
    let until = tokio::time::Instant::now() + time;
    loop {
        match tokio::time::timeout_at(until, socket.push()).await {
            Err(_) => return Ok(()),
            Ok(push) => {
                let push = push?;
                if let Some(ticket) = ticket
                    && push["type"] == "session"
                {
                    *ticket = push["data"]["ticket"].clone();
                }
            }
        }
    }
}
