//! What is on its way to one client: a bounded queue that nobody ever waits for.
//!
//! Held by the hub, by the replies and by whoever may end the socket. When the queue is full the client reads too
//! slowly, and loses its connection; nobody else notices.

use std::sync::{Arc, OnceLock};

use axum::extract::ws::{CloseFrame, Utf8Bytes};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// Room for a crowd that joins at once: a push of some 300 bytes, shared between all who get it, for each of them.
const CAPACITY: usize = 1024;

/// Sends to one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Utf8Bytes>,
    closing: Arc<Closing>,
}

#[derive(Debug, Default)]
struct Closing {
    why: OnceLock<Close>,
    started: CancellationToken,
}

/// Why a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// The client has gone, or its connection broke.
    Gone,
    /// It reads too slowly.
    TooSlow,
    /// It did not answer the last ping.
    Dead,
    /// A frame over the size limit.
    TooBig,
    /// A binary frame.
    Binary,
    /// A frame that WebSocket does not allow.
    Protocol,
    /// Its token expired.
    Expired,
    /// This gateway shuts down.
    Drain,
    /// The client has said goodbye itself.
    Left,
    /// Its media node ends, and it is a client that cannot move.
    MediaMoved,
    /// The client has resumed its session over another socket.
    Superseded,
}

impl Close {
    /// The frame that says so, where there may be somebody to read it. Never 1000: existing clients would not reconnect.
    pub(crate) fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone | Self::Dead | Self::Left => return None,
            Self::Protocol => (1002, "Protocol error"),
            Self::Binary => (1003, "Text frames only"),
            Self::TooBig => (1009, "Message too big"),
            Self::Drain => (1012, "Service restart"),
            Self::MediaMoved => (1012, "Media restart"),
            Self::TooSlow => (1013, "Too slow"),
            Self::Expired => (4001, "Token expired"),
            Self::Superseded => (4002, "Resumed elsewhere"),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }

    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::TooSlow => "too_slow",
            Self::Dead => "dead",
            Self::TooBig => "too_big",
            Self::Binary => "binary",
            Self::Protocol => "protocol",
            Self::Expired => "expired",
            Self::Drain => "drain",
            Self::Left => "left",
            Self::MediaMoved => "media_moved",
            Self::Superseded => "superseded",
        }
    }

    /// May the queue still be written before the frame?
    pub(crate) fn is_orderly(self) -> bool {
        !matches!(self, Self::Gone | Self::Dead | Self::Left | Self::TooSlow)
    }

    /// May a client of ours come back and go on? Not if it left, or if we would not have it any more.
    pub(crate) fn is_resumable(self) -> bool {
        matches!(self, Self::Gone | Self::Dead | Self::TooSlow | Self::Superseded | Self::Drain)
    }
}

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Utf8Bytes>) {
        let (queue, receiver) = mpsc::channel(CAPACITY);
        (Self { queue, closing: Arc::default() }, receiver)
    }

    /// Queues a message, or ends the socket if it is too far behind.
    pub(crate) fn send(&self, text: Utf8Bytes) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(text) {
            self.close(Close::TooSlow);
        }
    }

    /// Ends the socket. The first reason counts.
    pub(crate) fn close(&self, why: Close) {
        if self.closing.why.set(why).is_ok() {
            self.closing.started.cancel();
        }
    }

    /// Waits until somebody ends the socket.
    pub(crate) async fn closed(&self) -> Close {
        self.closing.started.cancelled().await;
        *self.closing.why.get().expect("it is set before the token is cancelled")
    }

    /// Does it lead to the same socket?
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.closing, &other.closing)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.started.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_falls_behind_loses_its_connection() {
        let (outbox, _queue) = Outbox::new();
        for _ in 0..CAPACITY {
            outbox.send("x".into());
            assert!(!outbox.is_closed());
        }
        outbox.send("x".into());
        outbox.close(Close::Drain);
        assert_eq!(outbox.closed().await, Close::TooSlow);
    }

    #[test]
    fn no_close_code_keeps_existing_clients_from_reconnecting() {
        let closes = [Close::TooSlow, Close::TooBig, Close::Binary, Close::Protocol, Close::Expired, Close::Drain];
        for close in closes.into_iter().chain([Close::MediaMoved, Close::Superseded]) {
            assert_ne!(close.frame().expect("a frame").code, 1000);
        }
    }
}
