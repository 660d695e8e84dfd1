//! Gates in virtual time: until when they are open, who may close them, and that what is said about them is true.

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::RngExt;
use support::{Sim, UNLIMITED};
use voiceping_engine::id::ChannelId;
use voiceping_engine::{Error, GateChange, GateClosed, GateEvent, NewHolder, Path, Role};

const LEASE: Duration = Duration::from_secs(15);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Alice and Bob can speak on channel c, Carol listens.
fn conversation(seed: u64) -> (Sim, usize, usize, usize) {
    let mut sim = Sim::new(seed);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| sim.client(name, Role::Client));
    sim.connect_all();
    for speaker in [alice, bob] {
        sim.produce(speaker, "c");
    }
    sim.consume(carol, "c");
    (sim, alice, bob, carol)
}

fn channel() -> ChannelId {
    "c".into()
}

fn changes(sim: &Sim) -> Vec<GateChange> {
    sim.gates.iter().map(|gate| gate.change).collect()
}

/// Has a packet of a client arrive at this instant. Answers whether it passed.
fn passes(sim: &mut Sim, client: usize, at: Instant) -> bool {
    let (_, packet) = sim.next_packet(client);
    let path = Path { socket: 0, remote: sim.clients[client].address };
    sim.engine.handle_datagram(at, path, &packet, &mut sim.out);
    let passed = sim.out.sent.iter().any(|(_, datagram)| datagram[0] >= 128 && datagram[1] & 0x7f == 111);
    sim.drain();
    passed
}

#[test]
fn a_gate_ends_strictly_to_the_packet_and_says_when() {
    let (mut sim, alice, ..) = conversation(1);
    let opened = sim.now;
    let end = opened + LEASE;
    sim.set_floor_until("c", 5, Some("alice"), end).expect("first");
    assert!(passes(&mut sim, alice, opened));
    assert!(passes(&mut sim, alice, end - NANOSECOND));
    assert!(!passes(&mut sim, alice, end), "at the end, though no timer has been handled yet");
    let activity = |sim: &Sim, at| sim.engine.floor_activity(at, &channel());
    assert_eq!(activity(&sim, end - NANOSECOND).silent_for, Some(Duration::ZERO));
    assert_eq!(activity(&sim, end).silent_for, None, "there is no holder any more");
    assert_eq!(changes(&sim), [GateChange::Opened { valid_until: end }]);
    sim.run_until(end + Duration::from_secs(1));
    let expired = GateChange::Closed { at: end, why: GateClosed::Expired };
    assert_eq!(changes(&sim), [GateChange::Opened { valid_until: end }, expired]);
    let said = GateEvent { channel: channel(), epoch: 5, connection: "alice".into(), change: expired };
    assert_eq!(sim.gates[1], said);
    let now = sim.now;
    assert!(!passes(&mut sim, alice, now));
    assert_eq!(activity(&sim, now).epoch, 5, "the epoch is remembered");
}

#[test]
fn an_end_can_be_put_off_or_brought_forward_and_one_that_is_past_is_refused() {
    let (mut sim, alice, ..) = conversation(1);
    let start = sim.now;
    for end in [start, start - NANOSECOND] {
        let refused = sim.set_floor_until("c", 5, Some("alice"), end);
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    assert_eq!(sim.engine.floor_activity(start, &channel()).epoch, 0, "nothing has changed");
    sim.set_floor_until("c", 5, Some("alice"), start + LEASE).expect("first");
    sim.run_for(LEASE - Duration::from_secs(1));
    let later = start + 2 * LEASE;
    sim.set_floor_until("c", 5, Some("alice"), later).expect("the same");
    assert!(passes(&mut sim, alice, start + LEASE), "put off");
    sim.run_until(start + LEASE + Duration::from_secs(1));
    assert_eq!(sim.gates.len(), 2, "the first timer found it so: {:?}", sim.gates);
    let sooner = sim.now + Duration::from_secs(2);
    sim.set_floor_until("c", 5, Some("alice"), sooner).expect("the same");
    assert!(!passes(&mut sim, alice, sooner), "brought forward");
    let refused = sim.set_floor_until("c", 5, Some("alice"), sim.now);
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    sim.run_for(2 * LEASE);
    assert_eq!(
        changes(&sim),
        [
            GateChange::Opened { valid_until: start + LEASE },
            GateChange::Extended { valid_until: later },
            GateChange::Extended { valid_until: sooner },
            GateChange::Closed { at: sooner, why: GateClosed::Expired },
        ]
    );
}

#[test]
fn a_gate_that_came_to_its_end_is_opened_anew_for_its_holder_alone() {
    let (mut sim, alice, bob, _) = conversation(1);
    let end = sim.now + LEASE;
    sim.set_floor_until("c", 5, Some("alice"), end).expect("first");
    assert!(matches!(sim.set_floor("c", 5, Some("bob")), Err(Error::Conflict(_))));
    // The renewal comes late, and the engine has not handled its timer yet.
    sim.now = end + NANOSECOND;
    assert!(matches!(sim.set_floor("c", 5, Some("bob")), Err(Error::Conflict(_))), "one epoch is one decision");
    let again = sim.now + LEASE;
    sim.set_floor_until("c", 5, Some("alice"), again).expect("the lease went on");
    let now = sim.now;
    assert!(passes(&mut sim, alice, now));
    assert!(!passes(&mut sim, bob, now));
    assert_eq!(
        changes(&sim),
        [
            GateChange::Opened { valid_until: end },
            GateChange::Closed { at: end, why: GateClosed::Expired },
            GateChange::Opened { valid_until: again },
        ]
    );
    sim.run_until(again);
    sim.set_floor("c", 5, None).expect("to end an epoch whose gate has expired");
    assert!(sim.set_floor("c", 5, Some("alice")).is_err(), "it stays ended");
    assert_eq!(sim.gates.len(), 4, "closed once: {:?}", sim.gates);
}

#[test]
fn the_fence_of_a_close_spares_what_another_gateway_has_taken_over() {
    let (mut sim, alice, ..) = conversation(1);
    let until = sim.now + UNLIMITED;
    let (old, new) = ("gateway".into(), "another gateway".into());
    sim.set_floor("c", 5, Some("alice")).expect("first");
    let holder = NewHolder { connection: "alice".into(), gateway: "another gateway".into(), valid_until: until };
    sim.engine.set_floor(sim.now, &channel(), 5, Some(holder)).expect("the same");
    assert_eq!(sim.engine.close_floor(sim.now, &channel(), 5, Some(&old)), Ok(false), "nothing changes");
    let now = sim.now;
    assert!(passes(&mut sim, alice, now), "it is the new gateway's");
    let older = sim.engine.close_floor(sim.now, &channel(), 4, None);
    assert!(matches!(older, Err(Error::Conflict(_))), "{older:?}");
    assert!(passes(&mut sim, alice, now));
    assert_eq!(sim.engine.close_floor(sim.now, &channel(), 5, Some(&new)), Ok(true), "its own");
    assert!(!passes(&mut sim, alice, now));
    assert_eq!(sim.gates.last().map(|gate| gate.change), Some(GateChange::Closed { at: now, why: GateClosed::Closed }));
    sim.engine.close_floor(sim.now, &channel(), 5, None).expect("repeating it");
    assert!(sim.set_floor("c", 5, Some("alice")).is_err(), "an epoch that was closed stays closed");

    // A newer epoch closes, whoever holds, and is remembered: the grant that it overtook opens nothing.
    sim.set_floor("c", 6, Some("alice")).expect("newer");
    sim.engine.close_floor(sim.now, &channel(), 8, Some(&new)).expect("newer");
    assert!(!passes(&mut sim, alice, now));
    let superseded = GateChange::Closed { at: now, why: GateClosed::Superseded };
    assert_eq!(sim.gates.last().map(|gate| gate.change), Some(superseded));
    assert!(sim.set_floor("c", 8, Some("alice")).is_err());
    assert!(sim.set_floor("c", 7, Some("alice")).is_err());
    let said = sim.gates.len();
    sim.set_floor("c", 9, Some("alice")).expect("newer");
    sim.set_floor("c", 10, Some("alice")).expect("newer");
    assert_eq!(sim.gates.len(), said + 3, "opened; closed and opened");

    // The fence reaches a gate that has expired as well: its holder's gateway may be about to open it anew.
    let end = sim.now + LEASE;
    sim.set_floor_until("c", 11, Some("alice"), end).expect("newer");
    sim.run_until(end);
    sim.engine.close_floor(sim.now, &channel(), 11, Some(&new)).expect("success without change");
    sim.set_floor_until("c", 11, Some("alice"), end + LEASE).expect("the lease went on");
    sim.run_until(end + LEASE);
    sim.engine.close_floor(sim.now, &channel(), 11, Some(&old)).expect("its own");
    assert!(sim.set_floor("c", 11, Some("alice")).is_err());
}

#[test]
fn a_channel_that_was_in_use_in_between_remembers_its_epoch_for_the_whole_time() {
    let (mut sim, ..) = conversation(1);
    sim.set_floor("d", 10, None).expect("first");
    sim.run_for(Duration::from_secs(40));
    sim.set_floor("d", 11, Some("alice")).expect("newer");
    sim.run_for(Duration::from_secs(15));
    sim.set_floor("d", 12, None).expect("newer");
    sim.run_for(Duration::from_secs(50));
    assert!(sim.set_floor("d", 11, Some("alice")).is_err(), "the timer of its first emptiness does not count");
    sim.run_for(Duration::from_secs(11));
    assert_eq!(sim.engine.floor_activity(sim.now, &"d".into()).epoch, 0);
}

/// What a gate should be, kept apart from the engine.
#[derive(Default)]
struct Model {
    epoch: u64,
    holder: Option<(&'static str, Instant)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Under random commands and times: a packet passes if and only if its sender's gate is open, and what is said about
    /// gates is one story without a gap: opened, extended, closed once, never beyond the end.
    #[test]
    fn a_packet_passes_exactly_while_a_gate_is_said_to_be_open(seed in any::<u64>()) {
        let (mut sim, alice, bob, _) = conversation(seed);
        let mut model = Model::default();
        for _ in 0..60 {
            let step = Duration::from_millis(sim.rng.random_range(0..3000));
            if sim.rng.random_range(0..3) == 0 {
                sim.now += step; // the timers are late
            } else {
                sim.run_for(step);
            }
            let now = sim.now;
            let epoch = (model.epoch + sim.rng.random_range(0..3)).saturating_sub(1).max(1);
            let end = now + Duration::from_millis(sim.rng.random_range(0..5000)) - Duration::from_millis(500);
            match sim.rng.random_range(0..4) {
                0 => {
                    if sim.set_floor_until("c", epoch, None, end).is_ok() {
                        model = Model { epoch, holder: None };
                    }
                }
                _ => {
                    let name = ["alice", "bob"][sim.rng.random_range(0..2)];
                    let accepted = sim.set_floor_until("c", epoch, Some(name), end).is_ok();
                    prop_assert!(!accepted || (end > now && epoch >= model.epoch));
                    if accepted {
                        model = Model { epoch, holder: Some((name, end)) };
                    }
                }
            }
            for (client, name) in [(alice, "alice"), (bob, "bob")] {
                let at = now + Duration::from_millis(sim.rng.random_range(0..20));
                let open = model.holder.is_some_and(|(holder, end)| holder == name && at < end);
                prop_assert_eq!(passes(&mut sim, client, at), open);
            }
        }
        sim.run_for(Duration::from_secs(60));
        let mut open: Option<(GateEvent, Instant)> = None;
        for gate in &sim.gates {
            match (gate.change, &open) {
                (GateChange::Opened { valid_until }, None) => open = Some((gate.clone(), valid_until)),
                (GateChange::Extended { valid_until }, Some((opened, _))) => {
                    prop_assert_eq!((gate.epoch, &gate.connection), (opened.epoch, &opened.connection));
                    open = Some((gate.clone(), valid_until));
                }
                (GateChange::Closed { at, why }, Some((opened, end))) => {
                    prop_assert_eq!((gate.epoch, &gate.connection), (opened.epoch, &opened.connection));
                    prop_assert!(at <= *end && (at == *end) == (why == GateClosed::Expired));
                    open = None;
                }
                (change, open) => prop_assert!(false, "{:?} while {:?}", change, open),
            }
        }
        prop_assert!(open.is_none(), "every gate ends");
    }
}
