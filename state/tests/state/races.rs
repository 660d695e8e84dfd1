//! Gateways that act at the same time, really in parallel: what they were answered and what was announced must be one
//! story. The seed of a run is printed; the schedule of the threads is not in it.

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use voiceping_state::{ChannelId, Event, Floor, FloorCause, Leaving, State, Taken};

use crate::support::*;

const GATEWAYS: usize = 8;
const STEPS: usize = 400;
const CHANNELS: [&str; 3] = ["lobby", "stage", "gate"];

#[allow(clippy::print_stdout)] // the seed, to repeat a run that failed
pub(crate) async fn racing_gateways_agree<H: Harness>() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let harness: H = start().await;
    let state = harness.gateway();
    let mut bus = state.subscribe();
    for channel in CHANNELS {
        bus.watch(&channel.into()).await.expect("available");
    }
    let harness = Arc::new(harness);
    let gateways: Vec<_> = (0..GATEWAYS)
        .map(|n| tokio::spawn(act(Arc::clone(&harness), n, SmallRng::seed_from_u64(seed ^ n as u64))))
        .collect();
    let mut granted = Vec::new();
    for gateway in gateways {
        granted.extend(gateway.await.expect("no panic"));
    }

    let mut announced = Vec::new();
    let mut floors: HashMap<ChannelId, Floor> = HashMap::new();
    for channel in CHANNELS {
        for event in state.heard_on(&channel.into(), &mut bus).await {
            let Event::Floor(change) = event else { continue };
            let floor = floors.entry(change.channel.clone()).or_default();
            assert!(change.floor.epoch > floor.epoch, "epochs grow");
            // A connection that has moved meanwhile names its new gateway: that is not announced.
            let previous = change.previous.as_ref().map(|owner| &owner.connection);
            assert_eq!(previous, holder_of(floor), "each change follows the last");
            if change.cause == FloorCause::Taken {
                announced.push((change.channel, change.floor.clone()));
            }
            *floor = change.floor;
        }
    }
    let key = |(channel, floor): &(ChannelId, Floor)| (channel.clone(), floor.epoch);
    granted.sort_by_key(key);
    announced.sort_by_key(key);
    assert_eq!(granted, announced, "each grant is announced once, and nothing else is");
    for (channel, floor) in floors {
        let now = state.floor(&channel).await.expect("available");
        assert_eq!((now.epoch, holder_of(&now)), (floor.epoch, holder_of(&floor)));
    }
}

/// One gateway with two connections of its own and one that it shares with all the others.
async fn act<H: Harness>(harness: Arc<H>, n: usize, mut random: SmallRng) -> Vec<(ChannelId, Floor)> {
    let state = harness.gateway();
    let gateway = format!("g{}", n % 2);
    let members = [format!("user{n}.1"), format!("user{n}.2"), "everybody.1".to_owned()];
    let members = members.map(|name| through(&gateway, &name));
    let mut granted = Vec::new();
    for _ in 0..STEPS {
        let channel = ChannelId::from(CHANNELS[random.random_range(0..CHANNELS.len())]);
        let member = &members[random.random_range(0..members.len())];
        match random.random_range(0..9) {
            0..3 => {
                let over = state.floor(&channel).await.expect("available").epoch;
                let over = random.random_bool(0.5).then_some(over);
                let taken = state.take_floor(&channel, member, &node(), over).await.expect("available");
                if let Taken::Granted { floor, renewed: false } = taken {
                    granted.push((channel, floor));
                }
            }
            3 => {
                let released = state.release_floor(&channel, member, None, FloorCause::Released);
                released.await.expect("available");
            }
            4 => {
                state.expire_floor(&channel).await.expect("available");
            }
            5 => {
                let epoch = state.floor(&channel).await.expect("available").epoch;
                state.renew_floor(&channel, member, epoch, &node()).await.expect("available");
            }
            6 => {
                state.join(&channel, member).await.expect("no limit");
            }
            7 => harness.advance(LEASE / 4).await,
            _ => {
                state.leave(&channel, member, Leaving::Disconnected).await.expect("available");
            }
        }
        tokio::task::yield_now().await;
    }
    granted
}
