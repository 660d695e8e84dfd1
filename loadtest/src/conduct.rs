//! One run from its beginning to its end: look around, let members join, let them talk, let them leave, count.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::args::Args;
use crate::figures::{Count, Time};
use crate::member;
use crate::plan::{self, Member};
use crate::process::{self, Samples};
use crate::progress::{LOOK, Progress};
use crate::report::{Looks, Report};
use crate::run::{GRACE, Phase, Run};
use crate::target::Target;

/// After the last talk: what is on its way arrives.
const REST: Duration = Duration::from_secs(1);

/// How long talks may take to come to their end, and members to leave.
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers the report of a run in which anybody joined.
pub(crate) async fn conduct(args: Args) -> Result<Report> {
    let mut targets = Vec::new();
    for url in &args.urls {
        targets.push(Target::resolve(url, &args.media_hosts).await?);
    }
    allow_files(&args, targets.iter().all(Target::is_local))?;
    for pid in &args.pids {
        ensure!(process::exists(*pid), "--pid {pid}: there is no such process");
    }
    let (phase, watched) = watch::channel(Phase::Joining);
    let run = Arc::new(Run::new(args, targets, watched)?);
    let members = plan::members(&run.args);
    // As many members as there are gateways: one at each.
    for member in members.iter().take(run.targets.len()) {
        if let Err(failure) = Box::pin(member::scout(&run, member)).await {
            bail!("nobody can join at {}: {}: {}", run.target(member).url, failure.kind, failure.text);
        }
    }
    let interrupt = Interrupt::new();
    let before = look(&run, true);

    let started = Instant::now();
    let (late, early): (Vec<Member>, Vec<Member>) = members.iter().partition(|member| member.late);
    join(&run, &early, started, &interrupt).await;
    let joining = started.elapsed();
    sleep(run.args.settle).await;
    let early_joined = run.figures().count(Count::Joined);
    if early_joined == 0 {
        let errors = run.figures();
        let errors: Vec<String> = errors.errors().iter().map(|(kind, (_, first))| format!("{kind}: {first}")).collect();
        bail!("nobody has joined at {}: {}", urls(&run), errors.join("; "));
    }
    let joined = look(&run, false);

    let (talking, received) = (Instant::now(), run.figures().count(Count::Received));
    phase.send_replace(Phase::Talking);
    talk(&run, &late, talking, &interrupt).await;
    phase.send_replace(Phase::Ending);
    let ending = Instant::now();
    while run.talking.load(std::sync::atomic::Ordering::Relaxed) > 0 && ending.elapsed() < PATIENCE {
        sleep(Duration::from_millis(10)).await;
    }
    let talked_for = talking.elapsed();
    let talked = look(&run, false);
    let forwarded = run.figures().count(Count::Received) - received;
    sleep(GRACE + REST).await;

    phase.send_replace(Phase::Leaving);
    run.tasks.close();
    if timeout(PATIENCE, run.tasks.wait()).await.is_err() {
        run.figures.lock().error("leave", &format!("members were not gone after {PATIENCE:?}"));
    }
    let floor = if run.args.floor { floor(&run, talked_for).await } else { None };
    if run.args.floor {
        floor_of_pushes(&run).await;
    }
    run.media.stop();

    let looks = Looks { before, joined, talked };
    let by_pid = looks.costs(&media_processes(&run));
    let deployment = by_pid.values().map(|cost| cost.talking).sum();
    Ok(Report {
        target: urls(&run),
        settings: settings(&run),
        figures: run.figures(),
        joining,
        talking: talked_for,
        members: run.args.everybody(),
        early: early_joined,
        forwarded,
        own: looks.own(),
        others: looks.others(deployment),
        dropped: looks.talked.dropped.saturating_sub(looks.before.dropped),
        own_dropped: looks.talked.own_dropped,
        by_pid,
        floor,
        limits: run.args.fail_if.clone(),
    })
}

/// Lets members join one after the other over the ramp, and waits until each has or has not.
async fn join(run: &Arc<Run>, members: &[Member], started: Instant, interrupt: &Interrupt) {
    let progress = Progress::new("joining", members.len() as u64);
    let step = run.args.ramp() / (members.len() as u32).max(1);
    let starting = async {
        for (at, member) in members.iter().enumerate() {
            if !step.is_zero() {
                sleep_until(started + step * at as u32).await;
            }
            match member.quiet {
                true => run.tasks.spawn(member::live_quietly(Arc::clone(run), *member)),
                false => run.tasks.spawn(member::live(Arc::clone(run), *member)),
            };
        }
        std::future::pending::<()>().await;
    };
    let watching = async {
        loop {
            // Often, because the time that all took is measured by it; the bar is drawn at every tenth look.
            for _ in 0..LOOK.as_millis() / 10 {
                let settled = {
                    let figures = run.figures.lock();
                    figures.count(Count::Joined) + figures.count(Count::NotJoined)
                };
                if settled >= members.len() as u64 || interrupt.came() {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
            if !progress.is_hidden() {
                let figures = run.figures();
                progress.show(figures.count(Count::Joined), run, &figures);
            }
        }
    };
    tokio::select! { () = starting => {}, () = watching => {} }
    progress.end();
}

/// Lets time pass until the talks are to end; late members join in between, evenly.
async fn talk(run: &Arc<Run>, late: &[Member], started: Instant, interrupt: &Interrupt) {
    let duration = run.args.duration;
    let progress = Progress::new("talking", duration.as_secs());
    let mut late = late.iter().enumerate().map(|(at, member)| {
        // Not in the first tenth, when talks have yet to begin, nor in the last, when there is little left to hear.
        let share = 0.1 + 0.8 * at as f64 / late.len() as f64;
        (started + duration.mul_f64(share), member)
    });
    let mut next = late.next();
    let mut looked = started;
    while started.elapsed() < duration && !interrupt.came() {
        while let Some((at, member)) = next
            && at <= Instant::now()
        {
            run.tasks.spawn(member::live(Arc::clone(run), *member));
            next = late.next();
        }
        if looked.elapsed() >= LOOK && !progress.is_hidden() {
            looked = Instant::now();
            progress.show(started.elapsed().as_secs(), run, &run.figures());
        }
        sleep(Duration::from_millis(10)).await;
    }
    progress.end();
}

/// What a bare loop of sends costs in the rhythm of the talks that have been. The members have left; their sockets are
/// still there.
async fn floor(run: &Run, talked_for: Duration) -> Option<f64> {
    let talks = crate::report::talks_at_once(&run.figures(), talked_for).round() as usize;
    let addresses = run.media.addresses().await;
    tokio::task::spawn_blocking(move || crate::floor::measure(&addresses, talks)).await.ok()?
}

/// What bare writes cost to as many sockets as a channel has members without media, who have left.
async fn floor_of_pushes(run: &Run) {
    let rounds = crate::floor::writes::measure((run.args.quiet_members / run.args.channels) as usize).await;
    let mut figures = run.figures.lock();
    for round in rounds {
        figures.time(Time::PushFloor, round.last);
        figures.time(Time::WriteFloor, round.cpu);
    }
}

/// The deployment's processes as they are now. Before the first member it is not known which media nodes there are: then
/// those too that run the same program.
fn look(run: &Run, first: bool) -> Samples {
    let mut pids = run.args.pids.clone();
    for target in run.targets.iter().filter(|target| target.is_local()) {
        pids.extend(process::find(Some(target.address), &run.media_addresses()));
    }
    if first {
        pids.extend(process::of_the_same_program(&pids));
    }
    Samples::take(pids)
}

/// Those that forward packets.
fn media_processes(run: &Run) -> Vec<u32> {
    let local = run.targets.iter().any(Target::is_local);
    if local { process::find(None, &run.media_addresses()) } else { Vec::new() }
}

fn urls(run: &Run) -> String {
    run.targets.iter().map(|target| target.url.to_string()).collect::<Vec<_>>().join(", ")
}

/// Allows as many open files as the members need, if the system lets us.
fn allow_files(args: &Args, local: bool) -> Result<()> {
    // A WebSocket for each. Towards another machine a socket for each transport, here a few that they share; the
    // independent client has its own anyway.
    let media = if local { args.members / 16 } else { 2 * args.members };
    let floor = if args.floor { args.quiet_members / args.channels } else { 0 };
    let needed =
        u64::from(args.everybody()) + u64::from(media) + u64::from(floor) + 4 * u64::from(args.webrtc_crate) + 256;
    let allowed = rlimit::increase_nofile_limit(needed).context("the limit of open files cannot be read")?;
    ensure!(
        allowed >= needed,
        "--members {} --quiet-members {}: up to {needed} open files are needed and {allowed} are allowed; raise the limit (as \
         root: ulimit -Hn {needed}) or take fewer members",
        args.members,
        args.quiet_members
    );
    Ok(())
}

fn settings(run: &Run) -> serde_json::Value {
    let args = &run.args;
    json!({
        "members": args.members,
        "quiet_members": args.quiet_members,
        "channels": args.channels,
        "speakers_per_channel": args.speakers_per_channel,
        "late_members": args.late_members(),
        "webrtc_crate": args.webrtc_crate,
        "ramp_seconds": args.ramp().as_secs_f64(),
        "settle_seconds": args.settle.as_secs_f64(),
        "duration_seconds": args.duration.as_secs_f64(),
        "talk_mean_seconds": args.talk_mean.as_secs_f64(),
        "pause_mean_seconds": args.pause_mean.as_secs_f64(),
        "microphones": format!("{:?}", args.microphones).to_lowercase(),
        "open_microphones": args.open_microphones,
        "consume": format!("{:?}", args.consume).to_lowercase(),
        "srtp_profile": args.srtp_profile.map(|profile| format!("{:?}", profile.profile())),
        "threads": args.threads(),
        "seed": run.seed,
    })
}

/// Ctrl-C: the run ends early, in order, with a report.
struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    fn new() -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            // Without signals there is no interruption.
            if tokio::signal::ctrl_c().await.is_ok() {
                sender.send_replace(true);
            }
        });
        Self(receiver)
    }

    fn came(&self) -> bool {
        *self.0.borrow()
    }
}
