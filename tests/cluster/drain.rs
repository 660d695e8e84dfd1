//! SIGTERM to each role in the middle of a talk, as an orchestrator sends it. Readiness flips at once while the process lives on,
//! clients go elsewhere, no packet of the talk is lost, and the process ends by itself, in order and before its deadline.

use anyhow::{Context, Result, ensure};
use voiceping_testkit::soon;
use voiceping_testkit::voice::Heard;

use crate::cluster::{Cluster, Options};
use crate::phone::{press, release};
use crate::process::{Running, get};
use crate::sessions::{begin, resume, until_moved};
use crate::user::{User, until_speaks};

/// Long enough for a test, so that whoever ends in time has not been cut off.
const DEADLINE: &[&str] = &["--admin-listen", "127.0.0.1:0", "--drain-deadline", "120s"];

async fn cluster() -> Result<Cluster> {
    Cluster::with(2, 2, Options { gateway: DEADLINE, media: DEADLINE, ..Options::default() }).await
}

/// What the admin port answers.
async fn admin(process: &Running, path: &str) -> Result<(u16, String)> {
    let log = process.log();
    let address = log.split("metrics are at http://").nth(1).and_then(|rest| rest.split('/').next());
    get(address.context("the admin port is in the log")?, path).await
}

/// Waits until the process says that it takes nobody new. It lives, though.
async fn until_unready(process: &Running) -> Result<()> {
    soon("a process that is not ready any more", async {
        loop {
            let (status, why) = admin(process, "/readyz").await?;
            if status == 503 {
                ensure!(why.contains("drain"), "it says why: {why}");
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await??;
    assert_eq!(admin(process, "/livez").await?.0, 200, "who is asked whether it lives must not kill it");
    Ok(())
}

/// It has ended in order, and has not cut anybody off.
async fn ended_in_time(process: &mut Running) -> Result<()> {
    let status = process.ended().await?;
    ensure!(status.success(), "{status}: {}", process.log());
    ensure!(!process.log().contains("deadline has passed"), "it was done in time: {}", process.log());
    Ok(())
}

fn assert_whole(heard: &[Heard]) -> Result<()> {
    let gap = heard.windows(2).find(|pair| pair[1].number != pair[0].number + 1);
    ensure!(gap.is_none(), "without a gap: {gap:?}");
    Ok(())
}

/// Alice is our own client and goes elsewhere while she talks; Carol, an existing one, finishes her talk on the gateway that ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_to_end_under_two_talks() -> Result<()> {
    let mut cluster = cluster().await?;
    let (first, second) = (cluster.channel(), cluster.channel());
    let mut alice = User::listening(&cluster, 0, 1, &first).await?;
    let ticket = begin(&mut alice).await?;
    let alices = alice.microphone(&first).await?;
    let mut bob = User::listening(&cluster, 1, 2, &first).await?;
    let mut carol = User::listening(&cluster, 0, 3, &second).await?;
    let carols = carol.microphone(&second).await?;
    let mut dave = User::listening(&cluster, 1, 4, &second).await?;
    press(&mut alice.socket, &first).await?;
    press(&mut carol.socket, &second).await?;
    let speaking = (alices.microphone.keep_speaking(), carols.microphone.keep_speaking());
    let (mut of_alice, mut of_carol) = (bob.hear(20).await?, dave.hear(20).await?);
    assert_eq!(admin(&cluster.gateways[0].process, "/readyz").await?.0, 200);

    cluster.gateways[0].process.signal("TERM").await?;
    until_unready(&cluster.gateways[0].process).await?;
    let late = cluster.socket(0, "late", &first).await;
    ensure!(late.is_err(), "nobody new");
    let close = alice.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "{close:?}");
    resume(&cluster, 1, &mut alice, &first, &ticket).await?;
    of_alice.extend(bob.hear(100).await?);
    of_carol.extend(dave.hear(100).await?);
    assert_whole(&of_alice)?;
    assert_whole(&of_carol)?;

    release(&mut carol.socket, &second).await?;
    until_speaks(&mut dave.socket, None).await?;
    let close = carol.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "after her talk: {close:?}");
    ended_in_time(&mut cluster.gateways[0].process).await?;
    of_alice.extend(bob.hear(20).await?);
    assert_whole(&of_alice)?;
    drop(speaking);
    release(&mut alice.socket, &first).await?;
    cluster.assert_one_speaker()?;
    Ok(())
}

/// The node of the one who talks: she finishes, and moves then.
#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_is_told_to_end_under_a_talk() -> Result<()> {
    let mut cluster = cluster().await?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    begin(&mut alice).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    let mut heard = bob.hear(20).await?;
    assert_eq!(admin(&cluster.media_nodes[0], "/readyz").await?.0, 200);

    cluster.media_nodes[0].signal("TERM").await?;
    until_unready(&cluster.media_nodes[0]).await?;
    heard.extend(bob.hear(100).await?);
    assert_whole(&heard)?;
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    until_moved(&mut alice, "draining").await?;
    alice.listen_again(&channel).await?;
    let moved = alice.microphone(&channel).await?;
    voice.close().await?;
    ended_in_time(&mut cluster.media_nodes[0]).await?;
    press(&mut alice.socket, &channel).await?;
    moved.microphone.say(10).await?;
    assert_whole(&bob.hear(10).await?)?;
    release(&mut alice.socket, &channel).await?;
    Ok(())
}
