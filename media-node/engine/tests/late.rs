//! Late listeners: a talk is heard from its first word by who begins to hear it in its first second, and by nobody once it may
//! not be heard any more.

mod support;

use std::time::{Duration, Instant};

use support::nodes::Nodes;
use support::{DELAY, Sim};
use voiceping_engine::Role;

const SECOND: Duration = Duration::from_secs(1);

const FRAME: Duration = Duration::from_millis(20);

/// Alice speaks since ten packets, Bob listens from the beginning, Carol consumes now.
fn late(seed: u64) -> (Sim, [usize; 3], Vec<u64>) {
    let mut sim = Sim::replaying(Instant::now(), seed, SECOND);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| sim.client(name, Role::Client));
    sim.connect_all();
    sim.produce(alice, "c");
    sim.produce(bob, "c");
    sim.consume(bob, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    let said = sim.talk(alice, 10);
    sim.consume(carol, "c");
    (sim, [alice, bob, carol], said)
}

#[test]
fn a_late_listener_hears_everything_in_order_and_not_all_at_once() {
    let (mut sim, [alice, bob, carol], mut said) = late(1);
    let consumed = sim.now;
    said.extend(sim.talk(alice, 30));
    assert_eq!(sim.clients[carol].heard("alice"), said);
    assert_eq!(sim.clients[bob].heard("alice"), said, "who was there hears it once");
    let received = &sim.clients[carol].received;
    assert!(received[0].marker && received[1..].iter().all(|packet| !packet.marker));
    for pair in received.windows(2) {
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(960));
    }
    assert!(received[0].at - consumed >= 3 * FRAME, "its client has had time to make ready");
    for portion in received.windows(3) {
        assert!(portion[2].at - portion[0].at >= FRAME / 4, "two at a time");
    }
    let behind = received.iter().position(|packet| packet.at - consumed > 12 * FRAME).expect("it went on");
    let spoken = consumed + FRAME * (behind as u32 - 10) + 2 * DELAY;
    assert!(received[behind].at <= spoken + FRAME, "it has caught up");
}

#[test]
fn what_is_kept_is_heard_by_nobody_once_the_floor_was_taken() {
    for how in ["closed", "taken", "expired"] {
        let (mut sim, [alice, bob, carol], _) = late(2);
        if how == "expired" {
            sim.set_floor_until("c", 1, Some("alice"), sim.now + 4 * FRAME).expect("an earlier end");
        }
        sim.talk(alice, 4); // its first packets are on their way
        match how {
            "closed" => sim.set_floor("c", 1, None).expect("hers"),
            "taken" => sim.set_floor("c", 2, Some("bob")).expect("newer"),
            _ => {}
        }
        sim.run_for(DELAY);
        let heard = sim.clients[carol].heard("alice");
        assert!((1..14).contains(&heard.len()), "{how}: {heard:?}");
        sim.run_for(Duration::from_secs(3));
        assert_eq!(sim.clients[carol].heard("alice"), heard, "{how}");
        // The next talk goes on from there.
        sim.set_floor("c", 3, Some("bob")).expect("newer");
        let said = sim.talk(bob, 5);
        assert_eq!(sim.clients[carol].heard("bob"), said, "{how}");
        let received = &sim.clients[carol].received;
        assert!(received.windows(2).all(|pair| pair[1].sequence_number == pair[0].sequence_number.wrapping_add(1)));
    }
}

#[test]
fn a_talk_that_was_released_is_heard_to_its_end() {
    let (mut sim, [.., carol], said) = late(3);
    assert_eq!(sim.engine.release_floor(sim.now, &"c".into(), 1, None), Ok(true));
    sim.drain();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

#[test]
fn who_consumes_before_its_handshake_is_done_hears_the_beginning_too() {
    let mut sim = Sim::replaying(Instant::now(), 4, SECOND);
    let alice = sim.client("alice", Role::Client);
    sim.connect_all();
    sim.produce(alice, "c");
    let carol = sim.client("carol", Role::Client);
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    let said = sim.talk(alice, 30);
    assert!(sim.clients[carol].srtp.is_some());
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

#[test]
fn nobody_is_late_for_his_own_voice_or_for_a_talk_that_is_over() {
    let (mut sim, [alice, ..], _) = late(5);
    sim.consume(alice, "c");
    sim.talk(alice, 20);
    assert!(sim.clients[alice].received.is_empty());
    let dave = sim.client("dave", Role::Client);
    sim.connect_all();
    sim.set_floor("c", 2, Some("alice")).expect("newer");
    sim.talk(alice, 5);
    sim.set_floor("c", 2, None).expect("hers");
    sim.consume(dave, "c");
    sim.run_for(Duration::from_secs(1));
    assert!(sim.clients[dave].received.is_empty());
}

#[test]
fn who_leaves_while_being_late_is_sent_nothing_more() {
    let (mut sim, [alice, _, carol], _) = late(6);
    sim.talk(alice, 4);
    let heard = sim.clients[carol].heard("alice");
    let connection = sim.clients[carol].connection.clone();
    sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out);
    sim.talk(alice, 20);
    assert!(sim.clients[carol].heard("alice").len() <= heard.len() + 2, "but for what was on the wire");
}

#[test]
fn the_first_listener_of_another_worker_and_of_another_node_hears_the_beginning() {
    let mut nodes = Nodes::replaying(7, &[2, 2], SECOND);
    let alice = nodes.client(0, "alice");
    let others = [(0, "anna"), (1, "bob"), (2, "carol"), (3, "dave")].map(|(engine, name)| nodes.client(engine, name));
    nodes.connect_all();
    nodes.produce(alice, "c");
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    let mut said = nodes.talk(alice, 8);
    others.into_iter().for_each(|listener| nodes.consume(listener, "c"));
    said.extend(nodes.talk(alice, 30));
    nodes.run_for(FRAME);
    for listener in others {
        assert_eq!(nodes.heard(listener, "alice"), said, "{listener:?}");
        let (engine, client) = listener;
        let received = &nodes.engines[engine].clients[client].received;
        for pair in received.windows(2) {
            assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1));
            assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(960));
        }
    }
}

#[test]
fn nobody_is_handed_a_talk_whose_gate_is_closed() {
    for first in [true, false] {
        let mut nodes = Nodes::replaying(8, &[2, 1], SECOND);
        let alice = nodes.client(0, "alice");
        let others = [(1, "bob"), (2, "carol")].map(|(engine, name)| nodes.client(engine, name));
        nodes.connect_all();
        nodes.produce(alice, "c");
        nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
        nodes.talk(alice, 8);
        if first {
            nodes.set_floor(0, "c", 1, None).expect("hers");
        } else {
            nodes.set_floor(0, "c", 2, Some("somebody")).expect("newer");
        }
        others.into_iter().for_each(|listener| nodes.consume(listener, "c"));
        nodes.run_for(Duration::from_secs(1));
        assert!(others.into_iter().all(|listener| nodes.heard(listener, "alice").is_empty()));
    }
}
