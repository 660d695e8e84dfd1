//! What goes on for a day: thousands of talks over one transport, as clients make them that produce anew for each press.

mod support;

use rand::RngExt;
use support::Sim;
use voiceping_engine::{Path, Role};

/// Presses of somebody who talks all day.
const PRESSES: u64 = 10_000;

/// The Android client's way: one send transport, and for each press a producer with an SSRC of its own.
#[test]
fn every_one_of_ten_thousand_presses_over_one_transport_is_heard() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    sim.consume(carol, "c");
    for press in 1..=PRESSES {
        sim.clients[alice].begin_stream(&mut sim.rng);
        sim.set_floor("c", press, Some("alice")).expect("newer");
        let producer = sim.produce(alice, "c");
        let said = sim.talk(alice, 1);
        assert_eq!(sim.clients[carol].heard("alice"), said, "press {press}");
        sim.clients[carol].received.clear();
        if press % 2 == 0 {
            sim.engine.close_producer(sim.now, &"alice".into(), &producer);
        }
    }
    assert_eq!(sim.engine.counters().not_authentic, 0);
    assert!(sim.engine.usage().producers <= 1);
}

#[test]
fn a_packet_of_a_producer_that_is_gone_is_not_heard_again_by_producing_with_its_ssrc() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    let producer = sim.produce(alice, "c");
    let (count, packet) = sim.next_packet(alice);
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    let mut heard = vec![count];
    for _ in 0..2 {
        sim.engine.handle_datagram(sim.now, path, &packet, &mut sim.out);
        heard.extend(sim.talk(alice, 1));
    }
    sim.engine.close_producer(sim.now, &"alice".into(), &producer);
    sim.produce(alice, "c");
    sim.engine.handle_datagram(sim.now, path, &packet, &mut sim.out);
    heard.extend(sim.talk(alice, 1));
    assert_eq!(sim.clients[carol].heard("alice"), heard);
    assert_eq!(sim.engine.counters().not_authentic, 2, "the repetitions");
}

/// More senders of reports than are remembered: the newest is listened to all the same.
#[test]
fn reports_of_the_thousandth_stream_are_still_read() {
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.connect_all();
    for stream in 1..=1000 {
        let sender_ssrc: u32 = sim.rng.random();
        let nacks = nack_pairs_from_sequence_numbers(&[7]);
        sim.send_rtcp(alice, Box::new(TransportLayerNack { sender_ssrc, media_ssrc: 1, nacks }));
        sim.run_for(std::time::Duration::from_millis(20));
        assert_eq!(sim.engine.counters().nacks_received, stream);
    }
}
