//! Talks that cross between nodes, in virtual time: who hears them, what goes over the wire, and what cannot get in.

mod support;

use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use rand::RngExt;
use support::nodes::{At, Nodes, session};
use support::{DELAY, Received};
use voiceping_engine::id::RelayId;
use voiceping_engine::{Error, GateChange, GateClosed, RelayKey, RelayOut};

/// Packets are still on their way for this long after a talk.
const TAIL: Duration = Duration::from_millis(200);

fn received(nodes: &Nodes, (engine, client): At) -> &[Received] {
    &nodes.engines[engine].clients[client].received
}

fn assert_continuous(received: &[Received]) {
    for pair in received.windows(2) {
        assert_eq!(pair[1].sequence_number, pair[0].sequence_number.wrapping_add(1), "sequence numbers are continuous");
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((1..48_000 * 60).contains(&step), "timestamps go forward: {step}");
        assert_eq!(pair[0].ssrc, pair[1].ssrc);
    }
}

/// Alice speaks at the first node, Bob at the second, Carol hears at the third if there is one, else at the second.
fn conversation(seed: u64, workers: &[usize]) -> (Nodes, At, At, At) {
    conversation_over(Nodes::new(seed, workers))
}

fn conversation_over(mut nodes: Nodes) -> (Nodes, At, At, At) {
    let engine = |nodes: &Nodes, node: usize| nodes.engines_of(node)[0];
    let alice = nodes.client(0, "alice");
    let second = engine(&nodes, 1);
    let bob = nodes.client(second, "bob");
    let last = engine(&nodes, nodes.node.last().copied().expect("there are nodes"));
    let carol = nodes.client(last, "carol");
    nodes.connect_all();
    for speaker in [alice, bob] {
        nodes.produce(speaker, "c");
    }
    (nodes, alice, bob, carol)
}

#[test]
fn talks_cross_to_another_node_and_are_continuous_across_speakers_of_different_nodes() {
    let (mut nodes, alice, bob, carol) = conversation(1, &[1, 1, 1]);
    let everybody = [alice, bob, carol];
    everybody.into_iter().for_each(|listener| nodes.consume(listener, "c"));
    let mut said = [Vec::new(), Vec::new()];
    for round in 0..4_u64 {
        nodes.set_floor(0, "c", 10 + 4 * round, Some("alice")).expect("newer");
        said[0].extend(nodes.talk(alice, 20));
        nodes.set_floor(0, "c", 11 + 4 * round, None).expect("newer");
        nodes.run_for(TAIL);
        nodes.set_floor(1, "c", 12 + 4 * round, Some("bob")).expect("newer");
        said[1].extend(nodes.talk(bob, 20));
        nodes.set_floor(1, "c", 13 + 4 * round, None).expect("newer");
        nodes.run_for(TAIL);
    }
    assert_eq!(nodes.heard(carol, "alice"), said[0]);
    assert_eq!(nodes.heard(carol, "bob"), said[1]);
    assert_eq!(nodes.heard(bob, "alice"), said[0]);
    assert_eq!(nodes.heard(alice, "bob"), said[1]);
    assert!(nodes.heard(alice, "alice").is_empty(), "nobody hears themselves");
    everybody.into_iter().for_each(|listener| assert_continuous(received(&nodes, listener)));
    let marked = received(&nodes, carol).iter().filter(|packet| packet.marker).count();
    assert_eq!(marked, 8, "the marker is on the first packet of each talk");
}

#[test]
fn who_comes_late_to_a_node_without_listeners_hears_the_rest() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 1, 1]);
    nodes.set_floor(0, "c", 7, Some("alice")).expect("first");
    nodes.talk(alice, 10);
    assert!(nodes.crossed.is_empty(), "no node has listeners");
    nodes.consume(carol, "c");
    let rest = nodes.talk(alice, 10);
    assert_eq!(nodes.heard(carol, "alice"), rest);
    assert_eq!((nodes.crossed_to(1), nodes.crossed_to(2)), (0, 10));
    let connection = nodes.engines[carol.0].clients[carol.1].connection.clone();
    let sim = &mut nodes.engines[carol.0];
    sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out);
    sim.drain();
    nodes.run_for(Duration::from_millis(1));
    nodes.talk(alice, 10);
    assert_eq!(nodes.crossed.len(), 10, "and nothing comes once she has left");
}

#[test]
fn what_was_relayed_is_never_relayed_again() {
    let (mut nodes, alice, bob, carol) = conversation(1, &[2, 2, 2]);
    // Listeners on both engines of each node: rings and datagrams in every direction.
    let listeners: Vec<At> = (0..6).map(|engine| nodes.client(engine, &format!("listener {engine}"))).collect();
    nodes.connect_all();
    listeners.iter().for_each(|listener| nodes.consume(*listener, "c"));
    nodes.consume(carol, "c");
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    let said = nodes.talk(alice, 30);
    nodes.run_for(TAIL);
    assert_eq!(nodes.crossed.len(), 60, "each packet once to each of the two other nodes");
    assert!(nodes.crossed.iter().all(|(from, ..)| *from == alice.0), "and only from where she speaks");
    let receivers: std::collections::HashSet<usize> = nodes.crossed.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(receivers.len(), 2, "a channel's packets always go to the same engine of a node");
    assert!(listeners.into_iter().all(|listener| nodes.heard(listener, "alice") == said));
    assert_eq!(nodes.heard(carol, "alice"), said);
    assert!(nodes.heard(bob, "alice").is_empty(), "he does not listen");
}

#[test]
fn an_engine_that_has_only_peers_or_only_relays_hands_the_talk_on() {
    // Whichever of the two engines the datagrams go to, one of these listens at the other one.
    for engine in [1, 2] {
        let mut nodes = Nodes::new(9, &[1, 2]);
        let (alice, dave) = (nodes.client(0, "alice"), nodes.client(engine, "dave"));
        nodes.connect_all();
        nodes.consume(dave, "c");
        // Longer than any empty channel is remembered: nothing but who listens keeps it in the two engines between them.
        nodes.run_for(Duration::from_secs(150));
        nodes.produce(alice, "c");
        nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
        let said = nodes.talk(alice, 5);
        assert_eq!(nodes.heard(dave, "alice"), said);
    }
}

#[test]
fn a_node_that_is_gone_is_sent_nothing_and_nothing_is_kept_for_it() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 1]);
    nodes.consume(carol, "c");
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    nodes.talk(alice, 3);
    let now = nodes.now();
    let engine = &mut nodes.engines[0].engine;
    engine.remove_relay(now, RelayId(1));
    engine.set_relay_listening(now, &"c".into(), RelayId(1), true);
    nodes.talk(alice, 3);
    assert_eq!(nodes.crossed.len(), 3);
    let relay = RelayOut { paths: Vec::new(), ..nodes.relay_out(0, 1, 0) };
    let refused = nodes.engines[0].engine.add_relay(now, RelayId(1), relay);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[test]
fn a_newer_epoch_from_another_node_closes_the_gate_here_and_an_older_one_is_not_heard() {
    // Bob speaks and Dave listens at different engines of the second node: in one of the two cases the datagrams do not
    // reach Bob's, which has no listeners, and the news must be passed on to it.
    for (bobs, daves) in [(1, 2), (2, 1)] {
        let mut nodes = Nodes::new(1, &[1, 2]);
        let (alice, bob, dave) = (nodes.client(0, "alice"), nodes.client(bobs, "bob"), nodes.client(daves, "dave"));
        nodes.connect_all();
        nodes.produce(alice, "c");
        nodes.produce(bob, "c");
        nodes.consume(dave, "c");
        nodes.set_floor(1, "c", 5, Some("bob")).expect("first");
        let before = nodes.talk(bob, 3);
        nodes.set_floor(0, "c", 6, Some("alice")).expect("newer");
        let mut said = Vec::new();
        for _ in 0..10 {
            nodes.engines[bob.0].speak(bob.1);
            said.extend(nodes.talk(alice, 1));
        }
        assert_eq!(nodes.heard(dave, "alice"), said);
        let until_then = nodes.heard(dave, "bob");
        assert!(until_then.starts_with(&before) && until_then.len() <= before.len() + 2, "{until_then:?}");
        for engine in 1..3 {
            let gates = nodes.engines[engine].gates.iter().filter(|gate| gate.epoch == 5);
            let changes: Vec<GateChange> = gates.map(|gate| gate.change).collect();
            let superseded = GateClosed::Superseded;
            assert!(
                matches!(changes[..], [GateChange::Opened { .. }, GateChange::Closed { why, .. }] if why == superseded),
                "engine {engine}: {changes:?}"
            );
        }
        assert!(nodes.set_floor(1, "c", 5, Some("bob")).is_err(), "its epoch is over here too");

        // Alice's node does not learn of Bob's newer floor but goes on with the old one: nobody hears it at Bob's.
        nodes.set_floor(1, "c", 7, Some("bob")).expect("newer");
        nodes.talk(alice, 5);
        assert_eq!(nodes.heard(dave, "alice"), said);
        let replied = nodes.talk(bob, 2);
        assert!(nodes.heard(dave, "bob").ends_with(&replied));
    }
}

#[test]
fn a_talk_that_moves_to_another_node_goes_on_under_its_epoch() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 1, 1]);
    let moved = nodes.client(1, "alice");
    nodes.connect_all();
    nodes.consume(carol, "c");
    nodes.set_floor(0, "c", 5, Some("alice")).expect("first");
    let first = nodes.talk(alice, 5);
    nodes.run_for(TAIL);
    nodes.set_floor(1, "c", 5, Some("alice")).expect("the same decision at another node");
    nodes.produce(moved, "c");
    let second = nodes.talk(moved, 5);
    nodes.run_for(TAIL);
    assert_eq!(nodes.heard(carol, "alice"), [first, second].concat());
    assert_continuous(received(&nodes, carol));
}

#[test]
fn a_listener_hears_every_packet_once_however_the_node_is_subscribed() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 1]);
    nodes.consume(carol, "c");
    // The node subscribes anew before the old stream is known to be gone: every packet comes in both sessions.
    let key = RelayKey::new([9; 16]);
    let relay = nodes.relay_out(0, 1, 0);
    let again = RelayOut { session: 77, key: key.clone(), ..relay };
    let now = nodes.now();
    nodes.engines[0].engine.add_relay(now, RelayId(99), again).expect("a path");
    nodes.engines[0].engine.set_relay_listening(now, &"c".into(), RelayId(99), true);
    nodes.engines[1].engine.accept_relay(77, 0, key);
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    let said = nodes.talk(alice, 10);
    nodes.run_for(TAIL);
    assert_eq!(nodes.crossed.len(), 20);
    assert_eq!(nodes.heard(carol, "alice"), said);
    nodes.engines[1].engine.refuse_relay(session(0, 1));
    let more = nodes.talk(alice, 3);
    assert!(nodes.heard(carol, "alice").ends_with(&more), "the new one alone");
    nodes.engines[1].engine.refuse_relay(77);
    let all = nodes.heard(carol, "alice").len();
    nodes.talk(alice, 3);
    assert_eq!(nodes.heard(carol, "alice").len(), all, "a session that is refused is not heard");
}

#[test]
fn what_was_not_sealed_for_this_engine_and_now_changes_nothing() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 2]);
    let channel = "c";
    nodes.consume(carol, channel);
    nodes.set_floor(0, channel, 5, Some("alice")).expect("first");
    let said = nodes.talk(alice, 200);
    nodes.run_for(TAIL);
    let (_, to, newest) = nodes.crossed.last().cloned().expect("it crossed");
    let recorded: Vec<Vec<u8>> = nodes.crossed.iter().map(|(.., datagram)| datagram.clone()).collect();
    let other = if to == 1 { 2 } else { 1 };
    // One that was sealed but never arrived, so that nothing but its seal can be wrong.
    nodes.fate = Box::new(|_, _| vec![]);
    nodes.talk(alice, 1);
    nodes.fate = Box::new(|_, _| vec![support::nodes::BETWEEN]);
    let fresh = nodes.crossed.last().expect("it was sent").2.clone();

    for datagram in &recorded {
        assert_eq!(nodes.inject(to, datagram), 0, "it was here before");
        assert_eq!(nodes.inject(other, datagram), 0, "it was for another engine");
    }
    assert_eq!(nodes.inject(other, &fresh), 0, "it is for another engine");
    for len in 0..fresh.len() {
        assert_eq!(nodes.inject(to, &fresh[..len]), 0, "truncated to {len}");
    }
    for bit in 0..fresh.len() * 8 {
        let mut flipped = fresh.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(nodes.inject(to, &flipped), 0, "bit {bit} flipped");
    }
    let mut longer = fresh.clone();
    longer.push(0);
    assert_eq!(nodes.inject(to, &longer), 0);
    let wrong = sealed(&[3; 16], &newest, &plain(channel, 5, &rtp(9)));
    assert_eq!(nodes.inject(to, &wrong), 0, "another key");
    assert_eq!(nodes.heard(carol, "alice"), said);
    assert!(nodes.inject(to, &fresh) > 0, "unchanged, it is heard");
    assert_eq!(nodes.inject(to, &fresh), 0, "once");
    let more = nodes.talk(alice, 5);
    assert_eq!(nodes.heard(carol, "alice")[said.len() + 1..], more, "and the talk goes on");
    assert_continuous(received(&nodes, carol));
}

#[test]
fn a_recorded_talk_cannot_be_played_once_its_epoch_is_forgotten() {
    let mut nodes = Nodes::new(1, &[1, 1]);
    let (alice, carol) = (nodes.client(0, "alice"), nodes.client(1, "carol"));
    nodes.connect_all();
    nodes.produce(alice, "c");
    nodes.consume(carol, "c");
    nodes.set_floor(0, "c", 5, Some("alice")).expect("first");
    nodes.talk(alice, 20);
    let connection = nodes.engines[carol.0].clients[carol.1].connection.clone();
    let sim = &mut nodes.engines[carol.0];
    sim.engine.close_connection(sim.now, &connection, Some(&"c".into()), None, &mut sim.out);
    sim.drain();
    nodes.run_for(Duration::from_secs(200));
    assert_eq!(nodes.engines[1].engine.floor_activity(nodes.now(), &"c".into()).epoch, 0, "forgotten");
    nodes.consume(carol, "c");
    // Repeating what is known does not open the door.
    let key = nodes.relay_out(0, 1, 0).key;
    nodes.engines[1].engine.accept_relay(session(0, 1), 0, key);
    for (.., datagram) in nodes.crossed.clone() {
        assert_eq!(nodes.inject(1, &datagram), 0);
    }
}

#[test]
fn the_format_is_what_the_header_says_and_nonsense_under_the_right_key_is_survived() {
    let (mut nodes, .., carol) = conversation(1, &[1, 1]);
    nodes.consume(carol, "c");
    let key = [7; 16];
    nodes.engines[1].engine.accept_relay(1, 0, RelayKey::new(key));
    let mut counter = 0_u64;
    let mut datagram = |plain: &[u8]| {
        counter += 1;
        let mut header = vec![0xf0, 0, 0, 0, 1, 4];
        header.extend_from_slice(&counter.to_be_bytes()[2..]);
        sealed(&key, &header, plain)
    };
    let good = datagram(&plain("c", 3, &rtp(1)));
    assert_eq!(nodes.inject(1, &good), 1, "sealed by an independent hand");
    assert_eq!(nodes.engines[1].engine.floor_activity(nodes.now(), &"c".into()).epoch, 3);
    for nonsense in [
        Vec::new(),
        vec![0],
        vec![0, 200, b'c'],
        plain("c", 9, &[]),
        plain("c", 9, &[0; 12]),
        plain("c", 9, &[0x9f; 12]),
        plain("unknown", 9, &rtp(2)),
        plain("", 9, &rtp(2)),
        [&[0, 1, 0xff], &9_u64.to_be_bytes()[..], &rtp(2)].concat(),
        plain("c", 2, &rtp(2)),
    ] {
        let datagram = datagram(&nonsense);
        assert_eq!(nodes.inject(1, &datagram), 0, "{nonsense:x?}");
    }
    assert_eq!(nodes.engines[1].engine.floor_activity(nodes.now(), &"c".into()).epoch, 3, "nothing of it was believed");
    let mut sent = 0;
    for _ in 0..2000 {
        let len = nodes.rng.random_range(0..100);
        let junk: Vec<u8> = (0..len).map(|_| nodes.rng.random()).collect();
        let datagram = datagram(&junk);
        sent += nodes.inject(1, &datagram);
    }
    assert_eq!(sent, 0);
    let good = datagram(&plain("c", 3, &rtp(2)));
    assert_eq!(nodes.inject(1, &good), 1);
}

#[test]
fn no_nonce_is_used_twice_even_if_a_relay_comes_again_with_its_key() {
    let (mut nodes, alice, _, carol) = conversation(1, &[1, 1]);
    nodes.consume(carol, "c");
    nodes.set_floor(0, "c", 1, Some("alice")).expect("first");
    for _ in 0..4 {
        nodes.talk(alice, 5);
        let relay = nodes.relay_out(0, 1, 0);
        let sim = &mut nodes.engines[0];
        if sim.rng.random() {
            sim.engine.remove_relay(sim.now, RelayId(1));
        }
        sim.engine.add_relay(sim.now, RelayId(1), relay).expect("a path");
        sim.engine.set_relay_listening(sim.now, &"c".into(), RelayId(1), true);
    }
    let mut headers: Vec<&[u8]> = nodes.crossed.iter().map(|(.., datagram)| &datagram[..12]).collect();
    assert_eq!(headers.len(), 20);
    headers.dedup();
    assert_eq!(headers.len(), 20);
    assert!(headers.is_sorted());
}

/// What is inside a datagram.
fn plain(channel: &str, epoch: u64, packet: &[u8]) -> Vec<u8> {
    [&(channel.len() as u16).to_be_bytes(), channel.as_bytes(), &epoch.to_be_bytes(), packet].concat()
}

/// A packet in normal form, with the audio level that clients of these tests expect.
fn rtp(sequence_number: u16) -> Vec<u8> {
    let mut packet = vec![0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0xa0, 0x85, 0, 0];
    packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    packet.extend_from_slice(b"mallory ");
    packet.extend_from_slice(&[0; 20]);
    packet
}

/// Seals for the first engine of a node under a given header, with no help of the engine's.
fn sealed(key: &[u8; 16], header: &[u8], plain: &[u8]) -> Vec<u8> {
    let header = &header[..12];
    let mut nonce = [0; 12];
    nonce[5..].copy_from_slice(&header[5..]);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).expect("sixteen bytes"));
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed).expect("sealed");
    [header, &sealed[..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the network between nodes does: nobody is heard outside his own epochs, what is heard is heard once, in
    /// its place, and most of it is heard.
    #[test]
    fn only_holders_are_heard_over_any_network_between_nodes(seed in any::<u64>()) {
        let replay = Duration::from_secs(seed % 2);
        let (mut nodes, alice, bob, carol) = conversation_over(Nodes::replaying(seed, &[1, 2, 1], replay));
        [alice, bob, carol].into_iter().for_each(|listener| nodes.consume(listener, "c"));
        nodes.fate = Box::new(|_, rng| match rng.random_range(0..12) {
            0 => vec![],
            1 => vec![DELAY, 3 * DELAY],
            _ => vec![Duration::from_millis(rng.random_range(1..45))],
        });
        let mut allowed = [Vec::new(), Vec::new()];
        for epoch in 1..12 {
            let holder = nodes.rng.random_range(0..3_usize);
            match holder {
                2 => (0..2).for_each(|node| nodes.set_floor(node, "c", epoch, None).expect("newer")),
                // Only the holder's node is told; what the others know, they know from its packets.
                node => nodes.set_floor(node, "c", epoch, Some(["alice", "bob"][node])).expect("newer"),
            }
            for _ in 0..nodes.rng.random_range(1..25) {
                for (at, speaker) in [alice, bob].into_iter().enumerate() {
                    let count = nodes.engines[speaker.0].speak(speaker.1);
                    if at == holder {
                        allowed[at].push(count);
                    }
                }
                nodes.run_for(Duration::from_millis(20));
            }
            // A gateway closes the gate before the floor goes to another node.
            if let Some(holder) = [0, 1].get(holder) {
                nodes.set_floor(*holder, "c", epoch, None).expect("the same epoch");
            }
            nodes.run_for(Duration::from_millis(60));
        }
        for (at, speaker) in ["alice", "bob"].into_iter().enumerate() {
            for listener in [alice, bob, carol] {
                let mut heard = nodes.heard(listener, speaker);
                if listener == [alice, bob][at] {
                    prop_assert!(heard.is_empty(), "nobody hears themselves");
                    continue;
                }
                prop_assert!(heard.iter().all(|count| allowed[at].contains(count)), "heard without the floor");
                // A lost packet or two may be all that there was.
                let enough = (heard.len() + 5) * 10 >= allowed[at].len() * 6;
                prop_assert!(enough, "{} of {}", heard.len(), allowed[at].len());
                let count = heard.len();
                heard.sort_unstable();
                heard.dedup();
                prop_assert_eq!(heard.len(), count, "nothing is heard twice");
            }
        }
        for listener in [alice, bob, carol] {
            let mut placed: Vec<u16> = received(&nodes, listener).iter().map(|packet| packet.sequence_number).collect();
            let count = placed.len();
            placed.sort_unstable();
            placed.dedup();
            prop_assert_eq!(placed.len(), count, "no place is taken twice");
        }
    }
}
