//! The end of a run: figures, what they cost, and the verdict over the limits. As a table for people, as JSON for programs.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::figures::{Count, Figures, Time};
use crate::limits::{Limit, Quantity};
use crate::process::Samples;

/// The percentiles of the report.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("max", 100.0)];

/// The steps of a distribution in JSON, in nines: 1 is 90 %, 2 is 99 %.
pub(crate) const NINES_STEP: f64 = 0.1;

/// A packet that this tool sends later than this makes its figures worth less.
const LATE: Duration = Duration::from_millis(10);

/// What was measured of one process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cost {
    pub(crate) name: String,
    /// While members joined, and while they talked.
    pub(crate) joining: Duration,
    pub(crate) talking: Duration,
    /// Before the first member; when all had joined and nobody talked; after the talks.
    pub(crate) memory: [u64; 3],
    /// Whether it was known before the first member.
    pub(crate) has_baseline: bool,
    /// Whether it forwards packets.
    pub(crate) media: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) target: String,
    pub(crate) settings: Value,
    pub(crate) figures: Figures,
    /// From the first member's start to the last one's.
    pub(crate) joining: Duration,
    pub(crate) talking: Duration,
    pub(crate) members: u32,
    /// Members that were there when memory was taken.
    pub(crate) early: u64,
    pub(crate) by_pid: BTreeMap<u32, Cost>,
    /// Packets received while `talking`.
    pub(crate) forwarded: u64,
    /// CPU time of this process, and of everything else on the machine, while members talked.
    pub(crate) own: Duration,
    pub(crate) others: Duration,
    pub(crate) dropped: u64,
    pub(crate) own_dropped: u64,
    /// CPU time of a packet that a bare loop sends to the same sockets, in nanoseconds.
    pub(crate) floor: Option<f64>,
    pub(crate) limits: Vec<Limit>,
}

/// Talks that went on at the same time, on average.
pub(crate) fn talks_at_once(figures: &Figures, talking: Duration) -> f64 {
    let spoken = figures.count(Count::Sent) as f64 * crate::traffic::FRAME.as_secs_f64();
    spoken / talking.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The value at each step of nines, as far as there are samples that tell them apart.
fn nines(times: &hdrhistogram::Histogram<u64>) -> Vec<f64> {
    let last = ((times.len() as f64).log10() / NINES_STEP) as u32;
    let quantile = |step: u32| 1.0 - 10_f64.powf(-f64::from(step) * NINES_STEP);
    (0..=last).map(|step| times.value_at_quantile(quantile(step)) as f64).collect()
}

/// A limit and what was measured.
pub(crate) struct Verdict<'a> {
    pub(crate) limit: &'a Limit,
    pub(crate) measured: Option<f64>,
    pub(crate) fails: bool,
}

/// The deployment's processes at the four times at which they are looked at.
pub(crate) struct Looks {
    pub(crate) before: Samples,
    pub(crate) joined: Samples,
    pub(crate) talked: Samples,
}

impl Looks {
    /// What each process cost, by its number.
    pub(crate) fn costs(&self, media: &[u32]) -> BTreeMap<u32, Cost> {
        let cost = |(pid, talked): (&u32, &crate::process::Sample)| {
            let (before, joined) = (self.before.by_pid.get(pid), self.joined.by_pid.get(pid));
            let joined = joined.unwrap_or(talked);
            let cost = Cost {
                name: talked.name.clone(),
                joining: joined.cpu.saturating_sub(before.map_or(joined.cpu, |before| before.cpu)),
                talking: talked.cpu.saturating_sub(joined.cpu),
                memory: [before.map_or(0, |before| before.memory), joined.memory, talked.memory],
                has_baseline: before.is_some(),
                media: media.contains(pid),
            };
            (*pid, cost)
        };
        self.talked.by_pid.iter().map(cost).collect()
    }

    /// CPU time that neither the deployment nor this process used while members talked.
    pub(crate) fn others(&self, deployment: Duration) -> Duration {
        let busy = self.talked.busy.saturating_sub(self.joined.busy);
        busy.saturating_sub(self.own()).saturating_sub(deployment)
    }

    pub(crate) fn own(&self) -> Duration {
        self.talked.own.saturating_sub(self.joined.own)
    }
}

impl Report {
    /// A figure's value, in the unit of its limits. `None`: there is none.
    pub(crate) fn measure(&self, quantity: Quantity) -> Option<f64> {
        let times = |time| Some(self.figures.times(time)).filter(|times| !times.is_empty());
        match quantity {
            Quantity::Percentile(time, percentile) => {
                times(time).map(|times| times.value_at_quantile(percentile / 100.0) as f64)
            }
            Quantity::Mean(time) => times(time).map(hdrhistogram::Histogram::mean),
            Quantity::Count(count) => Some(self.figures.count(count) as f64),
            Quantity::Errors => Some(self.figures.errors().values().map(|(count, _)| *count as f64).sum()),
            Quantity::Loss => self.figures.loss_percent(),
            Quantity::CpuPerPacket => self.cpu_per_packet(self.by_pid.values()),
            Quantity::MemoryPerMember => self.memory_per_member(self.by_pid.values()),
            Quantity::FloorRatio => {
                let media = self.cpu_per_packet(self.by_pid.values().filter(|cost| cost.media))?;
                self.floor.map(|floor| media / floor)
            }
        }
    }

    /// CPU time that these processes took for each packet that a listener got, in nanoseconds.
    pub(crate) fn cpu_per_packet<'a>(&self, costs: impl Iterator<Item = &'a Cost>) -> Option<f64> {
        let cpu = costs.map(|cost| cost.talking).reduce(|sum, cpu| sum + cpu)?;
        (self.forwarded > 0).then(|| cpu.as_nanos() as f64 / self.forwarded as f64)
    }

    /// Memory that these processes took for each member that joined and did not talk.
    pub(crate) fn memory_per_member<'a>(&self, costs: impl Iterator<Item = &'a Cost>) -> Option<f64> {
        let grown = |cost: &Cost| cost.has_baseline.then(|| cost.memory[1] as f64 - cost.memory[0] as f64);
        let sum = costs.map(grown).reduce(|sum, grown| Some(sum? + grown?))??;
        (self.early > 0).then(|| sum / self.early as f64)
    }

    /// The limits, each with its measurement.
    pub(crate) fn verdicts(&self) -> Vec<Verdict<'_>> {
        let verdict = |limit: &'_ _| {
            let limit: &Limit = limit;
            let measured = self.measure(limit.quantity());
            (measured, limit.fails(measured))
        };
        self.limits
            .iter()
            .map(|limit| {
                let (measured, fails) = verdict(limit);
                Verdict { limit, measured, fails }
            })
            .collect()
    }

    /// What makes the figures worth less than they look.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let lag = self.figures.times(Time::SendLag).value_at_quantile(0.99);
        if Duration::from_nanos(lag) > LATE {
            doubts.push(format!(
                "one in a hundred packets left this tool more than {} late: it has too little CPU for this load",
                crate::limits::show_time(lag as f64)
            ));
        }
        if self.own_dropped > 0 {
            doubts.push(format!(
                "{} datagrams were lost in this tool's own sockets, and count as lost: more --threads, or a larger \
                 net.core.rmem_max",
                self.own_dropped
            ));
        }
        let share = self.others.as_secs_f64() / self.talking.as_secs_f64().max(f64::MIN_POSITIVE);
        if share > 0.2 {
            doubts.push(format!("other processes of this machine used {share:.1} of its processors meanwhile"));
        }
        doubts
    }

    /// For programs. Times are in milliseconds.
    pub(crate) fn json(&self) -> Value {
        let milliseconds = |nanoseconds: f64| nanoseconds / 1e6;
        let mut times = Map::new();
        for time in Time::ALL {
            let found = self.figures.times(*time);
            let mut entry = Map::from_iter([("count".to_owned(), found.len().into())]);
            if !found.is_empty() {
                entry.insert("mean".to_owned(), milliseconds(found.mean()).into());
                for (name, percentile) in PERCENTILES {
                    let value = found.value_at_quantile(percentile / 100.0) as f64;
                    entry.insert(name.to_owned(), milliseconds(value).into());
                }
                entry.insert("nines".to_owned(), nines(found).into_iter().map(milliseconds).collect());
            }
            times.insert(time.name().to_owned(), entry.into());
        }
        let counts: Map<String, Value> =
            Count::ALL.iter().map(|count| (count.name().to_owned(), self.figures.count(*count).into())).collect();
        let errors: Map<String, Value> = self
            .figures
            .errors()
            .iter()
            .map(|(kind, (count, first))| (kind.clone(), json!({"count": count, "first": first})))
            .collect();
        let processes: Vec<Value> = self
            .by_pid
            .iter()
            .map(|(pid, cost)| {
                json!({
                    "pid": pid,
                    "name": cost.name,
                    "cpu_seconds": {"joining": cost.joining.as_secs_f64(), "talking": cost.talking.as_secs_f64()},
                    "memory_bytes": {"before": cost.memory[0], "joined": cost.memory[1], "talked": cost.memory[2]},
                    "memory_before_is_known": cost.has_baseline,
                    "forwards": cost.media,
                    "cpu_per_packet_ns": self.cpu_per_packet([cost].into_iter()),
                    "memory_per_member_bytes": self.memory_per_member([cost].into_iter()),
                })
            })
            .collect();
        let limits: Vec<Value> = self
            .verdicts()
            .iter()
            .map(|verdict| {
                let measured = verdict.measured.map(|measured| verdict.limit.quantity().show(measured));
                json!({"limit": verdict.limit.to_string(), "measured": measured, "fails": verdict.fails})
            })
            .collect();
        json!({
            "target": self.target,
            "settings": self.settings,
            "joining_seconds": self.joining.as_secs_f64(),
            "talking_seconds": self.talking.as_secs_f64(),
            "talks_at_once": talks_at_once(&self.figures, self.talking),
            "milliseconds": times,
            "counts": counts,
            "loss_percent": self.figures.loss_percent(),
            "errors": errors,
            "processes": processes,
            "cpu_per_packet_ns": self.measure(Quantity::CpuPerPacket),
            "memory_per_member_bytes": self.measure(Quantity::MemoryPerMember),
            "floor_ns": self.floor,
            "floor_ratio": self.measure(Quantity::FloorRatio),
            "packets_while_talking": self.forwarded,
            "dropped_before_the_deployment": self.dropped,
            "dropped_before_this_tool": self.own_dropped,
            "cpu_seconds_of_this_tool": self.own.as_secs_f64(),
            "cpu_seconds_of_others": self.others.as_secs_f64(),
            "doubts": self.doubts(),
            "limits": limits,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that went well.
    pub(crate) fn report(limits: &[&str]) -> Report {
        let mut figures = Figures::default();
        for milliseconds in 1..=100 {
            figures.time(Time::Grant, Duration::from_millis(milliseconds));
        }
        figures.add(Count::Sent, 1000);
        figures.add(Count::Expected, 10_000);
        figures.add(Count::Lost, 1);
        figures.error("refused", &"no");
        let cost = Cost {
            name: "voiceping".into(),
            joining: Duration::from_secs(1),
            talking: Duration::from_millis(30),
            memory: [10 << 20, 20 << 20, 21 << 20],
            has_baseline: true,
            media: true,
        };
        Report {
            target: "ws://127.0.0.1:3000/ws".into(),
            settings: json!({"members": 1024}),
            figures,
            joining: Duration::from_secs(2),
            talking: Duration::from_secs(10),
            members: 1024,
            early: 1024,
            by_pid: BTreeMap::from([(7, cost)]),
            forwarded: 10_000,
            own: Duration::from_secs(1),
            others: Duration::ZERO,
            dropped: 0,
            own_dropped: 0,
            floor: Some(2000.0),
            limits: limits.iter().map(|limit| Limit::parse(limit).expect("valid")).collect(),
        }
    }

    #[test]
    fn what_is_derived_is_right() {
        let report = report(&[]);
        assert_eq!(report.measure(Quantity::CpuPerPacket), Some(3000.0));
        assert_eq!(report.measure(Quantity::MemoryPerMember), Some(10_240.0));
        assert_eq!(report.measure(Quantity::Loss), Some(0.01));
        assert_eq!(report.measure(Quantity::Errors), Some(1.0));
        assert_eq!(report.measure(Quantity::Mean(Time::Push)), None);
        assert_eq!(talks_at_once(&report.figures, report.talking), 2.0);
        assert!(report.doubts().is_empty());
    }

    #[test]
    fn limits_are_judged_by_what_was_measured() {
        let limits = ["grant.p95>50ms", "grant.p50>60ms", "push.p95>1s", "lost>1", "errors>0", "cpu_per_packet>4us"];
        let report = report(&limits);
        let fails: Vec<bool> = report.verdicts().iter().map(|verdict| verdict.fails).collect();
        assert_eq!(fails, [true, false, true, false, true, false]);
    }

    #[test]
    fn the_json_says_all_of_it() {
        let json = report(&["grant.p95>50ms"]).json();
        assert_eq!(json["milliseconds"]["grant"]["count"], 100);
        let p95 = json["milliseconds"]["grant"]["p95"].as_f64().expect("a number");
        assert!((p95 - 95.0).abs() < 0.1, "{p95}");
        let nines = json["milliseconds"]["grant"]["nines"].as_array().expect("a distribution");
        assert_eq!(nines.len(), 21, "a hundred samples tell 99 % apart");
        assert!((nines[10].as_f64().expect("a number") - 90.0).abs() < 0.1, "{nines:?}");
        assert_eq!(json["milliseconds"]["push"], json!({"count": 0}));
        assert_eq!(json["counts"]["lost"], 1);
        assert_eq!(json["errors"]["refused"], json!({"count": 1, "first": "no"}));
        assert_eq!(json["limits"][0]["fails"], true);
        assert_eq!(json["cpu_per_packet_ns"], 3000.0);
    }

    #[test]
    fn a_busy_machine_and_a_late_tool_are_said() {
        let mut report = report(&[]);
        report.figures.time(Time::SendLag, Duration::from_millis(80));
        (report.own_dropped, report.others) = (5, Duration::from_secs(9));
        assert_eq!(report.doubts().len(), 3, "{:?}", report.doubts());
    }
}
