//! A member's life: connects, joins, sets its media up, presses and talks if it is a speaker, and leaves when all do.

mod join;
mod media;
mod quiet;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use self::join::Joined;
use crate::args::Consume;
use crate::figures::{Count, Time, now_ns};
use crate::hearing::Over;
use crate::media::Talk;
use crate::plan::Member;
use crate::run::{Phase, Run};
use crate::signaling::{Failure, Push};
use crate::traffic::Habits;

pub(crate) use self::join::scout;
pub(crate) use self::quiet::live as live_quietly;

/// Lives until the run is over, or until the member's socket is.
pub(crate) async fn live(run: Arc<Run>, me: Member) {
    let started = Instant::now();
    let joined = timeout(run.args.join_timeout, join::join(&run, &me)).await;
    let joined = joined.unwrap_or_else(|_| Err(Failure::new("timeout join", "it took longer than --join-timeout")));
    let joined = match joined {
        Ok(joined) => {
            let mut figures = run.figures.lock();
            figures.time(Time::Join, started.elapsed());
            figures.add(Count::Joined, 1);
            joined
        }
        Err(failure) => {
            let mut figures = run.figures.lock();
            figures.error(&failure.kind, &failure.text);
            figures.add(Count::NotJoined, 1);
            return;
        }
    };
    let habits = Habits::new(run.seed, me.number, run.args.talk_mean, run.args.pause_mean);
    let mut living = Living { run, me, joined, habits, talking: None };
    if let Err(failure) = living.live().await {
        living.run.figures.lock().error(&failure.kind, &failure.text);
    }
    living.run.all_heard(me.number);
    let Living { joined: Joined { signaling, media, .. }, .. } = living;
    media.close().await;
    signaling.close().await;
}

struct Living {
    run: Arc<Run>,
    me: Member,
    joined: Joined,
    habits: Habits,
    talking: Option<Talking>,
}

/// A talk that goes on.
struct Talking {
    talk: u32,
    pressed: u64,
    /// How many packets it had, when the last one has been sent.
    done: oneshot::Receiver<u32>,
    /// The server ended it: what was sent after that is not owed to anybody.
    interrupted: bool,
}

impl Living {
    /// Ends without an error when everybody leaves.
    async fn live(&mut self) -> Result<(), Failure> {
        let mut phase = self.run.phase.clone();
        phase.mark_changed();
        let mut next_press = None;
        loop {
            tokio::select! {
                changed = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    match now {
                        Phase::Leaving => return Ok(()),
                        _ if changed.is_err() => return Ok(()),
                        Phase::Joining => {}
                        Phase::Talking => next_press = self.me.speaks.then(|| Instant::now() + self.habits.pause()),
                        Phase::Ending => {
                            next_press = None;
                            if self.talking.is_some() {
                                self.joined.media.hush();
                            }
                        }
                    }
                }
                push = self.joined.signaling.push() => self.hear(push?).await?,
                () = until(next_press) => {
                    next_press = None;
                    if !self.press().await? {
                        next_press = Some(Instant::now() + self.habits.pause());
                    }
                }
                sent = over(&mut self.talking) => {
                    self.release(sent).await?;
                    let goes_on = *phase.borrow() == Phase::Talking;
                    next_press = goes_on.then(|| Instant::now() + self.habits.pause());
                }
            }
        }
    }

    async fn hear(&mut self, push: Push) -> Result<(), Failure> {
        match push {
            Push::Speaking { user, producer } => {
                self.run.told(&user, self.joined.there_since);
                if self.run.args.consume == Consume::Talk {
                    let consumed = self.joined.consume(&self.run, &self.me, &producer).await;
                    return self.survive(consumed);
                }
            }
            Push::Interrupted => {
                if let Some(talking) = &mut self.talking {
                    talking.interrupted = true;
                    self.run.figures.lock().add(Count::Interrupted, 1);
                    self.joined.media.hush();
                }
            }
        }
        Ok(())
    }

    /// Asks for the floor and begins to talk. Answers whether it got it.
    async fn press(&mut self) -> Result<bool, Failure> {
        let (run, me) = (Arc::clone(&self.run), self.me);
        let (pressed, asked) = (now_ns(), Instant::now());
        run.pressed(me.number, pressed);
        let answer = self.joined.signaling.request("ptt-start", json!({"channelId": run.channel(me.channel)})).await;
        let took = asked.elapsed();
        {
            let mut figures = run.figures.lock();
            figures.add(Count::Presses, 1);
            match &answer {
                Ok(_) => {
                    figures.time(Time::Grant, took);
                    figures.add(Count::Granted, 1);
                }
                Err(failure) if failure.denied => {
                    figures.add(Count::Denied, 1);
                    return Ok(false);
                }
                Err(_) => {}
            }
        }
        if answer.is_err() {
            return self.survive(answer.map(drop)).map(|()| false);
        }
        let talk = run.talks.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let frames = self.habits.talk_frames();
        self.joined.media.talk(&run, Talk { talk, pressed, frames, done: sender });
        run.talking.fetch_add(1, Ordering::Relaxed);
        self.talking = Some(Talking { talk, pressed, done, interrupted: false });
        Ok(true)
    }

    /// The last packet has been sent: gives the floor back at once.
    async fn release(&mut self, sent: Result<u32, oneshot::error::RecvError>) -> Result<(), Failure> {
        let Some(Talking { talk, pressed, interrupted, .. }) = self.talking.take() else { return Ok(()) };
        let (run, me) = (Arc::clone(&self.run), self.me);
        run.talking.fetch_sub(1, Ordering::Relaxed);
        let asked = Instant::now();
        let answer = self.joined.signaling.request("ptt-stop", json!({"channelId": run.channel(me.channel)})).await;
        if answer.is_ok() {
            run.figures.lock().time(Time::Release, asked.elapsed());
        }
        match sent {
            Ok(frames) if frames > 0 && !interrupted => {
                run.over(Over { talk, channel: me.channel, speaker: me.number, pressed, frames });
            }
            Ok(_) => {}
            Err(_) => run.figures.lock().error("talk", &"the speaker's transport is not connected"),
        }
        self.survive(answer.map(drop))
    }

    /// Counts a failure that the member goes on after, and passes on one that ends it.
    fn survive(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Err(failure) if !failure.fatal => {
                self.run.figures.lock().error(&failure.kind, &failure.text);
                Ok(())
            }
            outcome => outcome,
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep(at.saturating_duration_since(Instant::now()).max(Duration::ZERO)).await,
        None => std::future::pending().await,
    }
}

async fn over(talking: &mut Option<Talking>) -> Result<u32, oneshot::error::RecvError> {
    match talking {
        Some(talking) => (&mut talking.done).await,
        None => std::future::pending().await,
    }
}
