//! Late listeners: a talk is heard from its first word by who begins to hear it in its first second, and by nobody once it may
//! not be heard any more.

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::nodes::Nodes;
use support::{DELAY, Sim};
use voiceping_engine::{ConsumerParameters, Role};

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

/// Alice speaks, Carol has heard ten packets of her talk.
fn heard_ten(seed: u64) -> (Sim, [usize; 2], ConsumerParameters, Vec<u64>) {
    let mut sim = Sim::replaying(Instant::now(), seed, SECOND);
    let [alice, carol] = ["alice", "carol"].map(|name| sim.client(name, Role::Client));
    sim.connect_all();
    sim.produce(alice, "c");
    let consumer = sim.consume(carol, "c");
    sim.run_for(SECOND);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    let said = sim.talk(alice, 10);
    sim.run_for(DELAY);
    assert_eq!(sim.clients[carol].heard("alice"), said);
    (sim, [alice, carol], consumer, said)
}

#[test]
fn who_consumes_anew_goes_on_where_he_was() {
    for kept in [true, false] {
        let (mut sim, [alice, carol], ..) = heard_ten(9);
        let consume = if kept { Sim::consume } else { Sim::consume_for_talk };
        consume(&mut sim, carol, "c");
        sim.talk(alice, 2);
        consume(&mut sim, carol, "c"); // while the last one has still been sent nothing
        sim.talk(alice, 9);
        consume(&mut sim, carol, "c"); // while the last one is catching up, or has
        sim.talk(alice, 30);
        assert_eq!(sim.clients[carol].heard("alice"), (0..51).collect::<Vec<u64>>(), "{kept}");
    }
}

#[test]
fn who_consumes_anew_while_he_catches_up_hears_nothing_twice() {
    for packets in 0..12 {
        let (mut sim, [alice, _, carol], mut said) = late(10);
        said.extend(sim.talk(alice, packets));
        sim.consume(carol, "c");
        said.extend(sim.talk(alice, 40));
        assert_eq!(sim.clients[carol].heard("alice"), said, "{packets}");
    }
}

#[test]
fn who_closes_his_consumer_and_consumes_again_is_sent_what_came_between() {
    for how in ["consumer", "channel", "transport"] {
        let (mut sim, [alice, mut carol], consumer, mut said) = heard_ten(11);
        let connection = sim.clients[carol].connection.clone();
        let transport = sim.clients[carol].transport.id.clone();
        match how {
            "consumer" => sim.engine.close_consumer(sim.now, &connection, &consumer.id),
            "channel" => sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out),
            _ => {
                sim.engine.close_transport(sim.now, &connection, &transport, &mut sim.out);
                sim.vanish(carol);
                carol = sim.client("carol", Role::Client);
                sim.run_for(SECOND / 4); // Alice takes a breath
                said.clear();
            }
        }
        said.extend(sim.talk(alice, 10));
        sim.consume(carol, "c");
        said.extend(sim.talk(alice, 30));
        assert_eq!(sim.clients[carol].heard("alice"), said, "{how}");
    }
}

#[test]
fn what_was_said_while_he_did_not_want_to_hear_it_is_not_kept() {
    let (mut sim, [alice, carol], consumer, said) = heard_ten(12);
    let connection = sim.clients[carol].connection.clone();
    sim.engine.pause_consumer(sim.now, &connection, &consumer.id, true).expect("hers");
    sim.talk(alice, 10);
    sim.engine.pause_consumer(sim.now, &connection, &consumer.id, false).expect("hers");
    sim.consume(carol, "c");
    let rest = sim.talk(alice, 30);
    assert_eq!(sim.clients[carol].heard("alice"), [said, rest].concat());
}

#[test]
fn one_members_own_stream_and_the_floor_output_are_one_after_the_other() {
    let (mut sim, [alice, carol], ..) = heard_ten(13);
    sim.consume_member(carol, "c", Some("alice"));
    sim.talk(alice, 10);
    sim.consume(carol, "c");
    sim.talk(alice, 30);
    assert_eq!(sim.clients[carol].heard("alice"), (0..50).collect::<Vec<u64>>());
}

#[test]
fn the_next_talk_is_heard_from_its_beginning_by_who_was_told_of_all_of_the_last_one() {
    let (mut sim, [alice, carol], consumer, _) = heard_ten(14);
    let connection = sim.clients[carol].connection.clone();
    sim.engine.close_consumer(sim.now, &connection, &consumer.id);
    sim.set_floor("c", 2, Some("alice")).expect("newer");
    let mut said = sim.talk(alice, 5);
    sim.consume(carol, "c");
    said.extend(sim.talk(alice, 30));
    assert_eq!(sim.clients[carol].heard("alice")[10..], said);
}

/// An existing client: it consumes when it is told that somebody speaks, and stops to listen to its last consumer by itself.
#[test]
fn a_client_that_consumes_for_each_talk_hears_each_from_its_first_word_and_once() {
    for packets in [0, 1, 5, 20] {
        let mut sim = Sim::replaying(Instant::now(), 15, SECOND);
        let [alice, carol] = ["alice", "carol"].map(|name| sim.client(name, Role::Client));
        sim.connect_all();
        sim.produce(alice, "c");
        for talk in 1..5 {
            sim.set_floor("c", talk, Some("alice")).expect("newer");
            let mut said = sim.talk(alice, packets);
            let before = sim.clients[carol].received.len();
            let consumer = sim.consume_for_talk(carol, "c");
            said.extend(sim.talk(alice, 40));
            let of_talk = &sim.clients[carol].received[before..];
            assert!(of_talk.iter().all(|packet| packet.ssrc == consumer.ssrc), "over the new consumer");
            assert_eq!(sim.clients[carol].heard("alice")[before..], said, "talk {talk}");
            sim.set_floor("c", talk, None).expect("hers");
            sim.run_for(SECOND);
        }
    }
}

#[test]
fn who_is_quicker_than_the_first_packet_does_not_wait_for_it() {
    let (mut sim, [alice, _, carol], _) = late(20);
    sim.consume_for_talk(carol, "c");
    sim.talk(alice, 60);
    for (talk, quicker) in [(2, true), (3, false), (4, true)] {
        sim.set_floor("c", talk - 1, None).expect("hers");
        sim.run_for(SECOND);
        sim.set_floor("c", talk, Some("alice")).expect("newer");
        let (before, mut said) = (sim.clients[carol].received.len(), Vec::new());
        if quicker {
            sim.consume_for_talk(carol, "c");
            sim.run_for(5 * FRAME);
        } else {
            said.extend(sim.talk(alice, 10));
            assert_eq!(sim.clients[carol].received.len(), before, "held back, for the consumer that comes");
            sim.consume_for_talk(carol, "c");
        }
        let began = sim.now;
        said.extend(sim.talk(alice, 60));
        assert_eq!(sim.clients[carol].heard("alice")[before..], said);
        assert!(sim.clients[carol].received[before].at - began <= 4 * FRAME);
    }
}

#[test]
fn a_short_talk_is_heard_by_who_consumes_for_it_when_it_was_released() {
    let (mut sim, [alice, _, carol], _) = late(16);
    sim.consume_for_talk(carol, "c");
    sim.talk(alice, 60);
    for (epoch, how) in [(10, "released"), (20, "closed"), (30, "taken")] {
        sim.set_floor("c", epoch - 1, Some("alice")).expect("newer");
        sim.talk(alice, 1);
        sim.consume_for_talk(carol, "c");
        sim.talk(alice, 60);
        let before = sim.clients[carol].received.len();
        sim.set_floor("c", epoch, Some("alice")).expect("newer");
        let said = sim.talk(alice, 5);
        match how {
            "released" => assert_eq!(sim.engine.release_floor(sim.now, &"c".into(), epoch, None), Ok(true)),
            "closed" => sim.set_floor("c", epoch, None).expect("hers"),
            _ => sim.set_floor("c", epoch + 1, Some("bob")).expect("newer"),
        }
        sim.drain();
        sim.consume_for_talk(carol, "c");
        sim.run_for(SECOND);
        let heard = &sim.clients[carol].heard("alice")[before..];
        assert_eq!(heard, if how == "released" { &said[..] } else { &[] }, "{how}");
    }
}

#[test]
fn a_short_talk_that_was_released_is_heard_to_its_end_if_another_begins_at_once() {
    for pause in [Duration::ZERO, 10 * FRAME] {
        let (mut sim, [alice, _, carol], _) = late(21);
        sim.consume_for_talk(carol, "c");
        sim.talk(alice, 60);
        let (before, mut said) = (sim.clients[carol].received.len(), Vec::new());
        for (talk, packets) in [(2, 5), (3, 10), (4, 60)] {
            sim.set_floor("c", talk, Some("alice")).expect("newer");
            said.extend(sim.talk(alice, packets));
            assert_eq!(sim.engine.release_floor(sim.now, &"c".into(), talk, None), Ok(true));
            sim.run_for(pause);
        }
        sim.run_for(SECOND);
        assert_eq!(sim.clients[carol].heard("alice")[before..], said);
    }
}

#[test]
fn a_client_that_kept_its_consumer_after_all_waits_once() {
    let (mut sim, [alice, _, carol], _) = late(17);
    sim.consume_for_talk(carol, "c");
    sim.talk(alice, 60);
    let mut waits = Vec::new();
    for talk in 2..5 {
        sim.set_floor("c", talk, Some("alice")).expect("newer");
        let (before, began) = (sim.clients[carol].received.len(), sim.now);
        let said = sim.talk(alice, 60);
        assert_eq!(sim.clients[carol].heard("alice")[before..], said);
        waits.push(sim.clients[carol].received[before].at - began > 10 * FRAME);
    }
    assert_eq!(waits, [true, false, false]);
}

#[test]
fn more_packets_at_once_than_are_kept_are_all_heard() {
    let (mut sim, [alice, _, carol], mut said) = late(19);
    said.extend((0..100).map(|_| sim.speak(alice)));
    sim.run_for(SECOND);
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

#[test]
fn who_comes_in_the_middle_of_a_talk_that_nobody_heard_hears_it_from_there() {
    let (mut sim, [alice, bob, carol], _) = late(18);
    for listener in [bob, carol] {
        let connection = sim.clients[listener].connection.clone();
        sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out);
    }
    sim.talk(alice, 60);
    sim.consume(carol, "c");
    let before = sim.clients[carol].received.len();
    let said = sim.talk(alice, 20);
    assert_eq!(sim.clients[carol].heard("alice")[before..], said);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a client does with its consumers, and whatever becomes of the talks: it hears each word once at most, in order.
    #[test]
    fn nobody_hears_a_word_twice(seed in any::<u64>()) {
        let mut sim = Sim::replaying(Instant::now(), seed, SECOND);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| sim.client(name, Role::Client));
        sim.connect_all();
        [alice, bob].into_iter().for_each(|speaker| drop(sim.produce(speaker, "c")));
        let connection = sim.clients[carol].connection.clone();
        let mut consumer = sim.consume_for_talk(carol, "c");
        for epoch in 1..16 {
            let speaker = [alice, bob][sim.rng_range(0..2)];
            sim.set_floor("c", epoch, Some(["alice", "bob"][speaker])).expect("newer");
            for _ in 0..sim.rng_range(1..45) {
                sim.speak(speaker);
                sim.run_for(FRAME / 2);
                match sim.rng_range(0..24) {
                    0 => consumer = sim.consume(carol, "c"),
                    1..3 => consumer = sim.consume_for_talk(carol, "c"),
                    3 => consumer = sim.consume_member(carol, "c", Some("alice")),
                    4 => sim.engine.close_consumer(sim.now, &connection, &consumer.id),
                    // It may be closed.
                    5 => drop(sim.engine.pause_consumer(sim.now, &connection, &consumer.id, true)),
                    6 => drop(sim.engine.pause_consumer(sim.now, &connection, &consumer.id, false)),
                    _ => {}
                }
                sim.run_for(FRAME / 2);
            }
            match sim.rng_range(0..3) {
                0 => drop(sim.engine.release_floor(sim.now, &"c".into(), epoch, None)),
                1 => drop(sim.engine.close_floor(sim.now, &"c".into(), epoch, None)),
                _ => {}
            }
        }
        sim.run_for(2 * SECOND);
        for speaker in ["alice", "bob"] {
            let heard = sim.clients[carol].heard(speaker);
            prop_assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", heard);
        }
    }
}
