//! What Prometheus sees at an admin port.

use anyhow::{Context, Result};
use voiceping_testkit::soon;

use crate::process::{Running, get};

/// Where the admin port of a process is, by its log.
pub(crate) fn admin(process: &Running) -> Result<String> {
    let log = process.log();
    let (_, rest) = log.split_once("metrics are at http://").with_context(|| log.clone())?;
    Ok(rest.split_once("/metrics").context("a path")?.0.to_owned())
}

/// All samples of a scrape: the series as it is written, and its value.
pub(crate) async fn scrape(admin: &str) -> Result<Vec<(String, f64)>> {
    let (status, text) = get(admin, "/metrics").await?;
    anyhow::ensure!(status == 200, "{status}: {text}");
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = samples.map(|line| {
        let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        Ok((series.to_owned(), value.parse()?))
    });
    read.collect()
}

/// Asks until a series has a value like this, and answers it. The order of its labels is Prometheus's: alphabetical.
pub(crate) async fn until(admin: &str, series: &str, like: impl Fn(f64) -> bool) -> Result<f64> {
    let asked = async {
        loop {
            let samples = scrape(admin).await?;
            if let Some((_, value)) = samples.iter().find(|(known, value)| known == series && like(*value)) {
                return Ok(*value);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // asks again; what it waits for is the value
        }
    };
    soon(series, asked).await?
}
