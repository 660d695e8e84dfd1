//! `--fail-if`: a figure, a comparison and a value, such as `grant.p95>50ms`.
//!
//! What was not measured is not passed: a limit on a figure without a single sample fails too.

use std::fmt;
use std::time::Duration;

use crate::figures::{Count, Time};

/// What is to be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// A percentile of a distribution, 0 to 100; the maximum is 100.
    Percentile(Time, f64),
    /// Mean of a distribution.
    Mean(Time),
    /// A count.
    Count(Count),
    /// Errors of all kinds.
    Errors,
    /// Packets lost, in percent.
    Loss,
    /// CPU time of the deployment's processes for each packet that a listener got.
    CpuPerPacket,
    /// Memory of the deployment's processes for each member.
    MemoryPerMember,
    /// CPU time of the processes that forward, for each packet, to that of `--floor`.
    FloorRatio,
}

/// What has no distribution and is not counted one by one.
const OTHERS: [(&str, Quantity); 5] = [
    ("errors", Quantity::Errors),
    ("loss", Quantity::Loss),
    ("cpu_per_packet", Quantity::CpuPerPacket),
    ("memory_per_member", Quantity::MemoryPerMember),
    ("floor_ratio", Quantity::FloorRatio),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    More,
    AtLeast,
    Less,
    AtMost,
}

/// Longer signs first: `>` is the start of `>=`.
const COMPARISONS: [(&str, Comparison); 4] =
    [(">=", Comparison::AtLeast), ("<=", Comparison::AtMost), (">", Comparison::More), ("<", Comparison::Less)];

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    text: String,
    quantity: Quantity,
    comparison: Comparison,
    /// In nanoseconds, bytes, percent or pieces.
    value: f64,
}

impl Limit {
    /// Reads it. The error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sign = COMPARISONS.iter().filter_map(|(sign, comparison)| Some((text.find(sign)?, sign, *comparison)));
        let Some((at, sign, comparison)) = sign.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len()))) else {
            return Err("it needs a comparison: >, >=, < or <=, as in grant.p95>50ms".into());
        };
        let quantity = Quantity::parse(text[..at].trim())?;
        let value = quantity.parse_value(text[at + sign.len()..].trim())?;
        Ok(Self { text: text.trim().to_owned(), quantity, comparison, value })
    }

    /// What it compares.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// Whether a run with this measurement fails. `None`: it was not measured.
    pub fn fails(&self, measured: Option<f64>) -> bool {
        measured.is_none_or(|measured| match self.comparison {
            Comparison::More => measured > self.value,
            Comparison::AtLeast => measured >= self.value,
            Comparison::Less => measured < self.value,
            Comparison::AtMost => measured <= self.value,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Quantity {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, statistic) = match text.split_once('.') {
            Some((name, statistic)) => (name, Some(statistic)),
            None => (text, None),
        };
        let other = || OTHERS.iter().find(|(other, _)| *other == name).map(|(_, quantity)| *quantity);
        let count = || Count::ALL.iter().find(|count| count.name() == name).map(|count| Self::Count(*count));
        match (Time::ALL.iter().find(|time| time.name() == name), statistic) {
            (Some(time), Some(statistic)) => Self::parse_statistic(*time, statistic),
            (Some(_), None) => Err(format!("{name} is a distribution: write {name}.p95, {name}.mean or {name}.max")),
            (None, statistic) => match other().or_else(count) {
                Some(quantity) if statistic.is_none() => Ok(quantity),
                Some(_) => Err(format!("{name} is one number and has no percentiles")),
                None => Err(format!("there is no figure {name:?}; there are {}", names())),
            },
        }
    }

    fn parse_statistic(time: Time, statistic: &str) -> Result<Self, String> {
        match statistic {
            "max" => return Ok(Self::Percentile(time, 100.0)),
            "mean" => return Ok(Self::Mean(time)),
            _ => {}
        }
        let percentile = statistic.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
        match percentile.filter(|percentile| (0.0..=100.0).contains(percentile)) {
            Some(percentile) => Ok(Self::Percentile(time, percentile)),
            None => Err(format!("{statistic:?} is none of p0 to p100 (such as p95 or p99.9), mean and max")),
        }
    }

    fn parse_value(self, text: &str) -> Result<f64, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let value = match self {
            Self::Percentile(..) | Self::Mean(_) | Self::CpuPerPacket => {
                humantime::parse_duration(text).ok().map(|duration| duration.as_nanos() as f64)
            }
            Self::Loss => text.strip_suffix('%').and_then(number),
            Self::MemoryPerMember => [("KiB", 1024.0), ("MiB", 1_048_576.0), ("B", 1.0)]
                .iter()
                .find_map(|(unit, bytes)| text.strip_suffix(unit).and_then(number).map(|number| number * bytes)),
            Self::Count(_) | Self::Errors | Self::FloorRatio => number(text),
        };
        value.ok_or_else(|| format!("{text:?} is no value for it: write {}", self.example()))
    }

    fn example(self) -> &'static str {
        match self {
            Self::Percentile(..) | Self::Mean(_) | Self::CpuPerPacket => "a time with its unit, such as 50ms or 800us",
            Self::Loss => "percent, such as 0.1%",
            Self::MemoryPerMember => "a size with its unit, such as 50KiB",
            Self::Count(_) | Self::Errors | Self::FloorRatio => "a number",
        }
    }

    /// A value of this quantity, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Percentile(..) | Self::Mean(_) | Self::CpuPerPacket => show_time(value),
            Self::Loss => format!("{value:.3}%"),
            Self::MemoryPerMember => show_bytes(value),
            Self::Count(_) | Self::Errors => format!("{value}"),
            Self::FloorRatio => format!("{value:.2}"),
        }
    }
}

/// Nanoseconds, for people: three digits.
pub(crate) fn show_time(nanoseconds: f64) -> String {
    let time = Duration::from_nanos(nanoseconds as u64);
    let (number, unit) = match time.as_nanos() {
        0..1_000 => (nanoseconds, "ns"),
        1_000..1_000_000 => (nanoseconds / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {unit}")
}

/// Bytes, for people.
pub(crate) fn show_bytes(bytes: f64) -> String {
    match bytes.abs() {
        size if size < 1_048_576.0 => format!("{:.1} KiB", bytes / 1024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

fn names() -> String {
    let times = Time::ALL.iter().map(|time| format!("{}.p95", time.name()));
    let counts = Count::ALL.iter().map(|count| count.name().to_owned());
    let others = OTHERS.iter().map(|(name, _)| (*name).to_owned());
    times.chain(counts).chain(others).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Limit {
        Limit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn limits_are_read_and_compared() {
        for (text, quantity, passes, fails) in [
            ("grant.p95>50ms", Quantity::Percentile(Time::Grant, 95.0), 50e6, 50_000_001.0),
            ("mouth_to_ear.p99.9 >= 2ms", Quantity::Percentile(Time::MouthToEar, 99.9), 1_999_999.0, 2e6),
            ("join.max>10s", Quantity::Percentile(Time::Join, 100.0), 10e9, 11e9),
            ("push.mean>1ms", Quantity::Mean(Time::Push), 0.0, 2e6),
            ("clipped_first>0", Quantity::Count(Count::ClippedFirst), 0.0, 1.0),
            ("joined<1000", Quantity::Count(Count::Joined), 1000.0, 999.0),
            ("presses<=0", Quantity::Count(Count::Presses), 1.0, 0.0),
            ("loss>0.1%", Quantity::Loss, 0.1, 0.11),
            ("errors>0", Quantity::Errors, 0.0, 1.0),
            ("cpu_per_packet>5us", Quantity::CpuPerPacket, 5e3, 5001.0),
            ("floor_ratio>1.15", Quantity::FloorRatio, 1.15, 1.16),
            ("memory_per_member>50KiB", Quantity::MemoryPerMember, 51_200.0, 51_201.0),
        ] {
            let limit = limit(text);
            assert_eq!(limit.quantity(), quantity, "{text}");
            assert!(!limit.fails(Some(passes)) && limit.fails(Some(fails)), "{text}");
            assert!(limit.fails(None), "{text}: what was not measured is not passed");
        }
    }

    #[test]
    fn a_mistake_is_answered_with_what_would_be_right() {
        for (text, hint) in [
            ("grant.p95", "comparison"),
            ("grants.p95>1ms", "there are grant.p95, first_packet.p95"),
            ("grant>1ms", "grant.p95"),
            ("grant.p101>1ms", "p99.9"),
            ("grant.best>1ms", "p99.9"),
            ("grant.p95>50", "50ms"),
            ("grant.p95>-1ms", "50ms"),
            ("lost.p95>1", "no percentiles"),
            ("lost>few", "a number"),
            ("lost>-1", "a number"),
            ("loss>1", "0.1%"),
            ("memory_per_member>50", "50KiB"),
            (">1", "there are"),
        ] {
            let error = Limit::parse(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_shown_with_their_units() {
        assert_eq!(
            [0.0, 999.0, 1_500.0, 25e6, 4.69e9, 125e9].map(show_time),
            ["0.00 ns", "999 ns", "1.50 µs", "25.0 ms", "4.69 s", "125 s"]
        );
        assert_eq!([512.0, 20_480.0, 3e6].map(show_bytes), ["0.5 KiB", "20.0 KiB", "2.9 MiB"]);
    }
}
