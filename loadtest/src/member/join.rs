//! From nothing to a member with its media up, in the order of mediasoup-client: send, then receive.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use voiceping_testkit::device;
use voiceping_testkit::sdp::Server;

use super::media::MemberMedia;
use crate::args::Consume;
use crate::figures::{Time, now_ns};
use crate::hearing::{Hearing, NOT_YET};
use crate::media::{Side, TransportId, source};
use crate::plan::Member;
use crate::run::Run;
use crate::signaling::{Failure, Signaling};

/// A member that is all there.
pub(super) struct Joined {
    pub(super) signaling: Signaling,
    pub(super) media: MemberMedia,
    capabilities: Value,
    /// When it asked to join.
    joining_since: u64,
    /// When it was all set up, or not yet; a talk pressed later has to be heard whole.
    pub(super) there_since: u64,
}

/// Finds out whether anybody can join, and where media is. Answers what is in the way in one line.
pub(crate) async fn scout(run: &Arc<Run>, me: &Member) -> Result<(), Failure> {
    let mut signaling = connect(run, me).await?;
    let channel = run.channel(me.channel);
    signaling.request("join-channel", json!({"channelId": channel})).await?;
    let created = signaling.request("create-transport", json!({"channelId": channel, "direction": "recv"})).await?;
    server(run, &created)?;
    signaling.close().await;
    Ok(())
}

pub(super) async fn join(run: &Arc<Run>, me: &Member) -> Result<Joined, Failure> {
    let started = Instant::now();
    let signaling = connect_at_last(run, me).await?;
    run.figures.lock().time(Time::JoinSocket, started.elapsed());
    let media = MemberMedia::new(run, me);
    let capabilities = Value::Null;
    let mut joined = Joined { signaling, media, capabilities, joining_since: now_ns(), there_since: NOT_YET };
    let channel = run.channel(me.channel);
    if run.args.consume == Consume::Join {
        // The server expects of others that they consume for each talk.
        joined.request("session", json!({})).await?;
    }
    joined.request("join-channel", json!({"channelId": channel})).await?;
    let router = joined.request("get-router-capabilities", json!({"channelId": channel})).await?;
    joined.capabilities = device::rtp_capabilities(&router["routerRtpCapabilities"]).map_err(protocol)?;
    if me.microphone {
        joined.open_to_send(run, &channel).await?;
    }
    joined.open_to_receive(run, me, &channel).await?;
    Ok(joined)
}

/// Connects; where the gateway says when to come back, as often as it does. How long this may go on is the caller's to say.
pub(super) async fn connect_at_last(run: &Arc<Run>, me: &Member) -> Result<Signaling, Failure> {
    loop {
        match connect(run, me).await {
            Err(Failure { retry_after: Some(wait), kind, text, .. }) => {
                run.figures.lock().error(&format!("{kind}, tried again"), &text);
                sleep(wait).await;
            }
            connected => return connected,
        }
    }
}

async fn connect(run: &Arc<Run>, me: &Member) -> Result<Signaling, Failure> {
    let token = run.token(me).map_err(|error| Failure::new("token", format!("{error:#}")))?;
    // Each has an address of its own, as people have: a gateway limits what comes from one.
    let target = run.target(me);
    let own = target.is_local() && target.address.is_ipv4();
    let from = own.then(|| source(TransportId::new(me.number, Side::Send)).into());
    Signaling::connect(target, run.tls.clone(), from, &token).await
}

impl Joined {
    async fn request(&mut self, kind: &str, data: Value) -> Result<Value, Failure> {
        self.signaling.request(kind, data).await
    }

    async fn create(&mut self, run: &Run, channel: &str, direction: &str) -> Result<(String, Server), Failure> {
        let created = self.request("create-transport", json!({"channelId": channel, "direction": direction})).await?;
        let id = created["id"].as_str().ok_or_else(|| protocol("a transport without an id"))?.to_owned();
        Ok((id, server(run, &created)?))
    }

    async fn connect(&mut self, transport: &str, parameters: Value) -> Result<(), Failure> {
        let data = json!({"transportId": transport, "dtlsParameters": parameters});
        self.request("connect-transport", data).await.map(drop)
    }

    async fn open_to_send(&mut self, run: &Run, channel: &str) -> Result<(), Failure> {
        let (transport, server) = self.create(run, channel, "send").await?;
        let dtls = self.media.open_to_send(run, server, &self.capabilities).await?;
        self.connect(&transport, dtls).await?;
        let rtp = self.media.microphone(&self.capabilities).await?;
        let produce = json!({"transportId": transport, "kind": "audio", "rtpParameters": rtp, "channelId": channel});
        self.request("produce", produce).await?;
        self.media.sends().await
    }

    async fn open_to_receive(&mut self, run: &Arc<Run>, me: &Member, channel: &str) -> Result<(), Failure> {
        let (transport, server) = self.create(run, channel, "recv").await?;
        let dtls = self.media.open_to_receive(run, server).await?;
        self.connect(&transport, dtls).await?;
        if run.args.consume == Consume::Join {
            self.consume(run, me, &format!("floor:{channel}")).await?;
        }
        self.media.receives().await?;
        self.there_since = now_ns();
        self.media.there(self.there_since);
        Ok(())
    }

    /// Consumes a channel's floor output, for the first time or anew.
    pub(super) async fn consume(&mut self, run: &Arc<Run>, me: &Member, producer: &str) -> Result<(), Failure> {
        let channel = run.channel(me.channel);
        let data = json!({"channelId": channel, "producerId": producer, "rtpCapabilities": self.capabilities});
        let consumed = self.request("consume", data).await?;
        let stream = device::stream(&consumed).map_err(protocol)?;
        let hearing = Hearing::new(run.id, me.number, self.joining_since, self.there_since);
        self.media.listen(run, me, stream, hearing).await
    }
}

/// The server's side of a transport, with the addresses that may be sent to.
fn server(run: &Run, created: &Value) -> Result<Server, Failure> {
    let mut server = device::server(created).map_err(protocol)?;
    let offered = server.candidates.clone();
    server.candidates.retain(|candidate| run.permits(candidate.ip()));
    match server.candidates.first() {
        Some(first) => {
            run.candidates.lock().unwrap_or_else(PoisonError::into_inner).insert(*first);
            Ok(server)
        }
        None => Err(Failure::new(
            "candidates",
            format!("the server offers media at {offered:?}, which is no host of --url; allow it with --media-host"),
        )),
    }
}

fn protocol(error: impl std::fmt::Display) -> Failure {
    Failure::new("protocol", format!("{error:#}"))
}
