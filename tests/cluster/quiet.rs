//! What costs nothing: members who are there and say nothing.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use voiceping_testkit::signaling::Signaling;

use crate::baselines;
use crate::cluster::{Cluster, Shape};
use crate::phone::join;
use crate::user::user_name;

const MEMBERS: usize = 120;
const PER_CHANNEL: usize = 3;

/// Longer than presence is silent: several heartbeats of each gateway are in it.
const WHILE: Duration = Duration::from_secs(8);

/// Redis is asked as often with a crowd on many channels as with nobody.
#[tokio::test(flavor = "multi_thread")]
async fn idle_members_cost_redis_no_commands() -> Result<()> {
    let cluster = Cluster::start(Shape::Cluster(2, 1)).await?;
    // One member, so that there is presence to be kept at both gateways.
    let mut members = vec![member(&cluster, 0, "first").await?, member(&cluster, 1, "first").await?];
    let alone = commands_in(&cluster, WHILE).await;
    for number in 0..MEMBERS {
        members.push(member(&cluster, number, &format!("quiet-{}", number / PER_CHANNEL)).await?);
    }
    let together = commands_in(&cluster, WHILE).await;
    println!("in {WHILE:?}: {alone} commands with two members, {together} with {MEMBERS} more");
    // What goes on is a beat, a registration and a look at the registry now and then; the two spans differ by some of them.
    // One command for each member in all that time would be seen.
    assert!(together < alone + MEMBERS as u64, "{alone} commands with two members, {together} with {MEMBERS} more");
    Ok(())
}

/// What a press and a release ask of Redis, with what goes on besides taken away.
#[tokio::test(flavor = "multi_thread")]
async fn a_talk_costs_redis_few_commands() -> Result<()> {
    const TALKS: u32 = 100;
    let cluster = Cluster::start(Shape::Cluster(2, 1)).await?;
    let mut speaker = member(&cluster, 0, "talk").await?;
    let _listener = member(&cluster, 1, "talk").await?;
    // The first of a script brings its text.
    talk(&mut speaker).await?;
    let idle = commands_in(&cluster, WHILE).await as f64 / WHILE.as_secs_f64();
    let (started, before) = (Instant::now(), commands(&cluster));
    for _ in 0..TALKS {
        talk(&mut speaker).await?;
    }
    let besides = idle * started.elapsed().as_secs_f64();
    let each = ((commands(&cluster) - before) as f64 - besides) / f64::from(TALKS);
    baselines::check("redis.commands_per_talk", each);
    Ok(())
}

async fn talk(speaker: &mut Signaling) -> Result<()> {
    speaker.ok("ptt-start", json!({"channelId": "talk"})).await?;
    speaker.ok("ptt-stop", json!({"channelId": "talk"})).await?;
    Ok(())
}

async fn member(cluster: &Cluster, number: usize, channel: &str) -> Result<Signaling> {
    let mut socket = cluster.socket(number, &user_name(number as u32), channel).await?;
    join(&mut socket, channel).await?;
    Ok(socket)
}

/// Counts what Redis is asked in a time. What does not happen has no event to wait for.
async fn commands_in(cluster: &Cluster, time: Duration) -> u64 {
    let before = commands(cluster);
    tokio::time::sleep(time).await;
    commands(cluster) - before
}

fn commands(cluster: &Cluster) -> u64 {
    let stats: String = tokio::task::block_in_place(|| cluster.redis().ask("INFO stats"));
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.and_then(|count| count.trim().parse().ok()).expect("Redis counts its commands")
}
