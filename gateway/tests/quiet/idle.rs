//! Memory of idle members.

use crate::members::Quiet;
use crate::{baselines, counting};

/// Enough that what is there once does not count.
const MEMBERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_member_costs_little_memory() {
    let _alone = counting::alone().await;
    let gateway = Quiet::start();
    // Tables and queues that are there once.
    let first = gateway.members("c1", 20).await;
    let before = counting::bytes();
    let members = gateway.members("c1", MEMBERS).await;
    let each = (counting::bytes() - before) / i64::try_from(MEMBERS).expect("a number");
    assert!(each > 1024, "{each} bytes: something is not counted");
    // Each is on one channel with a session. Most of it is room for frames.
    baselines::check("gateway.bytes_per_idle_member", each as f64);
    drop((first, members));
    gateway.end().await;
}
