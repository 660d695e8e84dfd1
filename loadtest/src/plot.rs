//! `voiceping plot`: drawings of reports that `voiceping loadtest --json` has written, as SVG.
//!
//! Called by the binary's command line. Reads reports and writes one file; knows nothing of a run that goes on.

mod chart;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::chart::{Axis, Chart, Line};
use crate::figures::Time;
use crate::report::NINES_STEP;

/// Settings of the command.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "plot")]
pub struct Args {
    /// What to draw
    #[arg(value_enum)]
    what: What,

    /// The file to write
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,

    /// A title above it
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// Reports of `voiceping loadtest --json`
    #[arg(required = true, value_name = "REPORT.json")]
    reports: Vec<PathBuf>,
}

/// Which drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// How the times of one run are distributed
    Latency,
    /// Processors in use against members, a run for each point
    Cpu,
    /// Mouth to ear against members, a run for each point
    Delay,
}

/// The times of a latency drawing: those that a person feels.
const FELT: [(Time, &str); 5] = [
    (Time::MouthToEar, "mouth to ear"),
    (Time::Grant, "press to grant"),
    (Time::FirstPacket, "press to first packet"),
    (Time::Push, "press to speaker-changed"),
    (Time::LateEntry, "late entry"),
];

/// Draws.
pub fn run(args: &Args) -> Result<()> {
    let reports = args.reports.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let svg = draw(args.what, args.title.as_deref(), &reports)?;
    std::fs::write(&args.out, svg).with_context(|| format!("{} cannot be written", args.out.display()))
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    ensure!(report["milliseconds"].is_object(), "{} is no report of voiceping loadtest", path.display());
    Ok(report)
}

fn draw(what: What, title: Option<&str>, reports: &[Value]) -> Result<String> {
    match what {
        What::Latency => {
            let [report] = reports else { anyhow::bail!("latency: one report, not {}", reports.len()) };
            latency(title, report)
        }
        What::Cpu => cpu(title, reports),
        What::Delay => delay(title, reports),
    }
}

/// The share of all that took at most so long, on a scale of nines.
fn latency(title: Option<&str>, report: &Value) -> Result<String> {
    let line = |(time, name): &(Time, &'static str)| {
        let values = report["milliseconds"][time.name()]["nines"].as_array()?;
        let points =
            values.iter().enumerate().filter_map(|(at, value)| Some((at as f64 * NINES_STEP, value.as_f64()?)));
        Some(Line { name, points: points.collect(), dotted: false })
    };
    let lines: Vec<Line> = FELT.iter().filter_map(line).filter(|line| !line.points.is_empty()).collect();
    let title = title.map_or_else(|| format!("{} members", members(report)), str::to_owned);
    Chart { title: &title, x: Axis::Nines("of all took at most so long"), y: Axis::LogTime(""), lines }.draw()
}

/// What the deployment takes, and what bare sends of the same packets would.
fn cpu(title: Option<&str>, reports: &[Value]) -> Result<String> {
    let share = |report: &Value, seconds: f64| seconds / report["talking_seconds"].as_f64().unwrap_or(f64::NAN);
    let deployment = |report: &Value| {
        let processes = report["processes"].as_array()?;
        let cpu = processes.iter().filter_map(|process| process["cpu_seconds"]["talking"].as_f64()).sum();
        Some(share(report, cpu))
    };
    let floor = |report: &Value| {
        let bare = report["floor_ns"].as_f64()? * report["packets_while_talking"].as_f64()? / 1e9;
        Some(share(report, bare))
    };
    let tool = |report: &Value| Some(share(report, report["cpu_seconds_of_this_tool"].as_f64()?));
    let lines = vec![
        points("VoicePing", reports, deployment, false),
        points("bare sends of the same packets", reports, floor, true),
        points("the load generator", reports, tool, true),
    ];
    let lines = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
    let title = title.unwrap_or("Processors in use");
    Chart { title, x: Axis::Number("members"), y: Axis::Number("processors"), lines }.draw()
}

fn delay(title: Option<&str>, reports: &[Value]) -> Result<String> {
    let percentile = |name: &'static str| move |report: &Value| report["milliseconds"]["mouth_to_ear"][name].as_f64();
    let lines = vec![
        points("p50", reports, percentile("p50"), false),
        points("p95", reports, percentile("p95"), false),
        points("p99", reports, percentile("p99"), false),
    ];
    let title = title.unwrap_or("Mouth to ear");
    Chart { title, x: Axis::Number("members"), y: Axis::LogTime(""), lines }.draw()
}

fn points(name: &'static str, reports: &[Value], value: impl Fn(&Value) -> Option<f64>, dotted: bool) -> Line {
    let mut points: Vec<(f64, f64)> =
        reports.iter().filter_map(|report| Some((members(report), value(report)?))).collect();
    points.retain(|(x, y)| x.is_finite() && y.is_finite());
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    Line { name, points, dotted }
}

fn members(report: &Value) -> f64 {
    let count = |name: &str| report["settings"][name].as_f64().unwrap_or(0.0);
    count("members") + count("quiet_members")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(members: u32) -> Value {
        json!({
            "settings": {"members": members, "quiet_members": 0},
            "talking_seconds": 10.0,
            "floor_ns": 5000.0,
            "packets_while_talking": 100_000,
            "cpu_seconds_of_this_tool": 3.0,
            "processes": [{"cpu_seconds": {"talking": 6.0}}],
            "milliseconds": {"mouth_to_ear": {"p50": 0.3, "p95": 0.6, "p99": 0.9, "nines": [0.1, 0.3, 0.6, 0.9]}},
        })
    }

    #[test]
    fn every_drawing_is_drawn_with_its_lines() {
        let reports = [report(2000), report(1000)];
        for (what, reports, words) in [
            (What::Latency, &reports[..1], vec!["2000 members", "mouth to ear", "90%"]),
            (What::Cpu, &reports[..], vec!["VoicePing", "bare sends", "members", "processors"]),
            (What::Delay, &reports[..], vec!["p50", "p99", "ms"]),
        ] {
            let svg = draw(what, None, reports).expect("drawn");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{what:?}");
            for word in words {
                assert!(svg.contains(word), "{what:?} without {word}: {svg}");
            }
        }
    }

    #[test]
    fn points_are_in_the_order_of_members_and_what_is_missing_is_left_out() {
        let mut reports = [report(2000), report(1000), report(500)];
        reports[2]["floor_ns"] = Value::Null;
        let line = points("p50", &reports, |report| report["floor_ns"].as_f64(), false);
        assert_eq!(line.points, [(1000.0, 5000.0), (2000.0, 5000.0)]);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let file = std::env::temp_dir().join(format!("voiceping-plot-{}", std::process::id()));
        std::fs::write(&file, "{}").expect("writes");
        assert!(read(&file).expect_err("no report").to_string().contains("no report"));
        std::fs::remove_file(&file).expect("there");
        assert!(draw(What::Latency, None, &[report(1), report(2)]).is_err(), "two reports in one distribution");
        assert!(draw(What::Cpu, None, &[json!({"settings": {}})]).is_err(), "nothing to be drawn");
    }
}
