//! The command line of `voiceping loadtest`. Checks what can be checked without the network; nothing here is carried out.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use secrecy::SecretString;
use voiceping_engine::srtp::Profile;

use crate::limits::Limit;
use crate::target::Url;

/// Members that join in a second, if nobody says otherwise: half of what a gateway takes from one address by default.
const JOINS_PER_SECOND: u32 = 50;

/// Settings of the command.
///
/// Every member has a real WebSocket and real media: ICE, DTLS and SRTP, and sends real Opus at 50 packets a second while it
/// talks. First all members join, then they talk for --duration, then figures are printed.
///
/// Against a deployment on this machine every member has a loopback address of its own, as people elsewhere have; nothing
/// needs to be set up for it. Against another machine all members come from one address: raise the gateway's --connect-rate
/// and --connect-burst, and allow three open files for each member (`ulimit -n`).
#[derive(Debug, Clone, clap::Args)]
#[group(id = "loadtest")]
pub struct Args {
    /// The deployment: ws://host:port or wss://host:port, with or without the path /ws. May be given several times: the
    /// members are spread evenly over these gateways
    #[arg(long = "url", value_name = "URL", value_parser = Url::parse, required = true)]
    pub urls: Vec<Url>,

    /// Secret that the gateway checks tokens with: every member gets a token of its own
    #[arg(long, env = "VOICEPING_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: SecretString,

    /// Issuer (`iss`) that the gateway asks for
    #[arg(long, env = "VOICEPING_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,

    /// Audience (`aud`) that the gateway asks for
    #[arg(long, env = "VOICEPING_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// Media address that may be sent to beside the host of --url; may be given several times. Others are refused
    #[arg(long = "media-host", value_name = "ADDRESS")]
    pub media_hosts: Vec<std::net::IpAddr>,

    /// People
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub members: u32,

    /// More people, who have a WebSocket and are members of a channel, but have no media: what only signaling costs. One open
    /// file for each
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub quiet_members: u32,

    /// Channels, over which the members are spread evenly
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub channels: u32,

    /// Members of each channel that press to talk, each on its own, whoever speaks; the others only listen
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub speakers_per_channel: u32,

    /// How long the members talk once they have joined
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub duration: Duration,

    /// Time over which members join [default: as long as 50 a second take]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ramp: Option<Duration>,

    /// Members join all at once
    #[arg(long, conflicts_with = "ramp")]
    pub storm: bool,

    /// Between the last join and the first talk: the deployment comes to rest, and its memory is looked at. Who joins is
    /// announced to all members of a channel, which takes its time where there are thousands
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub settle: Duration,

    /// Time that one member may take to join
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub join_timeout: Duration,

    /// Members that join one by one while the others talk, for the figure `late_entry` [default: one in twenty]
    #[arg(long, value_name = "COUNT")]
    pub late_members: Option<u32>,

    /// Mean length of a talk; lengths are exponentially distributed. The default is NIST's for public safety
    #[arg(long, value_name = "TIME", default_value = "4690ms", value_parser = duration)]
    pub talk_mean: Duration,

    /// Mean pause of a speaker between the end of a talk, or a denied press, and the next press; exponentially distributed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub pause_mean: Duration,

    /// Who has a microphone, which is a transport and a producer: all members, as in the page, or the speakers only
    #[arg(long, value_enum, value_name = "WHO", default_value_t = Microphones::All)]
    pub microphones: Microphones,

    /// Microphones send 50 packets a second all the time, as a browser's does that is only muted at the server
    #[arg(long)]
    pub open_microphones: bool,

    /// When a member consumes: once at the join, or at each `speaker-changed`, as clients do that know no floor output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Consume::Join)]
    pub consume: Consume,

    /// Offer only this SRTP profile, in DTLS 1.2 [default: DTLS 1.3, which ends with AES-256-GCM]. What browsers choose costs
    /// the server more or less: Chromium takes aes128-cm-sha1-80, Firefox aes128-gcm
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub srtp_profile: Option<SrtpProfile>,

    /// Members that run on the independent `webrtc` crate instead of the lean client, spread evenly over the others
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub webrtc_crate: u32,

    /// Threads for media; signaling has as many beside them [default: half of the processors]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,

    /// Seed of everything that is drawn by lot [default: a fresh one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Process of the deployment whose CPU time and memory are reported; may be given several times. Processes on this
    /// machine that own the port of --url, or a media port, are found without it
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// Measure at the end what a bare loop of sends to the same sockets costs, as a floor under `cpu_per_packet`, and how long
    /// bare writes take to as many sockets as a channel has --quiet-members, as one under `push_spread`. Only where the
    /// deployment is on this machine
    #[arg(long)]
    pub floor: bool,

    /// Fail if this is so, such as 'grant.p95>50ms', 'clipped_first>0' or 'loss>0.1%'; may be given several times. An
    /// unknown name is answered with all that there are
    #[arg(long = "fail-if", value_name = "LIMIT", value_parser = Limit::parse)]
    pub fail_if: Vec<Limit>,

    /// Write the figures as JSON: to this file, or instead of the table to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// Who has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Microphones {
    /// Everybody.
    All,
    /// Those who will press.
    Speakers,
}

/// When members consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Consume {
    /// The floor output, once: as our own library does.
    Join,
    /// What `speaker-changed` names, each time: as existing clients do.
    Talk,
}

/// Profiles of SRTP (RFC 5764, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SrtpProfile {
    /// Counter mode with HMAC-SHA1: Chromium's choice.
    #[value(name = "aes128-cm-sha1-80")]
    Aes128CmSha1,
    /// Firefox's choice.
    #[value(name = "aes128-gcm")]
    Aes128Gcm,
    /// The choice of DTLS 1.2.
    #[value(name = "aes256-gcm")]
    Aes256Gcm,
}

impl SrtpProfile {
    pub(crate) fn profile(self) -> Profile {
        match self {
            Self::Aes128CmSha1 => Profile::Aes128CmSha1_80,
            Self::Aes128Gcm => Profile::AeadAes128Gcm,
            Self::Aes256Gcm => Profile::AeadAes256Gcm,
        }
    }
}

impl Args {
    /// What the flags say together.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { members, channels, .. } = *self;
        ensure!(channels <= members / 2, "--channels {channels}: with --members {members} some would have no listener");
        ensure!(
            (1..=members / channels).contains(&self.speakers_per_channel),
            "--speakers-per-channel {}: a channel has {} members",
            self.speakers_per_channel,
            members / channels
        );
        ensure!(self.late_members() < members, "--late-members {}: somebody must be there before", self.late_members());
        ensure!(self.webrtc_crate <= members, "--webrtc-crate {}: there are {members} members", self.webrtc_crate);
        ensure!(
            self.consume == Consume::Join || self.webrtc_crate == 0,
            "--consume talk: the members of --webrtc-crate consume once, at the join"
        );
        Ok(())
    }

    /// Members with and without media.
    pub(crate) fn everybody(&self) -> u32 {
        self.members + self.quiet_members
    }

    pub(crate) fn late_members(&self) -> u32 {
        self.late_members.unwrap_or(self.members / 20)
    }

    /// Time over which the members join that do not join late.
    pub(crate) fn ramp(&self) -> Duration {
        match (self.storm, self.ramp) {
            (true, _) => Duration::ZERO,
            (false, Some(ramp)) => ramp,
            (false, None) => {
                Duration::from_secs_f64(f64::from(self.everybody() - self.late_members()) / f64::from(JOINS_PER_SECOND))
            }
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            usize::from,
        )
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 30s or 2m")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// Arguments as from a command line.
    pub(crate) fn parse(flags: &[&str]) -> Result<Args, String> {
        let needed = ["loadtest", "--url", "ws://127.0.0.1:3000", "--jwt-secret", "s"];
        let command = Command::try_parse_from(needed.iter().chain(flags)).map_err(|error| error.to_string())?;
        command.args.check().map_err(|error| error.to_string())?;
        Ok(command.args)
    }

    #[test]
    fn the_defaults_fit_together() {
        let args = parse(&[]).expect("valid");
        assert_eq!((args.late_members(), args.ramp()), (5, Duration::from_millis(1900)));
        assert_eq!(args.json, None);
        assert_eq!(parse(&["--json"]).expect("valid").json, Some("-".into()));
        assert_eq!(parse(&["--storm"]).expect("valid").ramp(), Duration::ZERO);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for flags in [
            ["--channels", "51"],
            ["--speakers-per-channel", "11"],
            ["--speakers-per-channel", "0"],
            ["--late-members", "100"],
            ["--webrtc-crate", "101"],
            ["--members", "1"],
            ["--duration", "0s"],
            ["--talk-mean", "long"],
            ["--fail-if", "grant.p95>fast"],
            ["--url", "somewhere"],
        ] {
            let error = parse(&flags).expect_err("refused");
            assert!(error.contains(flags[0]), "{flags:?}: {error}");
        }
        assert!(parse(&["--storm", "--ramp", "1s"]).is_err());
    }
}
