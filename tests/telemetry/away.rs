//! A collector that is not there, or that says nothing: presses work, and the end is not held up.

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::net::TcpListener;
use voiceping_testkit::signaling::Signaling;

use crate::cluster::watched;
use crate::process::{Running, SECRET, token, voiceping};
use crate::scrape::{admin, until};

async fn all_in_one(collector: &str, patience_ms: &str) -> Result<Running> {
    let flags = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-workers", "1"];
    let more = ["--admin-listen", "127.0.0.1:0", "--jwt-secret", SECRET];
    let mut command = watched(voiceping(&[&flags[..], &more].concat()), collector);
    command.env("OTEL_EXPORTER_OTLP_TIMEOUT", patience_ms);
    Running::spawn(command, "VoicePing is at http://").await
}

async fn presses(process: &Running) -> Result<()> {
    let mut socket = Signaling::connect(&format!("ws://{}/ws", process.said()), &token("alice", &["lobby"])).await?;
    socket.ok("join-channel", json!({"channelId": "lobby"})).await?;
    for _ in 0..3 {
        socket.ok("ptt-start", json!({"channelId": "lobby"})).await?;
        socket.ok("ptt-stop", json!({"channelId": "lobby"})).await?;
    }
    Ok(())
}

/// Ends it, and answers what it logged.
async fn end(mut process: Running) -> Result<String> {
    process.signal("TERM").await?;
    let status = process.ended().await?;
    ensure!(status.success(), "{status}: {}", process.log());
    Ok(process.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_collects_everything_works_and_what_is_lost_is_counted_and_said_once() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    let process = all_in_one(&nobody, "200").await?;
    presses(&process).await?;
    let admin = admin(&process)?;
    for signal in ["traces", "logs", "metrics"] {
        let series = format!(r#"voiceping_telemetry_lost_total{{signal="{signal}"}}"#);
        let lost = until(&admin, &series, |lost| lost > 0.0).await?;
        presses(&process).await?;
        if signal == "traces" {
            until(&admin, &series, |again| again > lost).await?;
        }
    }
    let log = end(process).await?;
    for signal in ["traces", "logs", "metrics"] {
        let said = log.lines().filter(|line| line.contains("cannot be delivered") && line.contains(signal));
        ensure!(said.count() == 1, "{signal}: {log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nothing_up() -> Result<()> {
    // It takes connections, as the kernel does, and nothing else. An hour is longer than any test waits for an end.
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let process = all_in_one(&mute.local_addr()?.to_string(), "3600000").await?;
    presses(&process).await?;
    let log = end(process).await?;
    ensure!(log.contains("the last telemetry was not delivered in time"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_asked_for_telemetry_has_none() -> Result<()> {
    let flags = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-workers", "1"];
    let mut command = voiceping(&[&flags[..], &["--jwt-secret", SECRET]].concat());
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    let process = Running::spawn(command, "VoicePing is at http://").await?;
    presses(&process).await?;
    let log = end(process).await?;
    ensure!(!log.contains("telemetry") && !log.contains("trace_id"), "{log}");
    Ok(())
}
