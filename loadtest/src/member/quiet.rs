//! A member without media: connects, joins, and is told who speaks. Cheap for this tool, so that there can be many.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::join::connect_at_last;
use crate::figures::{Count, Time, now_ns};
use crate::plan::Member;
use crate::run::{Phase, Run};
use crate::signaling::{Failure, Push, Signaling};

/// Lives until the run is over, or until the member's socket is.
pub(crate) async fn live(run: Arc<Run>, me: Member) {
    let started = Instant::now();
    let joined = timeout(run.args.join_timeout, join(&run, &me)).await;
    let joined = joined.unwrap_or_else(|_| Err(Failure::new("timeout join", "it took longer than --join-timeout")));
    let lived = match joined {
        Ok(signaling) => {
            {
                let mut figures = run.figures.lock();
                figures.time(Time::JoinQuiet, started.elapsed());
                figures.add(Count::Joined, 1);
            }
            listen(&run, signaling).await
        }
        Err(failure) => {
            run.figures.lock().add(Count::NotJoined, 1);
            Err(failure)
        }
    };
    if let Err(failure) = lived {
        run.figures.lock().error(&failure.kind, &failure.text);
    }
}

async fn join(run: &Arc<Run>, me: &Member) -> Result<Signaling, Failure> {
    let started = Instant::now();
    let mut signaling = Box::pin(connect_at_last(run, me)).await?;
    run.figures.lock().time(Time::JoinSocket, started.elapsed());
    signaling.request("join-channel", json!({"channelId": run.channel(me.channel)})).await?;
    Ok(signaling)
}

async fn listen(run: &Arc<Run>, mut signaling: Signaling) -> Result<(), Failure> {
    let (there_since, mut phase) = (now_ns(), run.phase.clone());
    loop {
        tokio::select! {
            () = everybody_leaves(&mut phase) => {
                run.figures.lock().add(Count::News, signaling.news());
                signaling.close().await;
                return Ok(());
            }
            push = signaling.push() => {
                if let Push::Speaking { user, .. } = push? {
                    run.told(&user, there_since);
                }
            }
        }
    }
}

async fn everybody_leaves(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Leaving).await; // an error says that the run is over as well
}
