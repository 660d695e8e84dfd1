//! Whole connections: moved to another gateway, closed with a fence, left behind by a gateway that is gone.

mod support;

use std::time::Duration;

use support::Sim;
use voiceping_engine::id::{ConnectionId, GatewayId};
use voiceping_engine::{Direction, GateChange, GateClosed, GatewayEvent, NewTransport, Role, Usage};

#[test]
fn an_adopted_connection_keeps_what_it_has_and_its_events_go_to_the_new_gateway() {
    let mut sim = Sim::new(1);
    let (alice, carol) = (sim.client("alice", Role::Client), sim.client("carol", Role::Client));
    sim.connect_all();
    let producer = sim.produce(alice, "c");
    let consumer = sim.consume(alice, "d");
    sim.consume(carol, "c");
    let connection = ConnectionId::from("alice");
    let (now, gateway) = (sim.now, GatewayId::from("gateway"));
    let new = NewTransport { gateway, connection: connection.clone(), direction: Direction::Recv };
    let receiving = sim.engine.create_transport(now, new).expect("room").id;
    let usage = Usage { connections: 2, transports: 3, producers: 1, consumers: 2 };
    assert_eq!(sim.engine.usage(), usage);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.talk(alice, 2);

    let adopted = sim.engine.adopt_connection(&connection, "another".into()).expect("it is here");
    let sending = sim.clients[alice].transport.id.clone();
    assert_eq!(adopted.transports, [(sending, Direction::Send), (receiving, Direction::Recv)]);
    assert_eq!(adopted.producers, [(producer, "c".into())]);
    assert_eq!(adopted.consumers, [(consumer.id, "d".into())]);
    assert_eq!(sim.engine.adopt_connection(&connection, "another".into()), Some(adopted), "repeating is success");
    assert_eq!(sim.engine.adopt_connection(&"nobody".into(), "another".into()), None);
    assert_eq!(sim.engine.usage(), usage, "nothing has changed but who is told");

    let before = sim.told.len();
    let said = sim.talk(alice, 3);
    assert!(sim.clients[carol].heard("alice").ends_with(&said));
    sim.vanish(alice);
    sim.run_for(Duration::from_secs(31));
    let closed = sim.events.iter().filter(|event| matches!(event, GatewayEvent::TransportClosed(..))).count();
    assert_eq!(closed, 1, "the other has not been used yet and lives as long as the connection");
    assert!(sim.events.contains(&GatewayEvent::FloorMediaStopped("c".into(), 1)), "the floor has moved too");
    assert!(sim.told[before..].iter().all(|gateway| gateway.as_str() == "another"), "{:?}", sim.told);
}

#[test]
fn a_floor_changes_its_gateway_where_its_holder_has_nothing() {
    let mut sim = Sim::new(1);
    sim.set_floor("c", 1, Some("alice")).expect("first");
    assert_eq!(sim.engine.adopt_connection(&"alice".into(), "another".into()), None);
    sim.engine.close_floor(sim.now, &"c".into(), 1, Some(&"gateway".into())).expect("success without change");
    sim.drain();
    assert_eq!(sim.gates.len(), 1, "it is not the old gateway's any more");
    sim.engine.close_floor(sim.now, &"c".into(), 1, Some(&"another".into())).expect("its own");
    sim.drain();
    assert_eq!(sim.gates.len(), 2);
}

#[test]
fn the_fence_of_a_close_spares_a_connection_that_another_gateway_has_adopted() {
    let mut sim = Sim::new(1);
    let alice = sim.client("alice", Role::Client);
    sim.connect_all();
    sim.produce(alice, "c");
    sim.consume(alice, "c");
    let connection = ConnectionId::from("alice");
    let (old, new) = (GatewayId::from("gateway"), GatewayId::from("another"));
    let everything = sim.engine.usage();
    sim.engine.adopt_connection(&connection, new.clone()).expect("it is here");
    let channel = "c".into();
    for channel in [Some(&channel), None] {
        sim.engine.close_connection(sim.now, &connection, channel, Some(&old), &mut sim.out);
        assert_eq!(sim.engine.usage(), everything);
    }
    sim.engine.close_connection(sim.now, &connection, Some(&channel), Some(&new), &mut sim.out);
    assert_eq!(sim.engine.usage(), Usage { producers: 0, consumers: 0, ..everything });
    sim.engine.close_connection(sim.now, &connection, None, Some(&new), &mut sim.out);
    assert_eq!(sim.engine.usage(), Usage::default());
    sim.engine.close_connection(sim.now, &connection, None, None, &mut sim.out);
}

#[test]
fn what_a_gateway_leaves_behind_is_closed_with_its_gates_and_nothing_else() {
    let mut sim = Sim::new(1);
    let clients = ["alice", "bob", "carol"].map(|name| sim.client(name, Role::Client));
    sim.connect_all();
    clients.into_iter().for_each(|client| {
        sim.produce(client, "c");
        sim.consume(client, "c");
    });
    sim.set_floor("c", 1, Some("alice")).expect("first");
    sim.set_floor("d", 1, Some("carol")).expect("first");
    sim.engine.adopt_connection(&"carol".into(), "another".into()).expect("it is here");
    assert_eq!(sim.engine.close_gateway(sim.now, &"gateway".into(), &mut sim.out), 2);
    sim.drain();
    assert_eq!(sim.engine.usage(), Usage { connections: 1, transports: 1, producers: 1, consumers: 1 });
    let closed: Vec<_> = sim.gates.iter().filter(|gate| matches!(gate.change, GateChange::Closed { .. })).collect();
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0].connection, "alice".into());
    assert_eq!(closed[0].change, GateChange::Closed { at: sim.now, why: GateClosed::Closed });
    assert!(
        !sim.events.iter().any(|event| matches!(event, GatewayEvent::TransportClosed(..))),
        "nobody is there to hear"
    );
    assert_eq!(sim.engine.close_gateway(sim.now, &"gateway".into(), &mut sim.out), 0);
    sim.set_floor("c", 2, Some("carol")).expect("newer");
}
