//! One WebSocket: an actor with a reading and a writing half in one task.
//!
//! The reading half handles messages in the order they arrive, one at a time, and never stops in the middle of one. The
//! writing half empties a bounded queue and pings. Started by the handshake; what a message means is the requests'
//! business.

mod outbox;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};

pub(crate) use outbox::{Close, Outbox};

use crate::metrics;
use crate::request;
use crate::session::Session;

/// The longest message of a client. The largest real ones, `produce` and `consume`, are a few kilobytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// The library gives up on a longer frame without reading it, and a connection that is closed with data unread is
/// reset: the client might not see why. What is somewhat over our limit is read and refused in good order.
const MAX_READ: usize = 4 * MAX_MESSAGE;

/// Room for frames on their way in and out. The library's 128 KiB each, for every socket, would be most of a gateway's
/// memory.
const BUFFER: usize = 4 * 1024;

/// A client that takes nothing for this long, however little, is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Time for the last frames, and then for the client's own close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Messages that are written with one flush.
const BATCH: usize = 64;

/// Sets the limits of a handshake.
pub(crate) fn limit(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MAX_READ).max_frame_size(MAX_READ).read_buffer_size(BUFFER).write_buffer_size(BUFFER)
}

/// Serves one socket until it ends.
pub(crate) async fn serve(socket: WebSocket, session: Session, mut queue: mpsc::Receiver<Utf8Bytes>) {
    let outbox = session.outbox().clone();
    let ping_interval = session.gateway().config.ping_interval;
    let (mut sink, mut stream) = socket.split();
    let alive = AtomicBool::new(true);
    let ((), why) = tokio::join!(
        read(&mut stream, session, &outbox, &alive),
        write(&mut sink, &mut queue, &outbox, &alive, ping_interval),
    );
    metrics::closed(why);
    // Both halves have ended. Where we said why, the client is given the time to answer: a connection that is closed with
    // data unread is reset, and the client might never see the close code.
    if why.frame().is_some() {
        let rest = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = timeout(CLOSE_PATIENCE, rest).await;
    }
}

/// Takes the session with it: when this half ends, the session is parked or its clean-up begins.
async fn read(stream: &mut SplitStream<WebSocket>, mut session: Session, outbox: &Outbox, alive: &AtomicBool) {
    let mut said_goodbye = false;
    loop {
        tokio::select! {
            biased;
            why = outbox.closed() => return session.end(why),
            () = sleep_until(session.next_look_at_token()) => session.look_at_token(),
            () = until(session.late_entries().next()) => session.send_late_entries(),
            () = until(session.next_ticket()) => session.send_ticket(),
            frame = stream.next() => match frame {
                Some(Ok(frame)) => {
                    alive.store(true, Ordering::Relaxed);
                    match frame {
                        Message::Text(text) if text.len() > MAX_MESSAGE => outbox.close(Close::TooBig),
                        // In a box of its own: it is larger than all the rest of a socket's task, and rarely there.
                        Message::Text(text) => Box::pin(request::handle(&mut session, &text)).await,
                        Message::Binary(_) => outbox.close(Close::Binary),
                        // The library answers both. After the client's close the stream ends.
                        Message::Close(frame) => said_goodbye = is_goodbye(frame.as_ref()),
                        Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
                Some(Err(error)) => outbox.close(why_broken(error)),
                None => outbox.close(if said_goodbye { Close::Left } else { Close::Gone }),
            }
        }
    }
}

async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    queue: &mut mpsc::Receiver<Utf8Bytes>,
    outbox: &Outbox,
    alive: &AtomicBool,
    ping_interval: Duration,
) -> Close {
    let mut ping = interval_at(Instant::now() + ping_interval, ping_interval);
    let mut batch = VecDeque::new();
    let why = loop {
        tokio::select! {
            biased;
            why = outbox.closed() => break why,
            _ = ping.tick() => {
                if alive.swap(false, Ordering::Relaxed) {
                    batch.push_back(Message::Ping(Default::default()));
                } else {
                    outbox.close(Close::Dead);
                }
            }
            text = queue.recv() => batch.extend(text.map(Message::Text)),
        }
        while batch.len() < BATCH
            && let Ok(text) = queue.try_recv()
        {
            batch.push_back(Message::Text(text));
        }
        tokio::select! {
            biased;
            why = outbox.closed() => break why,
            written = timeout(WRITE_PATIENCE, write_all(sink, &mut batch)) => match written {
                Ok(Ok(())) => {}
                Ok(Err(_)) => outbox.close(Close::Gone),
                Err(_) => outbox.close(Close::Dead),
            },
        }
    };
    if let Some(frame) = why.frame() {
        if why.is_orderly() {
            batch.extend(std::iter::from_fn(|| queue.try_recv().ok()).map(Message::Text));
        } else {
            batch.clear();
        }
        batch.push_back(Message::Close(Some(frame)));
        // Whether it arrives is the client's affair.
        let _ = timeout(CLOSE_PATIENCE, write_all(sink, &mut batch)).await;
    }
    why
}

/// A message leaves the batch when the library takes it into its buffer: giving this up half-way loses nothing.
async fn write_all(sink: &mut SplitSink<WebSocket, Message>, batch: &mut VecDeque<Message>) -> Result<(), axum::Error> {
    while !batch.is_empty() {
        poll_fn(|context| sink.poll_ready_unpin(context)).await?;
        if let Some(message) = batch.pop_front() {
            sink.start_send_unpin(message)?;
        }
    }
    sink.flush().await
}

/// A client that closes its socket in order, or whose page is closed, does not come back to its session (RFC 6455 section
/// 7.4.1). Any other code says that something was wrong with the socket.
fn is_goodbye(frame: Option<&CloseFrame>) -> bool {
    frame.is_none_or(|frame| matches!(frame.code, 1000 | 1001))
}

fn why_broken(error: axum::Error) -> Close {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    let close = match error.into_inner().downcast_ref::<Error>() {
        Some(Error::Capacity(_)) => Close::TooBig,
        // Its network went, or its process: no word that was wrong.
        Some(Error::Protocol(ResetWithoutClosingHandshake)) => Close::Gone,
        Some(Error::Protocol(_) | Error::Utf8(_)) => Close::Protocol,
        _ => Close::Gone,
    };
    tracing::debug!(?close, "a socket broke");
    close
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
