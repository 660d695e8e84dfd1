//! What is measured: distributions of times, counts, errors by kind. Every thread records into figures of its own, which
//! are added up for the display and at the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

/// Defines an enum whose values have a name for people and machines, and a text that says what is meant.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $what:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)] // each has its text
        pub enum $name { $($variant),+ }

        impl $name {
            /// All of them, in the order of the report.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in limits and in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// What it says.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what),+ }
            }
        }
    };
}

named! {
    /// A distribution of times.
    Time {
        Grant "grant" "press to grant",
        FirstPacket "first_packet" "press to first packet, at every listener",
        MouthToEar "mouth_to_ear" "send to receive, every packet",
        LateEntry "late_entry" "join to first packet, while somebody talks",
        Push "push" "press to speaker-changed, at every member",
        PushLast "push_last" "press to speaker-changed, at the last member of its channel",
        PushSpread "push_spread" "of it: from the first member to the last",
        PushFloor "push_floor" "bare writes to as many sockets: the first to the last one read",
        WriteFloor "write_floor" "CPU of one of them",
        Release "release" "release to its answer",
        Join "join" "connect to all set up",
        JoinQuiet "join_quiet" "connect to joined, members without media",
        JoinSocket "join_socket" "of it: connect to first push",
        JoinMedia "join_media" "of it: first check to keys, each transport",
        SendLag "send_lag" "lateness of this tool's own packets",
    }
}

named! {
    /// A count.
    Count {
        Joined "joined" "members that joined",
        NotJoined "not_joined" "members that did not",
        Presses "presses" "presses",
        Granted "granted" "granted",
        Denied "denied" "denied, because somebody else spoke",
        Interrupted "interrupted" "talks that the server ended",
        Sent "sent" "packets sent in talks",
        Idle "idle" "packets sent by open microphones",
        Received "received" "packets received",
        Expected "expected" "packets that had to be heard by those who were there",
        Lost "lost" "of them lost",
        Reordered "reordered" "overtaken by a later one",
        Duplicates "duplicates" "received twice",
        Listened "listened" "talks, times the listeners who were there",
        ClippedFirst "clipped_first" "of them without the first packet",
        ClippedLast "clipped_last" "of them without the last packet",
        Edges "edges" "packets of open microphones heard at the edges of talks",
        Strays "strays" "packets that are none of this run's, or could not be opened",
        Pushes "pushes" "speaker-changed received",
        News "news" "channel-state received by members without media",
    }
}

/// Times are kept with three digits, from 100 ns to an hour.
const HIGHEST: u64 = 3_600_000_000_000;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    times: Vec<Histogram<u64>>,
    counts: Vec<u64>,
    /// By kind: how many, and what the first one said.
    errors: BTreeMap<String, (u64, String)>,
}

impl Default for Figures {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(100, HIGHEST, 3).expect("bounds that a test has tried");
        Self {
            times: Time::ALL.iter().map(|_| histogram()).collect(),
            counts: vec![0; Count::ALL.len()],
            errors: BTreeMap::new(),
        }
    }
}

impl Figures {
    /// Records a time.
    pub(crate) fn time(&mut self, time: Time, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times[time as usize].saturating_record(nanoseconds);
    }

    /// Adds to a count.
    pub(crate) fn add(&mut self, count: Count, more: u64) {
        self.counts[count as usize] += more;
    }

    /// Counts an error. Its kind is one of few; its text is shown once.
    pub(crate) fn error(&mut self, kind: &str, text: &dyn std::fmt::Display) {
        match self.errors.get_mut(kind) {
            Some((count, _)) => *count += 1,
            None => drop(self.errors.insert(kind.to_owned(), (1, text.to_string()))),
        }
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (time, other) in self.times.iter_mut().zip(&other.times) {
            time.add(other).expect("the same bounds");
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        for (kind, (count, text)) in &other.errors {
            self.errors.entry(kind.clone()).or_insert_with(|| (0, text.clone())).0 += count;
        }
    }

    /// A distribution, in nanoseconds.
    pub(crate) fn times(&self, time: Time) -> &Histogram<u64> {
        &self.times[time as usize]
    }

    /// A count.
    pub(crate) fn count(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// Errors by kind: how many, and what the first one said.
    pub(crate) fn errors(&self) -> &BTreeMap<String, (u64, String)> {
        &self.errors
    }

    /// Packets lost, of a hundred that had to be heard. `None`: none had to be.
    pub(crate) fn loss_percent(&self) -> Option<f64> {
        let expected = self.count(Count::Expected);
        (expected > 0).then(|| self.count(Count::Lost) as f64 * 100.0 / expected as f64)
    }
}

/// Figures that one thread, or a few tasks, record into while others look.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Figures>);

impl Recorder {
    /// To record into. Held for one step, never while waiting.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds since the Unix epoch: the clock by which the kernel says when a datagram arrived.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// The time between two readings of [`now_ns`]; none if the clock was set back in between.
pub(crate) fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_with_three_digits() {
        let mut figures = Figures::default();
        for micros in 1..=1000_u64 {
            figures.time(Time::Grant, Duration::from_micros(micros));
        }
        let grants = figures.times(Time::Grant);
        assert_eq!(grants.len(), 1000);
        for (quantile, micros) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = grants.value_at_quantile(quantile) as f64 / 1000.0;
            assert!((found - micros).abs() <= micros / 1000.0, "{found} µs instead of {micros}");
        }
        assert!(figures.times(Time::Push).is_empty());
    }

    #[test]
    fn what_is_longer_than_an_hour_or_shorter_than_nothing_is_survived() {
        let mut figures = Figures::default();
        figures.time(Time::Join, Duration::MAX);
        figures.time(Time::Join, Duration::ZERO);
        assert_eq!(figures.times(Time::Join).len(), 2);
        assert_eq!(between(5, 3), Duration::ZERO);
    }

    #[test]
    fn figures_of_threads_add_up() {
        let (mut one, mut other) = (Figures::default(), Figures::default());
        one.time(Time::Grant, Duration::from_millis(1));
        other.time(Time::Grant, Duration::from_millis(3));
        one.add(Count::Expected, 100);
        other.add(Count::Expected, 100);
        other.add(Count::Lost, 1);
        one.error("refused", &"first");
        other.error("refused", &"second");
        one.merge(&other);
        assert_eq!(one.times(Time::Grant).len(), 2);
        assert_eq!(one.loss_percent(), Some(0.5));
        assert_eq!(one.errors()["refused"], (2, "first".to_owned()));
    }

    #[test]
    fn names_are_unique() {
        let names = Time::ALL.iter().map(|time| time.name()).chain(Count::ALL.iter().map(|count| count.name()));
        let mut names: Vec<_> = names.collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
