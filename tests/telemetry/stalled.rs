//! A log that nobody reads: lines are dropped and counted, and nobody waits.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::soon;

use crate::process::{SECRET, get, token, voiceping};
use crate::scrape::scrape;

/// Reads the log up to a line with this marker, and answers the address behind it.
async fn read_until(log: &mut BufReader<ChildStderr>, marker: &str) -> Result<String> {
    let mut line = String::new();
    while log.read_line(&mut line).await? > 0 {
        if let Some((_, rest)) = line.split_once(marker) {
            return Ok(rest.trim().trim_end_matches("/metrics").to_owned());
        }
        line.clear();
    }
    anyhow::bail!("the log has ended without {marker}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stalls_nobody() -> Result<()> {
    let flags = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-workers", "1"];
    let more = ["--admin-listen", "127.0.0.1:0", "--jwt-secret", SECRET, "--log", "trace"];
    let mut child = voiceping(&[&flags[..], &more].concat()).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().context("piped")?);
    let admin = soon("the admin port", read_until(&mut log, "metrics are at http://")).await??;
    let address = soon("the address", read_until(&mut log, "VoicePing is at http://")).await??;

    // Each question makes lines of its own. From here on the test does not read them.
    let lost = r#"voiceping_telemetry_lost_total{signal="stderr"}"#;
    let dropped = async {
        loop {
            for _ in 0..100 {
                get(&admin, "/livez").await?;
            }
            let samples = scrape(&admin).await?;
            if samples.iter().any(|(series, value)| series == lost && *value > 0.0) {
                return anyhow::Ok(());
            }
        }
    };
    soon("lines that are dropped", dropped).await??;

    let mut socket = Signaling::connect(&format!("ws://{address}/ws"), &token("alice", &["lobby"])).await?;
    socket.ok("join-channel", json!({"channelId": "lobby"})).await?;
    for _ in 0..3 {
        socket.ok("ptt-start", json!({"channelId": "lobby"})).await?;
        // The gate's line is written by a media worker.
        socket.ok("ptt-stop", json!({"channelId": "lobby"})).await?;
    }
    let id = child.id().context("it runs")?;
    let status = tokio::process::Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().await?;
    ensure!(status.success(), "the signal was sent");
    let status = soon("the end, although nobody reads", child.wait()).await??;
    ensure!(status.success(), "{status}");
    drop(log);
    Ok(())
}
