//! News of members where there are many: merged, paced, behind the news of floors, and never with an older floor.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::hub::crowd::CROWD;

#[path = "../../../../bench/baselines.rs"]
mod baselines;

/// Members here, of a channel with as many users.
const MEMBERS: usize = 300;

/// All there, answered with this version.
fn crowd(hub: &Arc<Hub>, version: u64) -> Vec<Member> {
    let roster = Roster { users: MEMBERS, version };
    let members = (0..MEMBERS).map(|index| Member::enter_with(hub, &format!("m{index}"), roster, MEMBERS)).collect();
    apply(hub, &free(1), None, None);
    members
}

/// A stranger came; so many are there.
fn came(users: usize, version: u64) -> MemberChanged {
    joined(owner(&"stranger".into()), users, version)
}

fn went(users: usize, version: u64) -> MemberChanged {
    MemberChanged { action: MemberAction::Left, ..came(users, version) }
}

/// Sends all there is, as the gateway's task does, in virtual time. Answers the portions.
async fn send_all(hub: &Hub) -> usize {
    let mut portions = 0;
    loop {
        match hub.send_portion() {
            Next::Now => portions += 1,
            Next::At(time) => tokio::time::sleep_until(time).await,
            Next::Nothing => return portions,
        }
    }
}

fn counts(member: &mut Member) -> Vec<u64> {
    let pushes = member.pushes();
    pushes.iter().filter_map(|push| push["data"]["userCount"].as_u64()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_crowd_does_at_once_is_told_once_with_the_last_of_it() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    for more in 1..=1_000 {
        hub.member_changed(came(MEMBERS + more, more as u64));
    }
    send_all(&hub).await;
    for member in &mut members {
        let pushes = member.pushes();
        assert_eq!(pushes.len(), 1);
        assert_eq!((&pushes[0]["data"]["userCount"], &pushes[0]["data"]["merged"]), (&1_300.into(), &true.into()));
    }
    // One alone stands for itself.
    hub.member_changed(went(1_299, 1_001));
    send_all(&hub).await;
    let pushes = members[0].pushes();
    assert_eq!((pushes.len(), &pushes[0]["data"]["merged"]), (1, &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_round_waits_for_the_next_and_each_sees_the_order() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    hub.member_changed(came(MEMBERS + 1, 1));
    assert_eq!(hub.send_portion(), Next::Now);
    for version in 2..=50 {
        hub.member_changed(came(MEMBERS + version, version as u64));
    }
    send_all(&hub).await;
    assert!(members.iter_mut().all(|member| counts(member) == [301, 350]));
}

#[tokio::test(start_paused = true)]
async fn up_to_the_limit_each_is_told() {
    let (hub, _idle) = Hub::new();
    let mut member = Member::enter(&hub, "a");
    apply(&hub, &free(1), None, None);
    for version in 1..=4 {
        hub.member_changed(came(CROWD, version));
    }
    assert_eq!(counts(&mut member), [CROWD as u64; 4]);
    for version in 5..=8 {
        hub.member_changed(came(CROWD + 1, version));
    }
    assert!(member.pushes().is_empty());
    send_all(&hub).await;
    assert_eq!(counts(&mut member), [CROWD as u64 + 1]);
}

#[tokio::test(start_paused = true)]
async fn news_of_members_take_their_time_and_those_of_floors_do_not() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    let began = Instant::now();
    hub.member_changed(came(MEMBERS + 1, 1));
    assert_eq!(hub.send_portion(), Next::Now);
    assert_eq!(told(&mut members), 32);
    let Next::At(next) = hub.send_portion() else { panic!("it waits") };
    assert_eq!(next - began, Duration::from_micros(32 * 200));
    apply(&hub, &held(2, &"speaker".into()), Some(FloorCause::Taken), None);
    while hub.send_portion() == Next::Now {}
    assert_eq!((told(&mut members), began.elapsed()), (MEMBERS, Duration::ZERO));
    send_all(&hub).await;
    assert_eq!(told(&mut members), MEMBERS - 32);
    // The clock of timers has milliseconds.
    let (took, portions) = (began.elapsed(), MEMBERS.div_ceil(32) as u32);
    let least = Duration::from_micros(200) * MEMBERS as u32;
    assert!(took >= least && took <= least + Duration::from_millis(1) * portions, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_round_shows_the_floor_as_it_is() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    hub.member_changed(came(MEMBERS + 1, 1));
    hub.send_portion();
    apply(&hub, &held(2, &"speaker".into()), Some(FloorCause::Taken), None);
    send_all(&hub).await;
    let mut first = 0;
    for member in &mut members {
        let pushes = member.pushes();
        let seen: Vec<_> = pushes.iter().map(|push| (&push["type"], &push["data"]["epoch"])).collect();
        let (speaker, state) = (Value::from(SPEAKER_CHANGED), Value::from(CHANNEL_STATE));
        if seen[0].0 == CHANNEL_STATE {
            first += 1;
            assert_eq!(seen, [(&state, &1.into()), (&speaker, &2.into())]);
        } else {
            assert_eq!(seen, [(&speaker, &2.into()), (&state, &2.into())]);
            assert_eq!((&pushes[1]["data"]["isBusy"], &pushes[1]["data"]["userCount"]), (&true.into(), &301.into()));
        }
    }
    assert_eq!(first, 32);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_shrinks_is_told_so_instead_of_what_is_older() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    hub.member_changed(went(CROWD + 2, 1));
    hub.send_portion();
    hub.member_changed(went(CROWD + 1, 2));
    hub.member_changed(went(CROWD, 3));
    hub.member_changed(went(CROWD - 1, 4));
    send_all(&hub).await;
    let mut first = 0;
    for member in &mut members {
        let pushes = member.pushes();
        let seen: Vec<_> = pushes.iter().map(|push| (&push["data"]["userCount"], &push["data"]["merged"])).collect();
        // It says that it stands for others, and the next one that it is alone.
        let last = [(&Value::from(CROWD), &true.into()), (&(CROWD - 1).into(), &Value::Null)];
        first += seen.len() - last.len();
        assert_eq!(seen[seen.len() - 2..], last);
    }
    assert_eq!(first, 32);
}

#[tokio::test(start_paused = true)]
async fn who_it_is_about_who_came_later_and_who_left_are_not_told() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    let subject = members[0].connection.clone();
    hub.member_changed(joined(owner(&subject), MEMBERS + 1, 1));
    let late = Roster { users: MEMBERS + 1, version: 1 };
    let mut before = Member::enter_with(&hub, "before", late, MEMBERS + 1);
    hub.exit(&channel(), &members[1].connection);
    hub.send_portion();
    let waiting = members.iter_mut().position(|member| member.connection != subject && member.pushes().is_empty());
    let leaver = members.swap_remove(waiting.expect("most wait"));
    hub.exit(&channel(), &leaver.connection);
    let mut during = Member::enter_with(&hub, "during", late, MEMBERS + 1);
    send_all(&hub).await;
    assert!(before.pushes().is_empty() && during.pushes().is_empty());
    let Member { mut queue, .. } = leaver;
    assert!(queue.try_recv().is_err());
    assert!(members.iter_mut().filter(|member| member.connection == subject).all(|member| member.pushes().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn who_is_answered_has_been_told_of_members_before_and_only_once() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub, 0);
    hub.member_changed(came(MEMBERS + 1, 1));
    hub.send_portion();
    let waiting = members.iter_mut().position(|member| member.pushes().is_empty()).expect("most wait");
    let outbox = {
        let inner = hub.lock();
        inner.channel_by_id[&channel()].member_by_connection[&members[waiting].connection].outbox.clone()
    };
    hub.catch_up(&channel(), &outbox);
    assert_eq!(counts(&mut members[waiting]), [301]);
    send_all(&hub).await;
    assert!(members[waiting].pushes().is_empty());
    // Over another socket it goes on after what it missed.
    hub.member_changed(came(MEMBERS + 2, 2));
    let late = Roster { users: MEMBERS + 2, version: 2 };
    let name = members[waiting].connection.clone();
    let mut again = Member::enter_with(&hub, name.as_str(), late, MEMBERS + 2);
    send_all(&hub).await;
    assert!(again.pushes().is_empty() && members[waiting].pushes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_channel_that_is_forgotten_is_told_to_nobody() {
    let (hub, _idle) = Hub::new();
    let members = crowd(&hub, 0);
    hub.member_changed(came(MEMBERS + 1, 1));
    hub.send_portion();
    hub.member_changed(came(MEMBERS + 2, 2));
    for Member { connection, _interest, .. } in members {
        hub.exit(&channel(), &connection);
        drop(_interest);
    }
    assert!(hub.forget_if_idle(&channel()));
    send_all(&hub).await;
    assert_eq!(hub.send_portion(), Next::Nothing);
}

#[tokio::test(start_paused = true)]
async fn the_task_that_sends_wakes_for_what_waits() {
    let (hub, _idle) = Hub::new();
    let end = CancellationToken::new();
    let sending = {
        let (hub, end) = (Arc::clone(&hub), end.clone());
        tokio::spawn(async move { hub.send(end).await })
    };
    let mut members = crowd(&hub, 0);
    for more in 1..=3 {
        hub.member_changed(came(MEMBERS + more, more as u64));
        for member in &mut members {
            let text = member.queue.recv().await.expect("told");
            assert!(text.contains(&format!("\"userCount\":{}", MEMBERS + more)), "{text}");
        }
    }
    end.cancel();
    sending.await.expect("does not panic");
}

/// In virtual time: the count is the same on every machine.
#[tokio::test(start_paused = true)]
async fn a_join_of_a_thousand_who_come_within_three_seconds_costs_few_pushes() {
    const JOINS: usize = 1_000;
    let (hub, _idle) = Hub::new();
    let end = CancellationToken::new();
    let sending = {
        let (hub, end) = (Arc::clone(&hub), end.clone());
        tokio::spawn(async move { hub.send(end).await })
    };
    let (mut members, mut pushes): (Vec<Member>, _) = (Vec::new(), 0);
    for users in 1..=JOINS {
        let roster = Roster { users, version: users as u64 };
        let member = Member::enter_with(&hub, &format!("m{users}"), roster, users);
        apply(&hub, &free(1), None, None);
        hub.member_changed(joined(owner(&member.connection), users, users as u64));
        members.push(member);
        tokio::time::sleep(Duration::from_millis(3)).await;
        pushes += told(&mut members);
    }
    // Who came last has it in the answer to the join.
    for member in &mut members[..JOINS - 1] {
        let last = loop {
            let push: Value = serde_json::from_str(&member.queue.recv().await.expect("told")).expect("JSON");
            pushes += 1;
            if push["data"]["userCount"] == JOINS {
                break push;
            }
        };
        assert_eq!(last["data"]["userId"], "a");
    }
    baselines::check("gateway.pushes_per_join_of_a_thousand", pushes as f64 / JOINS as f64);
    end.cancel();
    sending.await.expect("does not panic");
}

/// What one member has been shown.
#[derive(Default)]
struct Seen {
    epoch: u64,
    count: Option<u64>,
}

impl Seen {
    fn take(&mut self, member: &mut Member, seed: u64) {
        for push in member.pushes() {
            let epoch = push["data"]["epoch"].as_u64().expect("an epoch");
            assert!(epoch >= self.epoch, "seed {seed}: the floor of {epoch} after that of {}", self.epoch);
            self.epoch = epoch;
            self.count = push["data"]["userCount"].as_u64().or(self.count);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_nobody_is_shown_an_older_floor_and_all_end_with_the_last_count() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let (hub, _idle) = Hub::new();
        let mut members: Vec<_> = crowd(&hub, 0).into_iter().map(|member| (member, Seen::default())).collect();
        let (mut epoch, mut version, mut users) = (1, 0, CROWD + 3);
        for step in 0..400 {
            match random.random_range(0..10) {
                0 => {
                    epoch += 1;
                    let floor = if epoch % 2 == 0 { held(epoch, &"speaker".into()) } else { free(epoch) };
                    apply(&hub, &floor, None, None);
                }
                1..=4 => {
                    version += 1;
                    let joins = users < CROWD - 2 || random.random();
                    users = if joins { users + 1 } else { users - 1 };
                    hub.member_changed(if joins { came(users, version) } else { went(users, version) });
                }
                5 => {
                    let (member, _) = members.swap_remove(random.next_u32() as usize % members.len());
                    hub.exit(&channel(), &member.connection);
                    let roster = Roster { users, version };
                    let expected = hub.lock().channel_by_id[&channel()]
                        .roster
                        .map_or(users, |known| if known.version > version { known.users } else { users });
                    let seen = Seen { epoch, count: Some(users as u64) };
                    members.push((Member::enter_with(&hub, &format!("x{step}"), roster, expected), seen));
                }
                _ => match hub.send_portion() {
                    Next::At(time) if random.random() => tokio::time::sleep_until(time).await,
                    _ => {}
                },
            }
        }
        // None of those who were there at the beginning has been told nothing.
        version += 1;
        users = if random.random() { CROWD } else { CROWD + 1 };
        hub.member_changed(came(users, version));
        send_all(&hub).await;
        for (member, seen) in &mut members {
            seen.take(member, seed);
            assert_eq!(seen.count, Some(users as u64), "seed {seed}");
        }
    }
}
