//! What all members of one run share.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::args::{Args, SrtpProfile};
use crate::figures::{Count, Figures, Recorder, Time, between, now_ns};
use crate::hearing::Over;
use crate::media::Media;
use crate::plan::Member;
use crate::target::Target;
use crate::voice::Recording;

/// How long after a talk its packets may arrive and still be counted: longer than anybody would wait for them.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Ends of talks that a member of the independent client may be behind by.
const OVERS: usize = 4096;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Members join.
    Joining,
    /// Speakers press and talk; those who are late join.
    Talking,
    /// Talks are brought to their end.
    Ending,
    /// Members leave.
    Leaving,
}

/// A member's last press.
#[derive(Debug, Default)]
struct Press {
    at: AtomicU64,
    /// When the first was told; 0: nobody was.
    first_told: AtomicU64,
    /// When the last of those was told who were told so far; 0: nobody was.
    last_told: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) args: Args,
    pub(crate) targets: Vec<Target>,
    /// Tells this run's users and packets from another's.
    pub(crate) id: u32,
    pub(crate) seed: u64,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) media: Media,
    /// For the independent members; the lean ones have theirs in the media threads.
    pub(crate) recording: Recording,
    /// What is measured outside of the media threads.
    pub(crate) figures: Recorder,
    /// When each member with media pressed last.
    presses: Vec<Press>,
    pub(crate) talks: AtomicU32,
    /// Talks that go on.
    pub(crate) talking: AtomicU32,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) overs: broadcast::Sender<Over>,
    pub(crate) tasks: TaskTracker,
    /// Where the server's media is.
    pub(crate) candidates: Mutex<HashSet<SocketAddr>>,
    key: EncodingKey,
}

impl Run {
    pub(crate) fn new(args: Args, targets: Vec<Target>, phase: watch::Receiver<Phase>) -> Result<Self> {
        let secret = args.jwt_secret.expose_secret();
        ensure!(!secret.is_empty(), "--jwt-secret is empty");
        let (id, seed) = (rand::random(), args.seed.unwrap_or_else(|| rand::random::<u32>().into()));
        let tls = targets.iter().any(Target::is_secure).then(tls).transpose()?;
        Ok(Self {
            id,
            seed,
            tls,
            media: Media::start(id, args.threads(), args.members, args.srtp_profile.map(SrtpProfile::profile))?,
            recording: Recording::embedded(),
            figures: Recorder::default(),
            presses: (0..args.members).map(|_| Press::default()).collect(),
            talks: AtomicU32::new(1),
            talking: AtomicU32::new(0),
            phase,
            overs: broadcast::channel(OVERS).0,
            tasks: TaskTracker::new(),
            candidates: Mutex::default(),
            key: EncodingKey::from_secret(secret.as_bytes()),
            args,
            targets,
        })
    }

    /// The name of a channel. The same for every run, so that runs on several machines meet.
    pub(crate) fn channel(&self, number: u32) -> String {
        format!("loadtest-{number}")
    }

    /// The id of a member's user.
    pub(crate) fn user(&self, member: u32) -> String {
        format!("loadtest-{:08x}-{member}", self.id)
    }

    /// A member presses.
    pub(crate) fn pressed(&self, member: u32, now: u64) {
        self.all_heard(member);
        self.presses[member as usize].at.store(now, Ordering::Relaxed);
    }

    /// A member that was all there since that time is told that a user speaks.
    pub(crate) fn told(&self, user: &str, there_since: u64) {
        let Some(press) = self.press_of(user) else { return };
        let (pressed, now) = (press.at.load(Ordering::Relaxed), now_ns());
        // Whoever comes later is told of the talk that goes on: that is no news.
        if pressed > there_since {
            let _ = press.first_told.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed); // it was not the first
            press.last_told.fetch_max(now, Ordering::Relaxed);
            let mut figures = self.figures.lock();
            figures.add(Count::Pushes, 1);
            figures.time(Time::Push, between(pressed, now));
        }
    }

    /// Everybody has been told of a member's last press.
    pub(crate) fn all_heard(&self, member: u32) {
        let Press { at, first_told, last_told } = &self.presses[member as usize];
        let (first, last) = (first_told.swap(0, Ordering::Relaxed), last_told.swap(0, Ordering::Relaxed));
        if last > 0 {
            let mut figures = self.figures.lock();
            figures.time(Time::PushLast, between(at.load(Ordering::Relaxed), last));
            figures.time(Time::PushSpread, between(first, last));
        }
    }

    fn press_of(&self, user: &str) -> Option<&Press> {
        let (run, member) = user.strip_prefix("loadtest-")?.split_once('-')?;
        let ours = u32::from_str_radix(run, 16) == Ok(self.id);
        self.presses.get(member.parse::<usize>().ok()?).filter(|_| ours)
    }

    /// The gateway of a member.
    pub(crate) fn target(&self, member: &Member) -> &Target {
        &self.targets[member.number as usize % self.targets.len()]
    }

    /// Whether media may be sent there.
    pub(crate) fn permits(&self, media: IpAddr) -> bool {
        self.targets.iter().any(|target| target.permits(media))
    }

    /// A token for a member.
    pub(crate) fn token(&self, member: &Member) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let life = self.args.join_timeout * 2 + self.args.ramp() + self.args.settle + self.args.duration;
        let mut claims = json!({
            "userId": self.user(member.number),
            "userName": format!("Load {}", member.number),
            "channelIds": [self.channel(member.channel)],
            "iat": now,
            "exp": now + 600 + life.as_secs(),
        });
        for (name, value) in [("iss", &self.args.jwt_issuer), ("aud", &self.args.jwt_audience)] {
            if let Some(value) = value {
                claims[name] = value.as_str().into();
            }
        }
        jsonwebtoken::encode(&Header::default(), &claims, &self.key).context("a token cannot be signed")
    }

    /// A talk has ended: when its last packets have had time to arrive, its listeners are asked for what they miss.
    pub(crate) fn over(self: &Arc<Self>, over: Over) {
        let run = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::time::sleep(GRACE).await;
            run.media.over(over);
            let _ = run.overs.send(over); // there may be no independent members
        });
    }

    /// Where media was found.
    pub(crate) fn media_addresses(&self) -> Vec<SocketAddr> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Everything that has been measured so far.
    pub(crate) fn figures(&self) -> Figures {
        let mut sum = self.figures.lock().clone();
        self.media.figures().for_each(|figures| sum.merge(&figures.lock()));
        sum
    }
}

/// TLS as a browser has it: with the certificates that this machine trusts.
fn tls() -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    ensure!(!roots.is_empty(), "this machine trusts no certificate authority: {:?}", found.errors);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
