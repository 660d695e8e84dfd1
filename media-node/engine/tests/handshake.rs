//! Connectivity and handshakes in virtual time: every way in which a datagram can be lost, repeated or split.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use support::{DELAY, Sim, Way, is_dtls};
use voiceping_engine::{ClosedReason, GatewayEvent, Identity, Path, Role};

#[test]
fn both_roles_connect_within_a_few_round_trips() {
    for role in [Role::Client, Role::Server] {
        let mut sim = Sim::new(1);
        sim.client("alice", role);
        let took = sim.connect_all();
        assert!(took <= 8 * DELAY, "{role:?} took {took:?}, that is more than four round trips");
    }
}

#[test]
fn any_one_lost_handshake_datagram_is_made_good() {
    for role in [Role::Client, Role::Server] {
        for lost in 0..10 {
            let mut sim = Sim::new(lost);
            let seen = Rc::new(RefCell::new(0));
            let counter = Rc::clone(&seen);
            sim.fate = Box::new(move |_, datagram, _| {
                if is_dtls(datagram) {
                    *counter.borrow_mut() += 1;
                    if *counter.borrow() == lost + 1 {
                        return vec![];
                    }
                }
                vec![DELAY]
            });
            sim.client("alice", role);
            let took = sim.connect_all();
            assert!(took < Duration::from_secs(1), "{role:?} with datagram {lost} lost took {took:?}");
        }
    }
}

#[test]
fn whole_flights_lost_one_after_the_other_are_made_good() {
    for way in [Way::Up, Way::Down] {
        for from in 0..4 {
            let mut sim = Sim::new(from);
            let seen = Rc::new(RefCell::new(0));
            sim.fate = Box::new(move |direction, datagram, _| {
                if direction == way && is_dtls(datagram) {
                    let mut seen = seen.borrow_mut();
                    *seen += 1;
                    if (from..from + 4).contains(&(*seen - 1)) {
                        return vec![];
                    }
                }
                vec![DELAY]
            });
            sim.client("alice", Role::Client);
            sim.connect_all();
        }
    }
}

#[test]
fn heavy_loss_reordering_and_repetition_end_in_a_connection() {
    for seed in 0..60 {
        let mut sim = Sim::new(seed);
        sim.fate = Box::new(|_, _, rng| {
            let mut delay = || Duration::from_millis(rng.random_range(20..80));
            let (first, second) = (delay(), delay());
            match rng.random_range(0..10) {
                0 | 1 => vec![],
                2 => vec![first, second],
                _ => vec![first],
            }
        });
        for name in ["alice", "bob"] {
            sim.client(name, if seed % 2 == 0 { Role::Client } else { Role::Server });
        }
        sim.connect_all();
    }
}

#[test]
fn no_datagram_of_a_handshake_needs_more_than_a_small_mtu() {
    let mut sim = Sim::new(1);
    sim.fate = Box::new(|_, datagram, _| {
        assert!(datagram.len() <= 1380, "{} bytes", datagram.len());
        vec![DELAY]
    });
    sim.client("alice", Role::Client);
    sim.connect_all();
}

#[test]
fn dtls_parameters_may_come_after_the_handshake_has_begun() {
    let mut sim = Sim::new(1);
    let identity = Identity::generate().expect("randomness");
    let alice = sim.silent_client("alice", Role::Client, identity.clone());
    sim.run_for(Duration::from_secs(1));
    assert!(sim.events.is_empty(), "not connected before the fingerprint is known: {:?}", sim.events);
    let (connection, transport) = (sim.clients[alice].connection.clone(), sim.clients[alice].transport.id.clone());
    let connect = |sim: &mut Sim, fingerprint| {
        sim.engine.connect_transport(sim.now, &connection, &transport, Role::Client, vec![fingerprint], &mut sim.out)
    };
    connect(&mut sim, identity.fingerprint()).expect("fits");
    connect(&mut sim, identity.fingerprint()).expect("repeating it is success");
    assert!(connect(&mut sim, Identity::generate().expect("randomness").fingerprint()).is_err(), "changing it is not");
    sim.connect_all();
}

#[test]
fn another_certificate_than_the_announced_one_ends_the_transport() {
    for role in [Role::Client, Role::Server] {
        let mut sim = Sim::new(1);
        let alice = sim.silent_client("alice", role, Identity::generate().expect("randomness"));
        let (connection, transport) = (sim.clients[alice].connection.clone(), sim.clients[alice].transport.id.clone());
        let other = Identity::generate().expect("randomness").fingerprint();
        sim.engine
            .connect_transport(sim.now, &connection, &transport, role, vec![other], &mut sim.out)
            .expect("it is a fingerprint");
        sim.run_for(Duration::from_secs(2));
        let closed = GatewayEvent::TransportClosed(connection, transport, ClosedReason::FingerprintMismatch);
        assert_eq!(sim.events, [closed]);
        assert_eq!(sim.engine.usage().transports, 0);
    }
}

#[test]
fn goodbye_ends_the_transport_at_once() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.connect_all();
    sim.vanish(alice);
    sim.close_notify(alice);
    sim.run_for(2 * DELAY);
    assert!(matches!(sim.events.last(), Some(GatewayEvent::TransportClosed(_, _, ClosedReason::CloseNotify))));
    assert_eq!(sim.engine.usage().transports, 0);
}

/// By then the association is let go of, and goodbye is a guess that a check disproves.
#[test]
fn goodbye_after_a_while_ends_the_transport_of_a_client_that_makes_no_check_any_more() {
    for role in [Role::Client, Role::Server] {
        let mut sim = Sim::new(1);
        let alice = sim.client("alice", role);
        sim.client("bob", role);
        sim.connect_all();
        sim.run_for(Duration::from_secs(40));
        sim.events.clear();
        // Somebody who forges her address says it for her.
        sim.send_up(alice, vec![21; 40]);
        sim.run_for(Duration::from_secs(20));
        assert_eq!((sim.events.len(), sim.engine.usage().transports), (0, 2), "she is there, and makes checks");
        sim.vanish(alice);
        sim.close_notify(alice);
        sim.run_for(Duration::from_secs(9));
        let closed = |event: &GatewayEvent| matches!(event, GatewayEvent::TransportClosed(name, _, ClosedReason::CloseNotify) if name.as_str() == "alice");
        assert!(sim.events.len() == 1 && closed(&sim.events[0]), "{:?}", sim.events);
        assert_eq!(sim.engine.usage().transports, 1);
    }
}

/// The node's own goodbye is as good as ever, and so are the keys.
#[test]
fn a_client_hears_of_the_end_of_its_transport_at_any_time() {
    for time in [1, 40] {
        let mut sim = Sim::new(1);
        let (alice, bob) = (sim.client("alice", Role::Client), sim.client("bob", Role::Client));
        sim.connect_all();
        sim.run_for(Duration::from_secs(time));
        sim.consume(bob, "c");
        sim.produce(alice, "c");
        sim.set_floor("c", 1, Some("alice")).expect("first");
        sim.talk(alice, 10);
        assert_eq!(sim.clients[bob].heard("alice").len(), 10);
        let (connection, transport) = (sim.clients[bob].connection.clone(), sim.clients[bob].transport.id.clone());
        sim.engine.close_transport(sim.now, &connection, &transport, &mut sim.out);
        sim.run_for(2 * DELAY);
        assert!(sim.clients[bob].heard_goodbye, "after {time} s");
    }
}

#[test]
fn a_client_that_vanishes_is_closed_after_the_ice_timeout_and_not_before() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.client("bob", Role::Client);
    sim.connect_all();
    sim.run_for(Duration::from_secs(100));
    assert_eq!(sim.engine.usage().transports, 2, "checks keep a transport");
    sim.vanish(alice);
    sim.run_for(Duration::from_secs(27));
    assert_eq!(sim.engine.usage().transports, 2);
    sim.run_for(Duration::from_secs(4));
    assert!(
        matches!(sim.events.last(), Some(GatewayEvent::TransportClosed(name, _, ClosedReason::IceTimeout)) if name.as_str() == "alice")
    );
    assert_eq!(sim.engine.usage().transports, 1);
}

/// Existing clients open a transport when they join and check when they first consume.
#[test]
fn a_transport_that_is_not_used_for_a_day_connects_then() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.vanish(alice);
    sim.run_for(Duration::from_secs(86_400));
    assert_eq!(sim.engine.usage().transports, 1);
    sim.check_now(alice);
    sim.connect_all();
    sim.vanish(alice);
    sim.run_for(Duration::from_secs(31));
    assert_eq!(sim.engine.usage().transports, 0, "from its first check on it has to go on with them");
}

#[test]
fn a_transport_that_was_never_used_ends_with_its_connection() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.vanish(alice);
    let connection = sim.clients[alice].connection.clone();
    sim.engine.close_connection(sim.now, &connection, None, None, &mut sim.out);
    assert_eq!(sim.engine.usage().transports, 0);
    let bob = sim.client("bob", Role::Client);
    sim.vanish(bob);
    sim.engine.close_gateway(sim.now, &"gateway".into(), &mut sim.out);
    assert_eq!(sim.engine.usage().transports, 0);
}

#[test]
fn strangers_are_not_answered() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let ufrag = sim.clients[alice].transport.ufrag.clone();
    let stranger = Path { socket: 0, remote: "192.0.2.9:9".parse().expect("valid") };
    let mut send = |datagram: &[u8]| {
        sim.engine.handle_datagram(sim.now, stranger, datagram, &mut sim.out);
        assert!(sim.out.sent.is_empty(), "answered {datagram:x?}");
    };
    send(&support::binding_request(&format!("{ufrag}:x"), "a guess"));
    send(&support::binding_request("nobody:x", "a guess"));
    for hello in hellos(include_str!("fixtures/client-hello-chromium-156.hex")) {
        send(&hello);
    }
    send(&[0x80; 100]);
    send(&[]);
}

/// The fragments of real browsers' ClientHellos, in any combination of their retransmissions, in either order, repeated:
/// the engine answers with its flight.
#[test]
fn browsers_client_hellos_are_reassembled_however_they_are_split() {
    for fixture in
        [include_str!("fixtures/client-hello-chromium-156.hex"), include_str!("fixtures/client-hello-firefox-153.hex")]
    {
        let hellos: Vec<Vec<Vec<u8>>> = hellos(fixture).chunks(2).map(<[Vec<u8>]>::to_vec).collect();
        assert!(hellos.len() >= 4, "several retransmissions were captured");
        for first in 0..hellos.len() {
            for second in 0..hellos.len() {
                let (head, tail) = (&hellos[first][0], &hellos[second][1]);
                for datagrams in [vec![head, tail], vec![tail, head], vec![head, head, tail], vec![head, tail, tail]] {
                    let complete = fragment_end(head) >= fragment_start(tail);
                    let answered = answers(&datagrams);
                    assert_eq!(answered, complete, "{first} {second}");
                }
            }
        }
    }
}

/// Whether a fresh transport answers these datagrams with a flight.
fn answers(datagrams: &[&Vec<u8>]) -> bool {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    let path = Path { socket: 0, remote: sim.clients[alice].address };
    let transport = &sim.clients[alice].transport;
    let check = support::binding_request(&format!("{}:x", transport.ufrag), &transport.password);
    sim.engine.handle_datagram(sim.now, path, &check, &mut sim.out);
    assert_eq!(sim.out.sent.len(), 1, "the check is answered");
    for datagram in datagrams {
        sim.engine.handle_datagram(sim.now, path, datagram, &mut sim.out);
    }
    sim.out.sent.len() > 1
}

fn hellos(fixture: &str) -> Vec<Vec<u8>> {
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("the fixtures are hex");
    fixture.lines().map(|line| line.trim().as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Offset and end of the handshake fragment in a datagram (RFC 6347 section 4.2.2).
fn fragment_start(datagram: &[u8]) -> usize {
    u32::from_be_bytes([0, datagram[19], datagram[20], datagram[21]]) as usize
}

fn fragment_end(datagram: &[u8]) -> usize {
    fragment_start(datagram) + u32::from_be_bytes([0, datagram[22], datagram[23], datagram[24]]) as usize
}
