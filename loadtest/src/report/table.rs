//! The report for people.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{PERCENTILES, Report, talks_at_once};
use crate::figures::{Count, Time};
use crate::limits::{Quantity, show_bytes, show_time};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.times(f)?;
        self.counts(f)?;
        self.costs(f)?;
        for (kind, (count, first)) in self.figures.errors() {
            writeln!(f, "error · {kind} · {count} times, first: {first}")?;
        }
        for doubt in self.doubts() {
            writeln!(f, "doubt · {doubt}")?;
        }
        for verdict in self.verdicts() {
            let measured =
                verdict.measured.map_or("not measured".into(), |measured| verdict.limit.quantity().show(measured));
            let word = if verdict.fails { "FAILS" } else { "passes" };
            writeln!(f, "limit · {} · {measured} · {word}", verdict.limit)?;
        }
        Ok(())
    }
}

impl Report {
    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let joined = self.figures.count(Count::Joined);
        writeln!(f, "\n{joined} of {} members joined at {}, in {}", self.members, self.target, seconds(self.joining))?;
        let talks = self.figures.count(Count::Granted);
        let at_once = talks_at_once(&self.figures, self.talking);
        writeln!(f, "{talks} talks in {}, {at_once:.1} at the same time on average\n", seconds(self.talking))
    }

    fn times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}{:<60}{:>10}", "", "", "count")?;
        PERCENTILES.iter().try_for_each(|(name, _)| write!(f, "{name:>10}"))?;
        writeln!(f)?;
        for time in Time::ALL {
            let found = self.figures.times(*time);
            write!(f, "{:<14}{:<60}{:>10}", time.name(), time.what(), found.len())?;
            for (_, percentile) in PERCENTILES {
                let value = found.value_at_quantile(percentile / 100.0) as f64;
                let text = if found.is_empty() { "–".into() } else { show_time(value) };
                write!(f, "{text:>10}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)
    }

    fn counts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for count in Count::ALL {
            let found = self.figures.count(*count);
            let loss = self.figures.loss_percent().filter(|_| *count == Count::Lost);
            let loss = loss.map_or(String::new(), |loss| format!("  {loss:.4}%"));
            writeln!(f, "{:<14}{:<58}{found:>12}{loss}", count.name(), count.what())?;
        }
        writeln!(f)
    }

    fn costs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (pid, cost) in &self.by_pid {
            let [before, joined, talked] = cost.memory.map(|bytes| show_bytes(bytes as f64));
            let before = if cost.has_baseline { before } else { "unknown".into() };
            writeln!(
                f,
                "{} ({pid}): CPU {} joining, {} talking; memory {before} before, {joined} joined, {talked} after the talks",
                cost.name,
                seconds(cost.joining),
                seconds(cost.talking)
            )?;
            if self.by_pid.len() > 1 {
                let cpu = self.cpu_per_packet([cost].into_iter()).map_or("–".into(), show_time);
                let memory = self.memory_per_member([cost].into_iter()).map_or("–".into(), show_bytes);
                writeln!(f, "    of it {cpu} of CPU for each forwarded packet, {memory} for each member")?;
            }
        }
        for (quantity, what) in [
            (Quantity::CpuPerPacket, "CPU for each forwarded packet"),
            (Quantity::MemoryPerMember, "memory for each member that joined and does not talk"),
        ] {
            if let Some(value) = self.measure(quantity) {
                writeln!(f, "{what}: {}", quantity.show(value))?;
            }
        }
        if let Some((floor, ratio)) = self.floor.zip(self.measure(Quantity::FloorRatio)) {
            writeln!(f, "a bare loop of sends to the same sockets: {}, ratio {ratio:.2}", show_time(floor))?;
        }
        if self.dropped > 0 {
            writeln!(
                f,
                "{} datagrams were lost in the deployment's own sockets: it did not read them in time",
                self.dropped
            )?;
        }
        writeln!(f, "this tool: CPU {} while members talked\n", seconds(self.own))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;

    #[test]
    fn the_table_has_every_figure_and_says_which_limit_fails() {
        let text = report(&["grant.p95>50ms", "push.p95>1s", "lost>1"]).to_string();
        for part in [
            "0 of 1024 members joined at ws://127.0.0.1:3000/ws, in 2.00 s",
            "2.0 at the same time",
            "95.0 ms",
            "0.0100%",
            "10.0 MiB before, 20.0 MiB joined",
            "3.00 µs",
            "10.0 KiB",
            "2.00 µs, ratio 1.50",
            "error · refused · 1 times, first: no",
            "limit · grant.p95>50ms · 95.0 ms · FAILS",
            "limit · push.p95>1s · not measured · FAILS",
            "limit · lost>1 · 1 · passes",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
