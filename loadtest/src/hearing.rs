//! What one listener hears of each talk: the accounting behind loss, order, clipping and the times of packets. Pure; used
//! for members of both kinds.

use crate::figures::{Count, Figures, Time, between};
use crate::voice::Stamp;

/// Talks of which one listener may be told more: those of the last seconds. There are more only if speakers are lost.
const MAX_TALKS: usize = 64;

/// In place of the time from which on a listener was all there.
pub(crate) const NOT_YET: u64 = u64::MAX;

/// A talk that is over, and whose packets have had time to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over {
    pub(crate) talk: u32,
    pub(crate) channel: u32,
    pub(crate) speaker: u32,
    /// When the speaker pressed.
    pub(crate) pressed: u64,
    /// Packets sent.
    pub(crate) frames: u32,
}

/// One listener's.
#[derive(Debug)]
pub(crate) struct Hearing {
    member: u32,
    run: u32,
    /// When the member asked to join.
    joining_since: u64,
    /// From when on it was all there: a talk that was pressed later has to be heard whole.
    there_since: u64,
    heard_anything: bool,
    talks: Vec<Heard>,
}

#[derive(Debug)]
struct Heard {
    talk: u32,
    received: u32,
    first: bool,
    numbers: Window,
}

impl Hearing {
    pub(crate) fn new(run: u32, member: u32, joining_since: u64, there_since: u64) -> Self {
        Self { member, run, joining_since, there_since, heard_anything: false, talks: Vec::new() }
    }

    /// It is all there now.
    pub(crate) fn there(&mut self, since: u64) {
        self.there_since = since;
    }

    /// A packet's payload has arrived.
    pub(crate) fn packet(&mut self, payload: &[u8], arrived: u64, figures: &mut Figures) {
        let Some(stamp) = Stamp::read(payload).filter(|stamp| stamp.run == self.run) else {
            figures.add(Count::Strays, 1);
            return;
        };
        if stamp.talk == 0 {
            // The gate opens before the grant is known and closes after the release: an open microphone is heard meanwhile.
            figures.add(Count::Edges, 1);
            return;
        }
        // The newest is most likely the one.
        let at = self.talks.iter().rposition(|heard| heard.talk == stamp.talk).unwrap_or_else(|| {
            if self.talks.len() == MAX_TALKS {
                self.talks.remove(0);
            }
            self.talks.push(Heard { talk: stamp.talk, received: 0, first: false, numbers: Window::default() });
            self.talks.len() - 1
        });
        let heard = &mut self.talks[at];
        match heard.numbers.insert(stamp.number) {
            Place::Next => {}
            Place::Late => figures.add(Count::Reordered, 1),
            Place::Twice => {
                figures.add(Count::Duplicates, 1);
                return;
            }
        }
        figures.add(Count::Received, 1);
        figures.time(Time::MouthToEar, between(stamp.sent, arrived));
        heard.received += 1;
        heard.first |= stamp.number == 0;
        if heard.received == 1 {
            if self.there_since < stamp.pressed {
                figures.time(Time::FirstPacket, between(stamp.pressed, arrived));
            } else if !self.heard_anything && stamp.pressed < self.joining_since {
                figures.time(Time::LateEntry, between(self.joining_since, arrived));
            }
        }
        self.heard_anything = true;
    }

    /// A talk of the listener's channel is over.
    pub(crate) fn over(&mut self, over: &Over, figures: &mut Figures) {
        let at = self.talks.iter().position(|heard| heard.talk == over.talk);
        let heard = at.map(|at| self.talks.remove(at));
        if over.speaker == self.member || over.pressed <= self.there_since {
            return;
        }
        let (received, first, last) = heard.map_or((0, false, false), |heard| {
            (heard.received, heard.first, heard.numbers.newest() == Some(over.frames - 1))
        });
        figures.add(Count::Listened, 1);
        figures.add(Count::Expected, u64::from(over.frames));
        figures.add(Count::Lost, u64::from(over.frames.saturating_sub(received)));
        figures.add(Count::ClippedFirst, u64::from(!first));
        figures.add(Count::ClippedLast, u64::from(!last));
    }
}

/// Which of the last 64 numbers of a stream were there.
#[derive(Debug, Default)]
pub(crate) struct Window {
    newest: Option<u32>,
    /// Bit `n`: `newest - n` was there.
    seen: u64,
}

/// Where a number belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// After all that were there.
    Next,
    /// Before one that was there.
    Late,
    /// It was there before.
    Twice,
}

impl Window {
    /// Takes a number. What is older than the window counts as late.
    pub(crate) fn insert(&mut self, number: u32) -> Place {
        let Some(newest) = self.newest else {
            (self.newest, self.seen) = (Some(number), 1);
            return Place::Next;
        };
        if number > newest {
            let ahead = number - newest;
            self.seen = if ahead < 64 { self.seen << ahead | 1 } else { 1 };
            self.newest = Some(number);
            return Place::Next;
        }
        match newest - number {
            behind @ 0..64 if self.seen >> behind & 1 == 1 => Place::Twice,
            behind @ 0..64 => {
                self.seen |= 1 << behind;
                Place::Late
            }
            _ => Place::Late,
        }
    }

    fn newest(&self) -> Option<u32> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice::Recording;

    const RUN: u32 = 99;
    const MS: u64 = 1_000_000;

    fn payload(talk: u32, number: u32, pressed: u64, sent: u64) -> Vec<u8> {
        let mut payload = Recording::embedded().payload(number).to_vec();
        Stamp { run: RUN, talk, number, pressed, sent }.write(&mut payload);
        payload
    }

    fn over(talk: u32, frames: u32, pressed: u64) -> Over {
        Over { talk, channel: 0, speaker: 1, pressed, frames }
    }

    fn counts<const N: usize>(figures: &Figures, counts: [Count; N]) -> [u64; N] {
        counts.map(|count| figures.count(count))
    }

    #[test]
    fn a_talk_that_arrives_whole_is_measured_and_nothing_is_missing() {
        let (mut hearing, mut figures) = (Hearing::new(RUN, 2, 0, 0), Figures::default());
        for number in 0..10 {
            let sent = 100 * MS + u64::from(number) * 20 * MS;
            hearing.packet(&payload(1, number, 95 * MS, sent), sent + MS, &mut figures);
        }
        hearing.over(&over(1, 10, 95 * MS), &mut figures);
        use Count::*;
        assert_eq!(counts(&figures, [Received, Expected, Listened]), [10, 10, 1]);
        assert_eq!(counts(&figures, [Lost, ClippedFirst, ClippedLast, Reordered, Duplicates, Strays]), [0; 6]);
        let close = |time, ns: u64| (figures.times(time).max() as f64 / ns as f64 - 1.0).abs() < 0.001;
        assert!(close(Time::FirstPacket, 6 * MS) && close(Time::MouthToEar, MS));
        assert!(figures.times(Time::LateEntry).is_empty() && hearing.talks.is_empty());
    }

    #[test]
    fn what_is_missing_doubled_or_out_of_place_is_told_apart() {
        let (mut hearing, mut figures) = (Hearing::new(RUN, 2, 0, 0), Figures::default());
        for number in [1, 2, 5, 4, 4, 7, 3] {
            hearing.packet(&payload(1, number, MS, MS), MS, &mut figures);
        }
        hearing.packet(b"something else", MS, &mut figures);
        hearing.over(&over(1, 9, MS), &mut figures);
        use Count::*;
        assert_eq!(counts(&figures, [Received, Expected, Lost]), [6, 9, 3], "0, 6 and 8 are lost");
        assert_eq!(counts(&figures, [ClippedFirst, ClippedLast]), [1, 1]);
        assert_eq!(counts(&figures, [Reordered, Duplicates, Strays]), [2, 1, 1]);
    }

    #[test]
    fn a_talk_of_which_nothing_came_is_lost_whole() {
        let (mut hearing, mut figures) = (Hearing::new(RUN, 2, 0, 0), Figures::default());
        hearing.over(&over(1, 50, MS), &mut figures);
        assert_eq!(counts(&figures, [Count::Lost, Count::ClippedFirst, Count::ClippedLast]), [50, 1, 1]);
    }

    #[test]
    fn the_speaker_and_those_who_came_later_owe_nothing() {
        let mut figures = Figures::default();
        Hearing::new(RUN, 1, 0, 0).over(&over(1, 50, MS), &mut figures);
        Hearing::new(RUN, 2, 0, MS).over(&over(1, 50, MS), &mut figures);
        assert_eq!(figures.count(Count::Expected), 0);
    }

    #[test]
    fn late_entry_is_measured_once_and_only_where_somebody_spoke_before() {
        let mut figures = Figures::default();
        let mut hearing = Hearing::new(RUN, 2, 10 * MS, 14 * MS);
        for number in 7..9 {
            hearing.packet(&payload(1, number, 5 * MS, 15 * MS), 16 * MS, &mut figures);
        }
        let late = figures.times(Time::LateEntry);
        assert_eq!((late.len(), late.max() / MS), (1, 6));
        // Pressed while it joined: neither late nor there from the start.
        let mut other = Hearing::new(RUN, 3, 10 * MS, 14 * MS);
        other.packet(&payload(2, 0, 12 * MS, 15 * MS), 16 * MS, &mut figures);
        assert_eq!(figures.times(Time::LateEntry).len(), 1);
        assert!(figures.times(Time::FirstPacket).is_empty());
    }

    #[test]
    fn another_runs_packets_are_strays() {
        let mut figures = Figures::default();
        Hearing::new(RUN + 1, 2, 0, 0).packet(&payload(1, 0, MS, MS), MS, &mut figures);
        Hearing::new(RUN, 2, 0, 0).packet(&payload(0, 0, MS, MS), MS, &mut figures);
        assert_eq!(counts(&figures, [Count::Strays, Count::Edges, Count::Received]), [1, 1, 0]);
    }

    #[test]
    fn speakers_that_are_lost_do_not_fill_the_memory() {
        let (mut hearing, mut figures) = (Hearing::new(RUN, 2, 0, 0), Figures::default());
        for talk in 1..1000 {
            hearing.packet(&payload(talk, 0, MS, MS), MS, &mut figures);
        }
        assert_eq!(hearing.talks.len(), MAX_TALKS);
    }
}
