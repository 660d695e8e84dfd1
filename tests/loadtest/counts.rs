//! What a packet and a push cost, in counts that do not depend on how fast the machine is; compared with the baselines.

use anyhow::{Context, Result};
use voiceping_testkit::signaling::Signaling;

use crate::baselines;
use crate::process::{Process, SECRET, get};
use crate::{TRAFFIC, loadtest};

/// A worker's batch leaves with one system call, however many listeners it is for.
#[tokio::test]
async fn a_packet_leaves_in_one_system_call_for_all_its_listeners() -> Result<()> {
    let admin = format!("127.0.0.1:{}", free_port()?);
    let server = Process::start(&["--media-workers", "1", "--admin-listen", &admin]).await?;
    let members = ["--members", "24", "--channels", "2", "--speakers-per-channel", "2", "--late-members", "0"];
    let outcome = loadtest(&server.url(), SECRET, &[&members[..], &TRAFFIC].concat()).await?;
    anyhow::ensure!(outcome.succeeded, "{} {}", outcome.output, outcome.errors);
    let (_, metrics) = get(&admin, "/metrics").await?;
    let total = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(&format!("voiceping_media_{name}")));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value).with_context(|| format!("no {name} in {metrics}"))
    };
    let (calls, sent) = (total("send_calls_total")?, total("packets_sent_total")?);
    let (forwarded, admitted) = (total("packets_forwarded_total")?, total("packets_admitted_total")?);
    assert!(
        forwarded > 5.0 * admitted && admitted > 0.0,
        "{forwarded} packets to listeners for {admitted} of speakers"
    );
    // What is sent besides, answers to checks and handshakes and reports, has a call of its own at most; what is there at the
    // same time shares one.
    baselines::check("media.send_calls_per_cause", calls / (admitted + sent - forwarded));
    Ok(())
}

#[tokio::test]
async fn a_push_is_short() -> Result<()> {
    let server = Process::start(&[]).await?;
    let mut speaker: Signaling = server.member("alice", "lobby").await?;
    let mut listener = server.member("bob", "lobby").await?;
    speaker.ok("ptt-start", serde_json::json!({"channelId": "lobby"})).await?;
    let push = listener.push_of("speaker-changed").await?;
    baselines::check("push.bytes_speaker_changed", push.to_string().len() as f64);
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
