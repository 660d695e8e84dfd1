//! docs/metrics.md says what there is, and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use voiceping_signals::{Kind, Metric};

/// What the page says of a metric.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    kind: String,
    unit: String,
    labels: Vec<String>,
    prometheus: String,
}

/// All metrics that are declared anywhere.
pub(crate) fn declared() -> Vec<Metric> {
    [
        voiceping_telemetry::metrics(),
        voiceping_gateway::metrics(),
        voiceping_state::metrics(),
        voiceping_rpc::metrics(),
        voiceping_media_node::metrics(),
    ]
    .concat()
}

/// The name that Prometheus sees, by OpenTelemetry's rules for it.
pub(crate) fn in_prometheus(metric: &Metric) -> String {
    let unit = match metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        unit if unit.is_empty() || unit.starts_with('{') => "",
        unit => panic!("{}: what is {unit:?} in Prometheus?", metric.name),
    };
    let total = if metric.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", metric.name.replace('.', "_"))
}

fn page() -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    std::fs::read_to_string(path).context("docs/metrics.md")
}

/// The cells of all rows that begin with a name.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn bare(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[test]
fn the_page_lists_all_metrics_and_no_others() -> Result<()> {
    let page = page()?;
    let written: BTreeMap<String, Row> = rows(&page)
        .into_iter()
        .filter(|cells| cells.len() == 6)
        .map(|cells| {
            let labels = cells[3].split(',').map(|label| bare(label.trim())).filter(|label| !label.is_empty());
            let row = Row {
                kind: cells[1].to_owned(),
                unit: bare(cells[2]),
                labels: labels.collect(),
                prometheus: bare(cells[4]),
            };
            (bare(cells[0]), row)
        })
        .collect();
    let declared: BTreeMap<String, Row> = declared()
        .iter()
        .map(|metric| {
            let row = Row {
                kind: metric.kind.as_str().to_owned(),
                unit: metric.unit.to_owned(),
                labels: metric.labels.iter().map(|label| (*label).to_owned()).collect(),
                prometheus: in_prometheus(metric),
            };
            (metric.name.to_owned(), row)
        })
        .collect();
    for (name, row) in &declared {
        assert_eq!(written.get(name), Some(row), "{name}, as the page has it (left) and as it is (right)");
    }
    let unknown: Vec<_> = written.keys().filter(|name| !declared.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "nothing gives {unknown:?}");
    Ok(())
}

#[test]
fn the_page_has_the_bounds_of_every_histogram() -> Result<()> {
    let page = page()?;
    let bounds = |text: &str| text.split(' ').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>();
    let mut written = BTreeMap::new();
    for cells in rows(&page).into_iter().filter(|cells| cells.len() == 2) {
        written.insert(bare(cells[0]), bounds(cells[1])?);
    }
    let others = page.lines().find_map(|line| line.strip_prefix("| all others | ")).context("all others")?;
    let others = bounds(others.trim_end_matches('|').trim())?;
    for metric in declared().iter().filter(|metric| metric.kind == Kind::Histogram) {
        assert_eq!(written.remove(metric.name).as_ref().unwrap_or(&others), metric.bounds, "{}", metric.name);
    }
    assert!(written.is_empty(), "{written:?}");
    Ok(())
}

#[test]
fn every_metric_is_declared_once() {
    let mut names: Vec<_> = declared().iter().map(|metric| metric.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
