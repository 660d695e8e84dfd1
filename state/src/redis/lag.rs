//! The lag of the bus: how long it takes from asking for a change to hearing of it.
//!
//! Asked and heard by the same process, so that one clock measures it. Of a channel one question at a time is followed;
//! what nobody announces to us, because nobody here watches the channel, is given up by the next question.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::id::ChannelId;

/// Questions that are followed at a time. Their answers come within milliseconds.
const FOLLOWED: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Lag(Mutex<HashMap<ChannelId, Question>>);

#[derive(Debug)]
struct Question {
    asked: Instant,
    /// What the answer said.
    epoch: Option<u64>,
    /// What the bus brought meanwhile: it may be faster than the answer.
    heard: Option<(u64, Instant)>,
}

impl Question {
    fn lag(&self) -> Option<Duration> {
        let (epoch, heard) = self.heard?;
        (self.epoch == Some(epoch)).then(|| heard.saturating_duration_since(self.asked))
    }
}

impl Lag {
    /// A change is asked for.
    pub(super) fn asked(&self, channel: &ChannelId, now: Instant) {
        let mut followed = self.lock();
        if followed.len() < FOLLOWED {
            followed.insert(channel.clone(), Question { asked: now, epoch: None, heard: None });
        } else {
            followed.clear();
        }
    }

    /// It was made, with this epoch, or not at all. Answers the lag if the bus was faster.
    pub(super) fn answered(&self, channel: &ChannelId, epoch: Option<u64>) -> Option<Duration> {
        let mut followed = self.lock();
        let question = followed.get_mut(channel)?;
        question.epoch = epoch;
        let lag = question.lag();
        if lag.is_some() || epoch.is_none() {
            followed.remove(channel);
        }
        lag
    }

    /// The bus has brought a change. Answers the lag if it is the one that was asked for.
    pub(super) fn heard(&self, channel: &ChannelId, epoch: u64, now: Instant) -> Option<Duration> {
        let mut followed = self.lock();
        let question = followed.get_mut(channel)?;
        question.heard = Some((epoch, now));
        let lag = question.lag();
        if lag.is_some() {
            followed.remove(channel);
        }
        lag
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Question>> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_may_be_faster_than_the_answer_or_slower() {
        let (lag, lobby, now) = (Lag::default(), ChannelId::from("lobby"), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        lag.asked(&lobby, now);
        assert_eq!(lag.heard(&lobby, 7, later(2)), None, "it is not known yet whose that is");
        assert_eq!(lag.answered(&lobby, Some(7)), Some(Duration::from_millis(2)));
        lag.asked(&lobby, now);
        assert_eq!(lag.answered(&lobby, Some(8)), None);
        assert_eq!(lag.heard(&lobby, 7, later(1)), None, "of another change");
        assert_eq!(lag.heard(&lobby, 8, later(5)), Some(Duration::from_millis(5)));
        assert_eq!(lag.heard(&lobby, 8, later(9)), None, "once");
    }

    #[test]
    fn what_changes_nothing_is_not_waited_for() {
        let (lag, lobby, now) = (Lag::default(), ChannelId::from("lobby"), Instant::now());
        lag.asked(&lobby, now);
        assert_eq!(lag.answered(&lobby, None), None);
        assert_eq!(lag.heard(&lobby, 9, now), None);
        for number in 0..2 * FOLLOWED {
            lag.asked(&number.to_string().into(), now);
        }
        assert!(lag.lock().len() <= FOLLOWED);
    }
}
