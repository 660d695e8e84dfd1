//! What breaks things: one fault at a time, each undone after a while.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::{GATEWAYS, MEDIA_NODES, between};
use crate::cluster::Cluster;

/// How often each fault was made.
#[derive(Debug, Default)]
pub(super) struct Faults {
    gateways_killed: u32,
    media_nodes_killed: u32,
    gateways_stopped: u32,
    media_nodes_stopped: u32,
    redis_stopped: u32,
    cuts: u32,
    media_nodes_drained: u32,
    gateways_drained: u32,
}

/// Makes faults for so long.
pub(super) async fn rage(cluster: &mut Cluster, random: &mut StdRng, time: Duration) -> Result<Faults> {
    let (since, mut faults) = (Instant::now(), Faults::default());
    while since.elapsed() < time {
        sleep(between(random, 300, 2000)).await;
        let (gateway, node) = (random.random_range(0..GATEWAYS), random.random_range(0..MEDIA_NODES));
        // Longer than a lease, sometimes.
        let while_broken = between(random, 200, 7000);
        match random.random_range(0..8) {
            0 => {
                cluster.gateways[gateway].process.kill().await?;
                cluster.replace_gateway(gateway).await?;
                faults.gateways_killed += 1;
            }
            1 => {
                cluster.kill_media_node(node).await?;
                cluster.replace_media_node(node).await?;
                faults.media_nodes_killed += 1;
            }
            2 => {
                cluster.gateways[gateway].process.signal("STOP").await?;
                sleep(while_broken).await;
                cluster.gateways[gateway].process.signal("CONT").await?;
                faults.gateways_stopped += 1;
            }
            3 => {
                cluster.media_nodes[node].signal("STOP").await?;
                sleep(while_broken).await;
                cluster.media_nodes[node].signal("CONT").await?;
                faults.media_nodes_stopped += 1;
            }
            4 => {
                cluster.redis().signal("-STOP");
                sleep(while_broken).await;
                cluster.redis().signal("-CONT");
                faults.redis_stopped += 1;
            }
            5 => {
                let Some(network) = &cluster.network else { continue };
                let other = random.random_range(0..GATEWAYS + MEDIA_NODES);
                if other == GATEWAYS + node {
                    continue;
                }
                network.cut(GATEWAYS + node, other)?;
                sleep(while_broken).await;
                network.heal(GATEWAYS + node, other)?;
                faults.cuts += 1;
            }
            6 => {
                cluster.drain_media_node(node).await?;
                cluster.replace_media_node(node).await?;
                faults.media_nodes_drained += 1;
            }
            _ => {
                cluster.gateways[gateway].process.signal("TERM").await?;
                cluster.gateways[gateway].process.ended().await?;
                cluster.replace_gateway(gateway).await?;
                faults.gateways_drained += 1;
            }
        }
    }
    Ok(faults)
}
