//! Who talks when: the traffic model, drawn from a seed.
//!
//! Lengths of talks and pauses are exponentially distributed, as in NIST's model of public safety traffic (mean talk 4.69 s).
//! Each speaker has a generator of its own, so that its habits depend on the seed and its number and on nothing that
//! happens in between.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// 20 ms of sound are one packet.
pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// One speaker's.
#[derive(Debug)]
pub(crate) struct Habits {
    rng: StdRng,
    talk_mean: Duration,
    pause_mean: Duration,
}

impl Habits {
    /// Those of a member.
    pub(crate) fn new(seed: u64, member: u32, talk_mean: Duration, pause_mean: Duration) -> Self {
        // The generator expands the seed by a hash, so that neighbours have nothing in common.
        Self { rng: StdRng::seed_from_u64(seed ^ (u64::from(member) << 32)), talk_mean, pause_mean }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        self.draw(self.pause_mean)
    }

    /// Frames of the next talk: at least one.
    pub(crate) fn talk_frames(&mut self) -> u32 {
        let talk = self.draw(self.talk_mean);
        (talk.as_secs_f64() / FRAME.as_secs_f64()).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
    }

    fn draw(&mut self, mean: Duration) -> Duration {
        let uniform: f64 = self.rng.random();
        mean.mul_f64(-(1.0 - uniform).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALK: Duration = Duration::from_millis(4690);
    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn a_seed_gives_the_same_habits_and_another_member_or_seed_gives_others() {
        let draw = |seed, member| {
            let mut habits = Habits::new(seed, member, TALK, PAUSE);
            (0..100).map(|_| (habits.talk_frames(), habits.pause())).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
    }

    #[test]
    fn the_means_are_those_that_were_asked_for() {
        const COUNT: u32 = 100_000;
        let mut habits = Habits::new(1, 1, TALK, PAUSE);
        let talks: f64 = (0..COUNT).map(|_| f64::from(habits.talk_frames())).sum::<f64>() / f64::from(COUNT);
        let pauses: f64 = (0..COUNT).map(|_| habits.pause().as_secs_f64()).sum::<f64>() / f64::from(COUNT);
        // Rounding up to whole frames adds half a frame. A hundred thousand draws are within a percent.
        assert!((talks - 0.5 - 234.5).abs() < 2.4, "mean talk of {talks} frames");
        assert!((pauses - 10.0).abs() < 0.1, "mean pause of {pauses} s");
    }
}
