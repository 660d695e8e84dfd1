//! A member's media on the independent `webrtc` crate, through the same kit that the tests meet the server with. It costs many
//! times what a lean member costs; a few among thousands show that the lean client does not agree with the server by
//! sharing its mistakes.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sdp::{Server, Stream};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::{Options, device};

use crate::figures::{Count, Time, now_ns};
use crate::hearing::Hearing;
use crate::media::Talk;
use crate::run::Run;
use crate::traffic::FRAME;
use crate::voice::Stamp;

/// See the module.
#[derive(Debug)]
pub(crate) struct Independent {
    member: u32,
    send: Option<SendTransport>,
    microphone: Option<Arc<Microphone>>,
    recv: Option<RecvTransport>,
    hearing: Option<Arc<Mutex<Hearing>>>,
    listening: Option<JoinHandle<()>>,
    talking: Option<tokio::sync::watch::Sender<bool>>,
}

impl Independent {
    pub(crate) fn new(member: u32) -> Self {
        Self { member, send: None, microphone: None, recv: None, hearing: None, listening: None, talking: None }
    }

    pub(crate) async fn open_to_send(&mut self, server: Server) -> Result<Value> {
        let send = Box::pin(SendTransport::new(server, Options::default())).await?;
        let dtls = device::dtls_parameters(send.role(), send.fingerprint());
        self.send = Some(send);
        Ok(dtls)
    }

    pub(crate) async fn microphone(&mut self) -> Result<Value> {
        let send = self.send.as_mut().context("a transport to send is opened first")?;
        let microphone = Box::pin(send.add_microphone(self.member)).await?;
        let rtp = device::rtp_parameters(&microphone);
        self.microphone = Some(Arc::new(microphone));
        Ok(rtp)
    }

    pub(crate) async fn sends(&self) -> Result<()> {
        self.send.as_ref().context("a transport to send is opened first")?.connected().await
    }

    pub(crate) async fn open_to_receive(&mut self, server: Server) -> Result<Value> {
        let recv = Box::pin(RecvTransport::new(server, Options::default())).await?;
        let dtls = device::dtls_parameters(recv.role(), recv.fingerprint());
        self.recv = Some(recv);
        Ok(dtls)
    }

    pub(crate) async fn listen(
        &mut self,
        run: &Arc<Run>,
        channel: u32,
        stream: Stream,
        hearing: Hearing,
    ) -> Result<()> {
        let recv = self.recv.as_mut().context("a transport to receive is opened first")?;
        let ear = Box::pin(recv.receive(stream)).await?;
        let hearing = Arc::new(Mutex::new(hearing));
        self.hearing = Some(Arc::clone(&hearing));
        self.listening = Some(tokio::spawn(hear(Arc::clone(run), channel, ear, hearing)));
        Ok(())
    }

    pub(crate) async fn receives(&self) -> Result<()> {
        self.recv.as_ref().context("a transport to receive is opened first")?.connected().await
    }

    pub(crate) fn there(&self, since: u64) {
        if let Some(hearing) = &self.hearing {
            hearing.lock().unwrap_or_else(PoisonError::into_inner).there(since);
        }
    }

    pub(crate) fn talk(&mut self, run: &Arc<Run>, talk: Talk) {
        let Some(microphone) = &self.microphone else { return };
        let (hush, hushed) = tokio::sync::watch::channel(false);
        self.talking = Some(hush);
        tokio::spawn(speak(Arc::clone(run), Arc::clone(microphone), talk, hushed));
    }

    pub(crate) fn hush(&mut self) {
        if let Some(talking) = self.talking.take() {
            talking.send_replace(true);
        }
    }

    pub(crate) async fn close(self) {
        // The process ends soon; the server notices a goodbye that does not come.
        if let Some(listening) = self.listening {
            listening.abort();
        }
        if let Some(send) = self.send {
            let _ = send.close().await;
        }
        if let Some(recv) = self.recv {
            let _ = recv.close().await;
        }
    }
}

/// Packets are measured when this task gets them, not when the kernel did: that the library tells nobody.
async fn hear(run: Arc<Run>, channel: u32, mut ear: Ear, hearing: Arc<Mutex<Hearing>>) {
    let mut overs = run.overs.subscribe();
    loop {
        tokio::select! {
            payload = ear.payload() => {
                let Some(payload) = payload else { return };
                let mut hearing = hearing.lock().unwrap_or_else(PoisonError::into_inner);
                hearing.packet(&payload, now_ns(), &mut run.figures.lock());
            }
            over = overs.recv() => match over {
                Ok(over) if over.channel == channel => {
                    let mut hearing = hearing.lock().unwrap_or_else(PoisonError::into_inner);
                    hearing.over(&over, &mut run.figures.lock());
                }
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
            },
        }
    }
}

async fn speak(run: Arc<Run>, microphone: Arc<Microphone>, talk: Talk, hushed: tokio::sync::watch::Receiver<bool>) {
    let mut clock = interval(FRAME);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0;
    while sent < talk.frames && !*hushed.borrow() {
        let due = clock.tick().await;
        let mut payload = run.recording.payload(sent).to_vec();
        Stamp { run: run.id, talk: talk.talk, number: sent, pressed: talk.pressed, sent: now_ns() }.write(&mut payload);
        // Fails when the transport has been closed; what is missing then is seen by those who listen.
        let _ = microphone.speak(Bytes::from(payload)).await;
        sent += 1;
        let mut figures = run.figures.lock();
        figures.add(Count::Sent, 1);
        figures.time(Time::SendLag, due.elapsed());
    }
    // The library sends from a task of its own, and does not tell when: a release at once could overtake the last packet.
    clock.tick().await;
    let _ = talk.done.send(sent); // its member may be gone
}
