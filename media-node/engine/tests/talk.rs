//! Talks in virtual time: who is heard, when, by whom, and what listeners' packets look like.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use rand::RngExt;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use support::{DELAY, Received, Sim, Way};
use voiceping_engine::{Error, GatewayEvent, Role};

const FRAME: Duration = Duration::from_millis(20);

/// Alice and Bob can speak on channel c, Carol listens; all have consumed the floor output.
fn conversation(seed: u64) -> (Sim, usize, usize, usize) {
    let mut sim = Sim::new(seed);
    let alice = sim.client("alice", Role::Client);
    let bob = sim.client("bob", Role::Server);
    let carol = sim.client("carol", Role::Client);
    sim.connect_all();
    for speaker in [alice, bob] {
        sim.produce(speaker, "c");
    }
    for listener in [alice, bob, carol] {
        sim.consume(listener, "c");
    }
    sim.events.clear();
    (sim, alice, bob, carol)
}

fn assert_continuous(received: &[Received]) {
    for pair in received.windows(2) {
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1), "sequence numbers are continuous");
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((1..48_000 * 60).contains(&step), "timestamps go forward: {step}");
        assert_eq!(pair[0].ssrc, pair[1].ssrc);
    }
    assert!(received[0].sequence_number < 1 << 15);
    assert!(received.iter().all(|packet| packet.payload_type == 111));
}

#[test]
fn the_holder_is_heard_from_the_first_packet_to_the_last_and_nobody_else_at_all() {
    let (mut sim, alice, bob, carol) = conversation(1);
    sim.talk(alice, 3);
    assert!(sim.clients[carol].received.is_empty(), "nobody holds the floor");
    sim.set_floor("c", 10, Some("alice")).expect("first");
    let mut said = Vec::new();
    for _ in 0..50 {
        sim.speak(bob);
        said.extend(sim.talk(alice, 1));
    }
    assert_eq!(sim.clients[carol].heard("alice"), said);
    assert_eq!(sim.clients[bob].heard("alice"), said);
    assert!(sim.clients[carol].heard("bob").is_empty());

    sim.set_floor("c", 11, None).expect("newer");
    sim.talk(alice, 3);
    assert_eq!(sim.clients[carol].heard("alice"), said, "nothing after the release");
    sim.set_floor("c", 12, Some("bob")).expect("newer");
    let replied = sim.talk(bob, 50);
    assert_eq!(sim.clients[carol].heard("bob"), replied);
    assert_eq!(sim.clients[carol].heard("alice"), said);

    assert!(sim.clients[alice].heard("alice").is_empty(), "nobody hears themselves");
    assert!(sim.clients[bob].heard("bob").is_empty(), "nobody hears themselves");
    assert_eq!(sim.clients[alice].heard("bob"), replied);

    let received = &sim.clients[carol].received;
    assert_continuous(received);
    let marked: Vec<usize> = (0..received.len()).filter(|at| received[*at].marker).collect();
    assert_eq!(marked, [0, said.len()], "the marker is on the first packet of each talk");
}

#[test]
fn a_late_or_contradicting_grant_cannot_open_a_gate() {
    let (mut sim, _, bob, carol) = conversation(1);
    sim.set_floor("c", 10, Some("alice")).expect("first");
    sim.set_floor("c", 10, Some("alice")).expect("repeating it is success");
    assert!(matches!(sim.set_floor("c", 9, Some("bob")), Err(Error::Conflict(_))));
    assert!(matches!(sim.set_floor("c", 10, Some("bob")), Err(Error::Conflict(_))), "one epoch is one decision");
    sim.set_floor("c", 10, None).expect("an epoch can be ended");
    assert!(matches!(sim.set_floor("c", 10, Some("alice")), Err(Error::Conflict(_))), "and then stays ended");
    sim.talk(bob, 3);
    assert!(sim.clients[carol].received.is_empty());
}

#[test]
fn a_producer_that_comes_after_the_grant_is_live_at_once() {
    let mut sim = Sim::new(1);
    let (alice, carol) = (sim.client("alice", Role::Client), sim.client("carol", Role::Client));
    sim.connect_all();
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.produce(alice, "c");
    let said = sim.talk(alice, 5);
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

#[test]
fn one_transport_speaks_on_one_channel_after_the_other() {
    let mut sim = Sim::new(1);
    let (alice, carol) = (sim.client("alice", Role::Client), sim.client("carol", Role::Client));
    let dave = sim.client("dave", Role::Client);
    sim.connect_all();
    sim.consume(carol, "c1");
    sim.consume(dave, "c2");
    sim.set_floor("c1", 1, Some("alice")).expect("first");
    sim.produce(alice, "c1");
    let first = sim.talk(alice, 5);
    sim.set_floor("c1", 2, None).expect("newer");
    // the same SSRC and MID with another channel: the old producer gives way without a word
    sim.set_floor("c2", 3, Some("alice")).expect("first");
    sim.produce(alice, "c2");
    let second = sim.talk(alice, 5);
    assert_eq!(sim.clients[carol].heard("alice"), first);
    assert_eq!(sim.clients[dave].heard("alice"), second);
    assert_eq!(sim.engine.usage().producers, 1);
}

#[test]
fn who_joins_in_the_middle_hears_the_rest() {
    let (mut sim, alice, ..) = conversation(1);
    let dave = sim.client("dave", Role::Client);
    sim.events.clear();
    sim.run_for(Duration::from_secs(1));
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 60);
    sim.consume(dave, "c");
    let rest = sim.talk(alice, 10);
    assert_eq!(sim.clients[dave].heard("alice"), rest);
    assert_continuous(&sim.clients[dave].received);
}

#[test]
fn a_new_consumer_replaces_the_old_one_and_a_paused_one_is_silent_without_a_gap() {
    let (mut sim, alice, _, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    let before = sim.talk(alice, 60);
    let consumer = sim.consume(carol, "c");
    sim.clients[carol].received.clear();
    let first = sim.talk(alice, 3);
    let connection = sim.clients[carol].connection.clone();
    sim.engine.pause_consumer(sim.now, &connection, &consumer.id, true).expect("hers");
    sim.talk(alice, 3);
    sim.engine.pause_consumer(sim.now, &connection, &consumer.id, false).expect("hers");
    let last = sim.talk(alice, 3);
    assert_eq!(sim.clients[carol].heard("alice"), [first, last].concat());
    assert_continuous(&sim.clients[carol].received);
    assert_eq!(before.len(), 60);
    let other = sim.clients[alice].connection.clone();
    assert_eq!(sim.engine.pause_consumer(sim.now, &other, &consumer.id, true), Err(Error::NotFound("consumer")));
}

#[test]
fn a_members_own_stream_flows_while_it_holds_the_floor() {
    let (mut sim, alice, bob, carol) = conversation(1);
    sim.consume_member(carol, "c", Some("bob"));
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 3);
    sim.set_floor("c", 2, Some("bob")).expect("newer");
    let said = sim.talk(bob, 3);
    sim.set_floor("c", 3, Some("alice")).expect("newer");
    sim.talk(alice, 3);
    sim.set_floor("c", 4, Some("bob")).expect("newer");
    let again = sim.talk(bob, 3);
    assert_eq!(sim.clients[carol].heard("bob"), [said, again].concat());
    assert!(sim.clients[carol].heard("alice").is_empty());
    assert_continuous(&sim.clients[carol].received);
}

#[test]
fn a_listener_that_leaves_hears_nothing_more_and_its_channel_neighbours_do() {
    let (mut sim, alice, bob, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 3);
    let connection = sim.clients[carol].connection.clone();
    sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out);
    sim.talk(alice, 3);
    assert_eq!((sim.clients[carol].received.len(), sim.clients[bob].received.len()), (3, 6));
    assert_eq!(sim.engine.usage().transports, 3, "it left a channel, it did not go");
    sim.engine.close_connection(sim.now, &connection, None, None, &mut sim.out);
    assert_eq!(sim.engine.usage().transports, 2);
}

#[test]
fn however_long_somebody_was_silent_the_first_packet_is_heard() {
    for seed in 0..3 {
        let (mut sim, alice, _, carol) = conversation(seed);
        // Every browser sends all the time: here beyond two rollovers of the sequence number, at the closed gate.
        for count in 0..150_000_u32 {
            sim.speak(alice);
            if count.is_multiple_of(100) {
                sim.check_now(carol);
                sim.run_for(2 * DELAY);
            }
        }
        sim.run_for(2 * DELAY);
        sim.set_floor("c", 1, Some("alice")).expect("first");
        let said = sim.talk(alice, 3);
        assert_eq!(sim.clients[carol].heard("alice"), said);
    }
}

#[test]
fn the_gateway_hears_when_a_talk_begins_and_when_it_falls_silent() {
    let (mut sim, alice, ..) = conversation(1);
    sim.set_floor("c", 7, Some("alice")).expect("first");
    sim.run_for(Duration::from_secs(10));
    assert!(sim.events.is_empty(), "nothing has begun: {:?}", sim.events);
    sim.talk(alice, 3);
    assert_eq!(sim.events, [GatewayEvent::FloorMediaStarted("c".into(), 7)]);
    sim.run_for(Duration::from_millis(3900));
    assert_eq!(sim.events.len(), 1, "still within the limit");
    let activity = sim.engine.floor_activity(sim.now, &"c".into());
    assert_eq!(activity.epoch, 7);
    assert!((3.8..4.0).contains(&activity.silent_for.expect("it has begun").as_secs_f64()));
    sim.run_for(Duration::from_millis(200));
    assert_eq!(sim.events[1..], [GatewayEvent::FloorMediaStopped("c".into(), 7)]);
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.events.len(), 2, "said once");
    sim.talk(alice, 1);
    assert_eq!(sim.events[2..], [GatewayEvent::FloorMediaStarted("c".into(), 7)]);
    sim.engine.close_connection(sim.now, &"alice".into(), None, None, &mut sim.out);
    sim.drain();
    assert_eq!(sim.events[3..], [GatewayEvent::FloorMediaStopped("c".into(), 7)], "the speaker is gone");
}

#[test]
fn lost_packets_are_sent_again_to_the_same_bytes_on_request() {
    let (mut sim, alice, _, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 10);
    let (ssrc, sequence_number) = {
        let packet = &sim.clients[carol].received[4];
        (packet.ssrc, packet.sequence_number)
    };
    let wrong = sequence_number.wrapping_add(3000);
    sim.clients[carol].received.clear();
    let resent = Rc::new(Cell::new(0));
    let counter = Rc::clone(&resent);
    sim.fate = Box::new(move |way, datagram, _| {
        if way == Way::Down && (128..192).contains(&datagram[0]) && !(192..224).contains(&datagram[1]) {
            counter.set(counter.get() + 1);
        }
        vec![DELAY]
    });
    sim.send_rtcp(
        carol,
        Box::new(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: ssrc,
            nacks: nack_pairs_from_sequence_numbers(&[sequence_number, wrong]),
        }),
    );
    sim.run_for(3 * DELAY);
    assert_eq!(resent.get(), 1, "one of the two is known");
    assert!(sim.clients[carol].received.is_empty(), "the listener's replay protection knows the bytes already");
}

#[test]
fn a_packet_lost_on_the_way_down_is_made_good_by_a_request() {
    let (mut sim, alice, _, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 3);
    let to_carol = sim.clients[carol].address;
    sim.speak(alice);
    sim.run_for(DELAY); // it is at the engine now, and on its way down: lose it there
    sim.out.sent.retain(|(path, _)| path.remote != to_carol);
    sim.fate = Box::new(|way, _, _| if way == Way::Down { vec![] } else { vec![DELAY] });
    sim.speak(alice);
    sim.run_for(FRAME);
    sim.fate = Box::new(|_, _, _| vec![DELAY]);
    sim.talk(alice, 2);
    let heard = sim.clients[carol].heard("alice");
    let missing: Vec<u16> = {
        let received = &sim.clients[carol].received;
        let (first, last) = (received[0].sequence_number, received.last().expect("some").sequence_number);
        (first..=last).filter(|number| !received.iter().any(|packet| packet.sequence_number == *number)).collect()
    };
    assert!(!missing.is_empty() && heard.len() + missing.len() == 7, "{heard:?} {missing:?}");
    let ssrc = sim.clients[carol].received[0].ssrc;
    let nacks = nack_pairs_from_sequence_numbers(&missing);
    sim.send_rtcp(carol, Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrc, nacks }));
    sim.run_for(3 * DELAY);
    let mut heard = sim.clients[carol].heard("alice");
    heard.sort_unstable();
    assert_eq!(heard, (0..7).collect::<Vec<u64>>());
}

#[test]
fn what_is_lost_on_the_way_up_is_asked_for() {
    let (mut sim, alice, ..) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 3);
    let lost = sim.clients[alice].sequence_number;
    sim.fate = Box::new(|_, _, _| vec![]);
    sim.talk(alice, 1);
    sim.fate = Box::new(|_, _, _| vec![DELAY]);
    sim.talk(alice, 2);
    let nack = sim.clients[alice].rtcp.iter().find_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>());
    let nack = nack.expect("asked");
    assert_eq!(nack.media_ssrc, sim.clients[alice].ssrc);
    assert_eq!(nack.nacks[0].packet_list(), [lost]);
}

#[test]
fn listeners_and_speakers_get_their_reports() {
    let (mut sim, alice, _, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 400);
    let received = sim.clients[carol].received.clone();
    let reports: Vec<SenderReport> = sim.clients[carol]
        .rtcp
        .iter()
        .filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>().cloned())
        .collect();
    assert!((1..=3).contains(&reports.len()), "eight seconds, one in five: {}", reports.len());
    assert_eq!(reports[0].ssrc, received[0].ssrc);
    assert!(
        reports[0].packet_count > 0 && u64::from(reports[0].octet_count) == u64::from(reports[0].packet_count) * 140
    );
    let around = |at: u32| received.iter().any(|packet| packet.timestamp.wrapping_sub(at).wrapping_add(960) < 1920);
    assert!(around(reports[0].rtp_time), "the report's timestamp lies within the stream");
    let speaker: Vec<&ReceiverReport> =
        sim.clients[alice].rtcp.iter().filter_map(|packet| packet.as_any().downcast_ref()).collect();
    assert!((6..=8).contains(&speaker.len()), "one a second: {}", speaker.len());
    let last = &speaker[speaker.len() - 1].reports[0];
    assert_eq!((last.ssrc, last.total_lost, last.fraction_lost), (sim.clients[alice].ssrc, 0, 0));

    sim.set_floor("c", 2, None).expect("newer");
    sim.run_for(Duration::from_secs(10));
    sim.clients[carol].rtcp.clear();
    sim.run_for(Duration::from_secs(20));
    assert!(sim.clients[carol].rtcp.is_empty(), "nobody talks, nothing is reported");
}

#[test]
fn a_listener_that_changes_its_address_is_followed() {
    let (mut sim, alice, _, carol) = conversation(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 5);
    sim.clients[carol].address = "192.0.2.77:7777".parse().expect("valid");
    sim.check_now(carol);
    let said = sim.talk(alice, 20);
    let heard = sim.clients[carol].heard("alice");
    assert!(heard.ends_with(&said[2..]), "only what was in flight may be lost: {heard:?}");
    sim.clients[alice].address = "192.0.2.78:7777".parse().expect("valid");
    sim.check_now(alice);
    sim.run_for(DELAY);
    let said = sim.talk(alice, 5);
    assert!(sim.clients[carol].heard("alice").ends_with(&said), "a speaker too");
}

#[test]
fn a_talk_crosses_to_peers_that_listen_and_to_no_others() {
    let (mut sim, alice, ..) = conversation(1);
    assert_eq!(sim.listening, [("c".into(), true)]);
    sim.engine.set_peer_listening(sim.now, &"c".into(), 3, true);
    sim.set_floor("c", 5, Some("alice")).expect("first");
    sim.talk(alice, 2);
    let relayed = std::mem::take(&mut sim.out.relayed);
    assert_eq!(relayed.len(), 2);
    assert!(relayed.iter().all(|(peers, channel, epoch, _)| (*peers, channel.as_str(), *epoch) == (1 << 3, "c", 5)));
    sim.engine.set_peer_listening(sim.now, &"c".into(), 3, false);
    sim.talk(alice, 2);
    assert!(sim.out.relayed.is_empty());

    // the other side: an engine that has only listeners
    let mut other = Sim::new(2);
    let dave = other.client("dave", Role::Client);
    other.connect_all();
    other.consume(dave, "c");
    let (_, channel, epoch, packet) = &relayed[0];
    other.engine.handle_relayed(other.now, channel, *epoch, packet, &mut other.out);
    other.run_for(FRAME);
    assert_eq!(other.clients[dave].heard("alice"), [0], "its epoch is news");
    other.set_floor("c", 5, Some("alice")).expect("the same talk");
    for (_, channel, epoch, packet) in &relayed[1..] {
        other.engine.handle_relayed(other.now, channel, *epoch, packet, &mut other.out);
    }
    other.run_for(FRAME);
    assert_eq!(other.clients[dave].heard("alice"), [0, 1]);
    other.set_floor("c", 6, None).expect("newer");
    other.engine.handle_relayed(other.now, channel, *epoch, packet, &mut other.out);
    other.run_for(FRAME);
    assert_eq!(other.clients[dave].received.len(), 2, "the floor has moved on");
    other.set_floor("c", 7, Some("bob")).expect("newer");
    other.engine.handle_relayed(other.now, channel, *epoch, packet, &mut other.out);
    other.run_for(FRAME);
    assert_eq!(other.clients[dave].received.len(), 2, "and is somebody else's");
}

#[test]
fn an_empty_channel_remembers_its_epoch_for_a_while() {
    let mut sim = Sim::new(1);
    sim.set_floor("c", 10, Some("alice")).expect("first");
    sim.set_floor("c", 11, None).expect("newer");
    sim.run_for(Duration::from_secs(30));
    assert!(sim.set_floor("c", 10, Some("alice")).is_err());
    sim.run_for(Duration::from_secs(120));
    sim.set_floor("c", 10, Some("alice")).expect("forgotten");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Over a bad network, under random floors: nobody is ever heard outside his own epochs, and what arrives is in place.
    #[test]
    fn only_holders_are_heard_over_any_network(seed in any::<u64>()) {
        let (mut sim, alice, bob, carol) = conversation(seed);
        sim.fate = Box::new(|_, datagram, rng| {
            if support::is_dtls(datagram) {
                return vec![DELAY];
            }
            match rng.random_range(0..12) {
                0 => vec![],
                1 => vec![DELAY, 3 * DELAY],
                _ => vec![Duration::from_millis(rng.random_range(5..50))],
            }
        });
        let mut allowed = [Vec::new(), Vec::new()];
        for epoch in 1..20 {
            let holder = sim.rng.random_range(0..3_usize);
            sim.set_floor("c", epoch, ["alice", "bob"].get(holder).copied()).expect("newer");
            for _ in 0..sim.rng.random_range(1..30) {
                for (at, speaker) in [alice, bob].into_iter().enumerate() {
                    let count = sim.speak(speaker);
                    if at == holder {
                        allowed[at].push(count);
                    }
                }
                sim.run_for(FRAME);
            }
            // what is on the way up when the floor changes belongs to nobody
            sim.run_for(Duration::from_millis(60));
        }
        for (at, speaker) in ["alice", "bob"].into_iter().enumerate() {
            let heard = sim.clients[carol].heard(speaker);
            prop_assert!(heard.iter().all(|count| allowed[at].contains(count)), "{speaker} was heard without the floor");
            // A share of few says nothing: three more may be lost by chance.
            prop_assert!((heard.len() + 3) * 10 >= allowed[at].len() * 6, "{} of {}", heard.len(), allowed[at].len());
        }
        let mut placed: Vec<u16> = sim.clients[carol].received.iter().map(|packet| packet.sequence_number).collect();
        let count = placed.len();
        placed.sort_unstable();
        placed.dedup();
        prop_assert_eq!(placed.len(), count, "no place is taken twice");
    }
}
