//! `voiceping loadtest` against the all-in-one, both as real processes, with few members for a short time. What it counts does
//! not depend on how fast the machine is: everybody joins, nothing is lost, nothing is clipped.

#[path = "../../bench/baselines.rs"]
mod baselines;
mod counts;
#[allow(dead_code)] // of the tests of the all-in-one, which use all of it
#[path = "../stack/process.rs"]
mod process;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use process::{Process, SECRET, voiceping};
use serde_json::{Value, json};

/// A run takes seconds; a busy machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run of the tool has left behind.
struct Outcome {
    succeeded: bool,
    /// Standard output.
    output: String,
    /// Standard error.
    errors: String,
}

impl Outcome {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.output).with_context(|| format!("no JSON: {} {}", self.output, self.errors))
    }
}

async fn loadtest(url: &str, secret: &str, flags: &[&str]) -> Result<Outcome> {
    let mut command = voiceping(&["loadtest", "--url", url, "--jwt-secret", secret]);
    command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("it ends by itself")??;
    Ok(Outcome {
        succeeded: output.status.success(),
        output: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
}

/// Short talks with short pauses: as many as fit into a test.
const TRAFFIC: [&str; 12] = [
    "--duration",
    "4s",
    "--talk-mean",
    "300ms",
    "--pause-mean",
    "200ms",
    "--storm",
    "--seed",
    "7",
    "--join-timeout",
    "60s",
    "--json",
];

fn assert_clean(report: &Value, members: u64) {
    assert_eq!(report["errors"], json!({}), "{report:#}");
    let count = |name: &str| report["counts"][name].as_u64().expect("a count");
    assert_eq!((count("joined"), count("not_joined")), (members, 0), "{report:#}");
    assert!(count("granted") > 0 && count("expected") > 0, "somebody talked: {report:#}");
    for none in ["duplicates", "clipped_first", "strays", "interrupted"] {
        assert_eq!(count(none), 0, "{none}: {report:#}");
    }
    assert_eq!(count("presses"), count("granted") + count("denied"), "{report:#}");
    for time in ["grant", "first_packet", "mouth_to_ear", "push", "release", "join", "join_media"] {
        assert!(report["milliseconds"][time]["p95"].as_f64().is_some_and(|p95| p95 > 0.0), "{time}: {report:#}");
    }
}

/// Every packet reaches every listener.
fn assert_whole(report: &Value) {
    let count = |name: &str| report["counts"][name].as_u64().expect("a count");
    assert_eq!((count("lost"), count("clipped_last")), (0, 0), "{report:#}");
    assert!(count("received") >= count("expected"), "late members hear more than is owed to them: {report:#}");
}

#[tokio::test]
async fn everybody_joins_and_nothing_is_lost_or_clipped() -> Result<()> {
    let server = Process::start(&[]).await?;
    let members = ["--members", "16", "--channels", "2", "--speakers-per-channel", "3", "--late-members", "2"];
    let limits = ["--floor", "--fail-if", "lost>0", "--fail-if", "clipped_first>0", "--fail-if", "joined<16"];
    let outcome = loadtest(&server.url(), SECRET, &[&members[..], &limits, &TRAFFIC].concat()).await?;
    ensure!(outcome.succeeded, "{} {}", outcome.output, outcome.errors);
    let report = outcome.json()?;
    assert_clean(&report, 16);
    assert_whole(&report);
    let processes = report["processes"].as_array().context("processes")?;
    assert_eq!(processes.len(), 1, "the one process of the all-in-one: {report:#}");
    assert!(report["cpu_per_packet_ns"].as_f64().is_some_and(|cost| cost >= 0.0), "{report:#}");
    assert!(report["floor_ns"].as_f64().is_some_and(|floor| floor > 0.0), "{report:#}");
    assert!(report["limits"].as_array().context("limits")?.iter().all(|limit| limit["fails"] == false), "{report:#}");
    server.until_connections(0).await
}

#[tokio::test]
async fn members_of_the_independent_client_agree() -> Result<()> {
    let server = Process::start(&[]).await?;
    let members = ["--members", "6", "--channels", "1", "--speakers-per-channel", "6", "--webrtc-crate", "3"];
    let outcome = loadtest(&server.url(), SECRET, &[&members[..], &["--late-members", "0"], &TRAFFIC].concat()).await?;
    ensure!(outcome.succeeded, "{} {}", outcome.output, outcome.errors);
    let report = outcome.json()?;
    assert_clean(&report, 6);
    // That client does not tell when a packet has left it: on a busy machine a release overtakes the last one.
    assert_eq!(report["counts"]["lost"], report["counts"]["clipped_last"], "{report:#}");
    Ok(())
}

#[tokio::test]
async fn members_without_media_and_browsers_profiles_take_part() -> Result<()> {
    let server = Process::start(&[]).await?;
    for profile in ["aes128-cm-sha1-80", "aes128-gcm"] {
        let members = ["--members", "6", "--channels", "2", "--quiet-members", "10", "--srtp-profile", profile];
        let outcome =
            loadtest(&server.url(), SECRET, &[&members[..], &["--late-members", "0"], &TRAFFIC].concat()).await?;
        ensure!(outcome.succeeded, "{} {}", outcome.output, outcome.errors);
        let report = outcome.json()?;
        assert_clean(&report, 16);
        assert_whole(&report);
        assert_eq!(report["milliseconds"]["join_quiet"]["count"], 10, "{report:#}");
        // Two listeners with media and five without, of each talk.
        let (pushes, granted) = (report["counts"]["pushes"].as_u64(), report["counts"]["granted"].as_u64());
        assert_eq!(pushes, granted.map(|granted| 7 * granted), "{report:#}");
    }
    server.until_connections(0).await
}

#[tokio::test]
async fn open_microphones_are_heard_by_nobody() -> Result<()> {
    let server = Process::start(&[]).await?;
    let members = ["--members", "8", "--channels", "2", "--late-members", "0", "--open-microphones"];
    let outcome = loadtest(&server.url(), SECRET, &[&members[..], &TRAFFIC].concat()).await?;
    ensure!(outcome.succeeded, "{} {}", outcome.output, outcome.errors);
    let report = outcome.json()?;
    assert_clean(&report, 8);
    assert_whole(&report);
    assert!(report["counts"]["idle"].as_u64() > report["counts"]["sent"].as_u64(), "{report:#}");
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_exceeded_fails_the_run_and_is_named() -> Result<()> {
    let server = Process::start(&[]).await?;
    let flags = ["--members", "4", "--channels", "1", "--fail-if", "grant.p95>1ns", "--fail-if", "lost>0"];
    let outcome = loadtest(&server.url(), SECRET, &[&flags[..], &TRAFFIC].concat()).await?;
    assert!(!outcome.succeeded && outcome.errors.contains("grant.p95>1ns"), "{}", outcome.errors);
    assert!(!outcome.errors.contains("lost>0"), "{}", outcome.errors);
    assert_eq!(outcome.json()?["limits"][0]["fails"], true);
    Ok(())
}

#[tokio::test]
async fn what_is_in_the_way_is_said_at_once() -> Result<()> {
    let server = Process::start(&["--media-announce", "192.0.2.9"]).await?;
    let nobody = "ws://127.0.0.1:9";
    let url = server.url();
    for (url, secret, hint) in [
        (url.as_str(), SECRET, "--media-host"),
        (url.as_str(), "another secret, which the gateway does not have", "handshake 401"),
        (nobody, SECRET, "connect"),
    ] {
        let outcome = loadtest(url, secret, &["--members", "4", "--channels", "1"]).await?;
        assert!(!outcome.succeeded && outcome.errors.contains(hint), "{hint}: {}", outcome.errors);
        assert_eq!(outcome.output, "", "{hint}");
    }
    Ok(())
}
