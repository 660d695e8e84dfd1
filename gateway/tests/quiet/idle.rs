//! Memory of idle members.

use crate::counting;
use crate::members::Quiet;

/// Enough that what is there once does not count.
const MEMBERS: usize = 200;

/// For each member on one channel with a session, in bytes. Most of it is room for frames.
const LIMIT: i64 = 16 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_member_costs_little_memory() {
    let _alone = counting::alone().await;
    let gateway = Quiet::start();
    // Tables and queues that are there once.
    let first = gateway.members("c1", 20).await;
    let before = counting::bytes();
    let members = gateway.members("c1", MEMBERS).await;
    let each = (counting::bytes() - before) / i64::try_from(MEMBERS).expect("a number");
    eprintln!("an idle member: {each} bytes");
    assert!((1024..LIMIT).contains(&each), "{each} bytes");
    drop((first, members));
    gateway.end().await;
}
