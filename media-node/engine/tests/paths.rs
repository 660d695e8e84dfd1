//! Clients that move: to another address, to another way, with new credentials.

mod support;

use std::time::Duration;

use support::{DELAY, Sim, binding_request};
use voiceping_engine::id::ConnectionId;
use voiceping_engine::{Path, Role, TransportParameters};

/// Two members that are connected, the first of whom may speak.
fn talk(sim: &mut Sim) -> (usize, usize) {
    let (alice, carol) = (sim.client("alice", Role::Client), sim.client("carol", Role::Client));
    sim.connect_all();
    sim.produce(alice, "c");
    sim.consume(carol, "c");
    sim.set_floor("c", 1, Some("alice")).expect("first");
    (alice, carol)
}

fn restart(sim: &mut Sim, client: usize) -> TransportParameters {
    let (connection, id) = (sim.clients[client].connection.clone(), sim.clients[client].transport.id.clone());
    sim.engine.restart_ice(&connection, &id).expect("its own transport")
}

/// Whether a check with these credentials, from an address of its own, is answered.
fn is_answered(sim: &mut Sim, credentials: &TransportParameters) -> bool {
    let check = binding_request(&format!("{}:x", credentials.ufrag), &credentials.password);
    let path = Path { socket: 0, remote: ([203, 0, 113, 9], 9).into() };
    sim.engine.handle_datagram(sim.now, path, &check, &mut sim.out);
    let answered = !sim.out.sent.is_empty();
    sim.out.sent.clear();
    answered
}

#[test]
fn a_restart_of_ice_costs_no_packet_and_ends_the_old_credentials() {
    let mut sim = Sim::new(1);
    let (alice, carol) = talk(&mut sim);
    let old = sim.clients[alice].transport.clone();
    let mut said = sim.talk(alice, 5);
    let new = restart(&mut sim, alice);
    assert!(new.id == old.id && new.ufrag != old.ufrag && new.password != old.password);
    said.extend(sim.talk(alice, 5));
    // She goes on from another address, with what she was told.
    sim.clients[alice].transport = new.clone();
    sim.clients[alice].address = "198.51.100.7:7".parse().expect("valid");
    sim.check_now(alice);
    sim.run_for(2 * DELAY);
    said.extend(sim.talk(alice, 5));
    assert_eq!(sim.clients[carol].heard("alice"), said);
    assert!(!is_answered(&mut sim, &old));
    assert!(is_answered(&mut sim, &new));
    assert!(!is_answered(&mut sim, &TransportParameters { password: old.password, ..new }));
}

#[test]
fn a_restart_whose_answer_is_lost_can_be_asked_for_again() {
    let mut sim = Sim::new(1);
    let (alice, carol) = talk(&mut sim);
    let lost = restart(&mut sim, alice);
    let new = restart(&mut sim, alice);
    let said = sim.talk(alice, 200); // longer than her checks are apart: they go on as before
    assert_eq!(sim.clients[carol].heard("alice"), said);
    let old = sim.clients[alice].transport.clone();
    assert!(is_answered(&mut sim, &old) && !is_answered(&mut sim, &lost) && is_answered(&mut sim, &new));
}

#[test]
fn nobody_restarts_the_transport_of_another() {
    let mut sim = Sim::new(1);
    let (alice, _) = talk(&mut sim);
    let id = sim.clients[alice].transport.id.clone();
    assert!(sim.engine.restart_ice(&ConnectionId::from("mallory"), &id).is_err());
}

#[test]
fn a_speaker_whose_nat_has_forgotten_it_loses_nothing() {
    let mut sim = Sim::new(1);
    let (alice, carol) = talk(&mut sim);
    let mut said = sim.talk(alice, 5);
    // From the next packet on with another port, which no check has told of yet.
    sim.clients[alice].address.set_port(7777);
    said.extend(sim.talk(alice, 10));
    assert_eq!(sim.clients[carol].heard("alice"), said);
    // What was heard once is not heard again from a stranger who has recorded it.
    let (number, packet) = sim.next_packet(alice);
    sim.send_up(alice, packet.clone());
    sim.run_for(2 * DELAY);
    let stranger = Path { socket: 0, remote: ([203, 0, 113, 9], 9).into() };
    let before = sim.clients[carol].received.len();
    sim.engine.handle_datagram(sim.now, stranger, &packet, &mut sim.out);
    sim.run_for(2 * DELAY);
    assert_eq!(sim.clients[carol].received.len(), before);
    said.push(number);
    assert_eq!(sim.clients[carol].heard("alice"), said);
}

#[test]
fn a_talk_goes_over_a_stream_and_back() {
    let mut sim = Sim::new(1);
    let (alice, carol) = talk(&mut sim);
    let mut said = sim.talk(alice, 55);
    let (udp, tcp) = (sim.clients[carol].path(), Path { socket: Path::FIRST_STREAM + 3, ..sim.clients[carol].path() });
    sim.clients[carol].socket = tcp.socket;
    sim.check_now(carol);
    sim.run_for(2 * DELAY);
    assert!(sim.engine.knows_path(&tcp));
    said.extend(sim.talk(alice, 1));
    let (number, packet) = sim.next_packet(alice);
    sim.engine.handle_datagram(sim.now, sim.clients[alice].path(), &packet, &mut sim.out);
    said.push(number);
    let (path, _) = sim.out.sent.last().expect("forwarded");
    assert_eq!(*path, tcp);
    sim.drain();
    sim.run_for(2 * DELAY);
    assert_eq!(sim.clients[carol].heard("alice"), said);
    // The connection ends: nothing is sent until she is heard of another way.
    sim.engine.lose_path(tcp);
    assert!(!sim.engine.knows_path(&tcp));
    sim.talk(alice, 3);
    assert_eq!(sim.clients[carol].heard("alice"), said);
    sim.clients[carol].socket = udp.socket;
    sim.check_now(carol);
    sim.run_for(2 * DELAY);
    said.extend(sim.talk(alice, 3));
    assert_eq!(sim.clients[carol].heard("alice"), said);
    assert!(sim.unused_streams.is_empty(), "who has lost it knows");
}

#[test]
fn a_stream_ends_with_its_transport_and_when_it_is_one_too_many() {
    let mut sim = Sim::new(1);
    let (_, carol) = talk(&mut sim);
    let first = Path::FIRST_STREAM;
    for socket in first..first + 12 {
        sim.clients[carol].socket = socket;
        sim.check_now(carol);
        sim.run_for(Duration::from_millis(100));
    }
    let given_up: Vec<u32> = sim.unused_streams.iter().map(|path| path.socket).collect();
    assert_eq!(given_up, (first..first + 4).collect::<Vec<_>>(), "a client has eight ways, the newest");
    sim.close_notify(carol);
    sim.run_for(2 * DELAY);
    let given_up: Vec<u32> = sim.unused_streams.iter().map(|path| path.socket).collect();
    assert_eq!(given_up, (first..first + 12).collect::<Vec<_>>());
}
