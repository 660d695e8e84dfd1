//! Allocations of a push to many.

use voiceping_state::{ChannelId, FloorCause, Owner, State};

use crate::members::{Member, Quiet};
use crate::{baselines, counting};

const MEMBERS: usize = 300;
const TALKS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_allocates_nothing_for_each_socket() {
    let _alone = counting::alone().await;
    let gateway = Quiet::start();
    let mut members = gateway.members("c1", MEMBERS).await;
    // What is kept is filled by the first ones.
    talk(&gateway, &mut members).await;
    let before = counting::allocations();
    for _ in 0..TALKS {
        talk(&gateway, &mut members).await;
    }
    let pushes = (2 * TALKS * MEMBERS as u64) as f64;
    let each = (counting::allocations() - before) as f64 / pushes;
    // Each is alone on its way: what its queue asks for now and then. A text of its own would be one.
    baselines::check("gateway.allocations_per_push", each);
    drop(members);
    gateway.end().await;
}

/// Somebody on another gateway takes the floor and gives it back; all hear both.
async fn talk(gateway: &Quiet, members: &mut [Member]) {
    let channel = ChannelId::from("c1");
    let owner = Owner { user: "s".into(), user_name: "S".into(), connection: "s".into(), gateway: "g".into() };
    gateway.store.take_floor(&channel, &owner, &"n".into(), None).await.expect("in memory");
    all_hear(members, b"\"isBusy\":true");
    gateway.store.release_floor(&channel, &owner, None, FloorCause::Released).await.expect("in memory");
    all_hear(members, b"\"isBusy\":false");
}

fn all_hear(members: &mut [Member], word: &[u8]) {
    tokio::task::block_in_place(|| members.iter_mut().for_each(|member| member.read_until(word)));
}
