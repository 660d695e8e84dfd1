//! Bytes that no honest client sends: the engine survives them, and nobody else notices.

mod support;

use proptest::prelude::*;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use support::Sim;
use voiceping_engine::{Path, RelayKey, Role};

/// A kind of RTCP packet, with anything in it (RFC 3550 section 6, RFC 4585, RFC 3611).
fn rtcp() -> impl Strategy<Value = Vec<u8>> {
    let packet = (200_u8..=207, 0_u8..=31, proptest::collection::vec(any::<u8>(), 0..64), any::<bool>(), 0_u16..20);
    let packet = packet.prop_map(|(kind, count, body, honest, length)| {
        let length = if honest { (body.len() / 4) as u16 } else { length };
        let mut packet = vec![0x80 | count, kind];
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&body);
        packet
    });
    proptest::collection::vec(packet, 1..4).prop_map(|packets| packets.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_rtcp_is_survived_by_the_library(packet in rtcp()) {
        let _ = rtc_rtcp::packet::unmarshal(&mut &packet[..]);
    }
}

#[test]
fn any_datagram_from_a_connected_client_is_survived_and_the_talk_goes_on() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let mallory = sim.client("mallory", Role::Client);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    for speaker in [alice, mallory] {
        sim.produce(speaker, "c");
    }
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    // The node hears another one, and Mallory has seen one of its datagrams.
    sim.engine.accept_relay(7, 0, RelayKey::new([7; 16]));
    let relayed = [&[0xf0, 0, 0, 0, 7][..], &[0x5a; 200]].concat();
    let path = Path { socket: 0, remote: sim.clients[mallory].address };
    let mut said = Vec::new();
    for round in 0..200_u32 {
        for _ in 0..50 {
            let junk = match sim.rng_range(0..6) {
                // what it may say, changed: its own packet, its check, a sealed report
                0 => sim.next_packet(mallory).1,
                1 => support::binding_request(
                    &format!("{}:x", sim.clients[mallory].transport.ufrag),
                    &sim.clients[mallory].transport.password,
                ),
                2 => {
                    let nacks = nack_pairs_from_sequence_numbers(&[round as u16; 400]);
                    let nack = TransportLayerNack { sender_ssrc: round, media_ssrc: 7, nacks };
                    let plain = rtc_rtcp::packet::marshal(&[Box::new(nack)]).expect("encodes");
                    let srtp = sim.clients[mallory].srtp.as_mut().expect("connected");
                    srtp.seal_rtcp(&plain).expect("sealed").to_vec()
                }
                3 => relayed.clone(),
                _ => {
                    let len = sim.rng_range(0..200);
                    (0..len).map(|_| sim.rng_range(0..256) as u8).collect()
                }
            };
            let mut junk = junk;
            if sim.rng_range(0..3) > 0 && !junk.is_empty() {
                let at = sim.rng_range(0..junk.len());
                junk[at] = sim.rng_range(0..256) as u8;
            }
            if sim.rng_range(0..5) == 0 {
                let len = sim.rng_range(0..junk.len() + 1);
                junk.truncate(len);
            }
            // a change of its own DTLS would only end its own transport
            if !support::is_dtls(&junk) {
                sim.engine.handle_datagram(sim.now, path, &junk, &mut sim.out);
            }
        }
        said.extend(sim.talk(alice, 1));
    }
    assert_eq!(sim.clients[carol].heard("alice"), said);
    assert!(sim.clients[carol].heard("mallory").is_empty());
}

#[test]
fn the_path_of_a_connected_client_cannot_be_taken_from_it() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let carol = sim.client("carol", Role::Client);
    let mallory = sim.client("mallory", Role::Client);
    sim.connect_all();
    sim.produce(alice, "c");
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    // Mallory knows his own credentials, and sends from an address that he has forged to be Alice's.
    let (ufrag, password) = (&sim.clients[mallory].transport.ufrag, &sim.clients[mallory].transport.password);
    let check = support::binding_request(&format!("{ufrag}:x"), password);
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    sim.engine.handle_datagram(sim.now, path, &check, &mut sim.out);
    let said = sim.talk(alice, 5);
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

/// A listener who asks again and again for what it has.
#[test]
fn a_flood_of_nacks_costs_no_more_than_its_budget() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let mallory = sim.client("mallory", Role::Client);
    sim.connect_all();
    sim.produce(alice, "c");
    let media_ssrc = sim.consume(mallory, "c").ssrc;
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 64);
    let kept: Vec<u16> = sim.clients[mallory].received.iter().map(|packet| packet.sequence_number).collect();
    assert!(kept.len() > 60);
    let path = Path { socket: 0, remote: sim.clients[mallory].address };
    for _ in 0..10_000 {
        let nacks = nack_pairs_from_sequence_numbers(&kept);
        let plain = rtc_rtcp::packet::marshal(&[Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })]);
        let srtp = sim.clients[mallory].srtp.as_mut().expect("connected");
        let sealed = srtp.seal_rtcp(&plain.expect("encodes")).expect("sealed");
        sim.engine.handle_datagram(sim.now, path, &sealed, &mut sim.out);
    }
    assert_eq!(sim.engine.counters().retransmitted, 200, "the burst");
    assert!(sim.engine.counters().over_budget > 9_000);
    sim.out.sent.clear();
    // An honest request a second later is answered.
    sim.run_for(std::time::Duration::from_secs(2));
    let nacks = nack_pairs_from_sequence_numbers(&kept[kept.len() - 1..]);
    sim.send_rtcp(mallory, Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks }));
    sim.run_for(std::time::Duration::from_millis(20));
    assert_eq!(sim.engine.counters().retransmitted, 201);
}

/// A talker who sends as fast as the line takes it.
#[test]
fn a_flood_through_an_open_gate_is_cut_to_what_opus_can_need() {
    let mut sim = Sim::new(1);
    let mallory = sim.client("mallory", Role::Client);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    sim.produce(mallory, "c");
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("mallory")).expect("first");
    let path = Path { socket: 0, remote: sim.clients[mallory].address };
    for _ in 0..1000 {
        for _ in 0..10 {
            let (_, packet) = sim.next_packet(mallory);
            sim.engine.handle_datagram(sim.now, path, &packet, &mut sim.out);
        }
        sim.run_for(std::time::Duration::from_millis(1));
    }
    assert!((590..=600).contains(&sim.engine.counters().admitted), "{:?}", sim.engine.counters());
    assert_eq!(sim.engine.counters().over_budget, 10_000 - sim.engine.counters().admitted);
}

/// A stranger who forges a listener's address cannot use up what the listener may ask for, and the listener itself is cut off
/// before its reports are opened.
#[test]
fn only_authentic_reports_count_against_a_client() {
    let mut sim = Sim::new(1);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    let path = Path { socket: 0, remote: sim.clients[carol].address };
    let nack = |srtp: &mut voiceping_engine::srtp::Srtp| {
        let nacks = nack_pairs_from_sequence_numbers(&[7]);
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks };
        srtp.seal_rtcp(&rtc_rtcp::packet::marshal(&[Box::new(nack)]).expect("encodes")).expect("sealed")
    };
    let mut forged = nack(sim.clients[carol].srtp.as_mut().expect("connected")).to_vec();
    *forged.last_mut().expect("not empty") ^= 1;
    for _ in 0..10_000 {
        sim.engine.handle_datagram(sim.now, path, &forged, &mut sim.out);
    }
    assert_eq!(sim.engine.counters().over_budget, 0);
    for _ in 0..1000 {
        let sealed = nack(sim.clients[carol].srtp.as_mut().expect("connected"));
        sim.engine.handle_datagram(sim.now, path, &sealed, &mut sim.out);
    }
    // 200 of the 400 reports that were read asked for a packet within the other budget.
    assert_eq!(sim.engine.counters().nacks_received, 400);
    assert_eq!(sim.engine.counters().over_budget, 600 + 200);
}
