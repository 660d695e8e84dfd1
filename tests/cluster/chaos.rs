//! A random run: members press, leave and come back while processes are killed, stopped and cut off. Afterwards the media
//! nodes' own logs must show that no two gates of a channel were ever open at a time, no floor is stuck, everybody who is
//! there is counted and nobody else, and no transport is left.
//!
//! `make chaos` runs it for ten minutes. `CHAOS_SEED`, `CHAOS_SECONDS` and `CHAOS_MEMBERS` choose the run; the seed is
//! printed. The faults follow the seed; what they meet depends on the machine.

mod member;
mod monkey;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use voiceping_proto::media::v1::GetNodeRequest;
use voiceping_proto::media::v1::media_node_client::MediaNodeClient;

use crate::cluster::{CLUSTER_SECRET, Cluster, Options};
use crate::network::Network;
use crate::phone::{join, press, release};
use member::Tally;

const GATEWAYS: usize = 3;
const MEDIA_NODES: usize = 3;

/// Members of one channel.
const PER_CHANNEL: usize = 10;

/// How long things may take to settle: leases, grace periods and ICE timeouts end in it.
const SETTLE: Duration = Duration::from_secs(75);

#[tokio::test(flavor = "multi_thread")]
async fn two_never_speak_and_nothing_is_stuck_or_left() -> Result<()> {
    let seed = setting("CHAOS_SEED").unwrap_or_else(rand::random);
    let seconds = setting("CHAOS_SECONDS").unwrap_or(20);
    let members = setting("CHAOS_MEMBERS").unwrap_or(60) as usize;
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds} CHAOS_MEMBERS={members}");
    let mut random = StdRng::seed_from_u64(seed);

    let options = Options {
        gateway: &["--floor-lease", "4s", "--resume-grace", "5s", "--connect-rate", "1000", "--connect-burst", "1000"],
        media: &["--gateway-grace", "10s", "--drain-deadline", "3s"],
        network: Network::new(GATEWAYS + MEDIA_NODES)?,
        ..Options::default()
    };
    let mut cluster = Cluster::with(GATEWAYS, MEDIA_NODES, options).await?;
    let addresses: Arc<[String]> = cluster.gateways.iter().map(|gateway| gateway.address.clone()).collect();
    let channels = members.div_ceil(PER_CHANNEL);

    let (stop, mut tasks, tally) = (CancellationToken::new(), JoinSet::new(), Arc::new(Tally::default()));
    for number in 0..members {
        let (addresses, stop, tally) = (Arc::clone(&addresses), stop.clone(), Arc::clone(&tally));
        let random = StdRng::from_rng(&mut random);
        let channel = format!("chaos-{}", number % channels);
        tasks.spawn(async move { member::live(number, &channel, &addresses, random, &stop, &tally).await });
    }
    let faults = monkey::rage(&mut cluster, &mut random, Duration::from_secs(seconds)).await?;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.context("a member failed")?;
    }
    println!("faults: {faults:?}; members: {tally:?}");

    for number in 0..channels {
        assert_usable(&cluster, &format!("chaos-{number}")).await?;
    }
    assert_no_transport_is_left(&cluster).await?;
    let gates = cluster.assert_one_speaker()?;
    println!("{gates} gates, no two of one channel at a time");
    ensure!(tally.granted() > 0 && gates as u64 >= tally.granted() / 2, "talks were held: {tally:?}, {gates} gates");
    Ok(())
}

/// A newcomer is alone on the channel, once those who vanished are forgotten, and gets the floor.
async fn assert_usable(cluster: &Cluster, channel: &str) -> Result<()> {
    let since = Instant::now();
    let mut socket = cluster.socket(0, "newcomer", channel).await?;
    loop {
        let joined = join(&mut socket, channel).await?;
        if joined["userCount"] == 1 {
            break;
        }
        ensure!(since.elapsed() < SETTLE, "presence of {channel} returns to the truth: {joined}");
        tokio::time::sleep(Duration::from_millis(200)).await; // what is asked for is the end of leases
    }
    loop {
        let answer = socket.request("ptt-start", json!({"channelId": channel})).await?;
        if answer["type"] == "ptt-start" {
            break;
        }
        ensure!(since.elapsed() < SETTLE, "the floor of {channel} is stuck: {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    release(&mut socket, channel).await?;
    press(&mut socket, channel).await?;
    release(&mut socket, channel).await?;
    socket.close().await
}

/// Whatever the members left behind is reclaimed.
async fn assert_no_transport_is_left(cluster: &Cluster) -> Result<()> {
    let since = Instant::now();
    let mut left = HashMap::new();
    for node in &cluster.media_nodes {
        let dialer = voiceping_rpc::Dialer::new(crate::cluster::rpc_config(CLUSTER_SECRET).security()?);
        let mut client = MediaNodeClient::new(dialer.dial(node.said())?);
        loop {
            let usage = client.get_node(GetNodeRequest {}).await?.into_inner();
            left.insert(node.said().to_owned(), usage.transports);
            if usage.transports == 0 {
                break;
            }
            ensure!(since.elapsed() < SETTLE, "transports leak: {usage:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number is needed")))
}

/// A time between two.
fn between(random: &mut StdRng, least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(random.random_range(least_ms..=most_ms))
}
