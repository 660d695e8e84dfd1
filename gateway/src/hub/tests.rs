use serde_json::Value;
use voiceping_state::{Holder, MemberAction, Roster};

use super::fan_out::Next;
use super::*;

mod crowd;

struct Member {
    connection: ConnectionId,
    queue: mpsc::Receiver<Utf8Bytes>,
    _interest: Interest,
}

impl Member {
    fn enter(hub: &Arc<Hub>, connection: &str) -> Self {
        Self::enter_with(hub, connection, Roster { users: 1, version: 0 }, 1)
    }

    /// Its join is answered with this roster, and it with this number of users.
    fn enter_with(hub: &Arc<Hub>, connection: &str, joined: Roster, users: usize) -> Self {
        let (outbox, queue) = Outbox::new();
        let connection = ConnectionId::from(connection);
        let interest = hub.interest(&channel());
        hub.enter(&channel(), &connection, &outbox, joined, |_, told| assert_eq!(told, users));
        Self { connection, queue, _interest: interest }
    }

    fn pushes(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.queue.try_recv().ok())
            .map(|text| serde_json::from_str(&text).expect("JSON"))
            .collect()
    }
}

fn channel() -> ChannelId {
    "c1".into()
}

fn owner(connection: &ConnectionId) -> Owner {
    Owner { user: "a".into(), user_name: "A".into(), connection: connection.clone(), gateway: "g".into() }
}

fn held(epoch: u64, connection: &ConnectionId) -> Floor {
    Floor {
        epoch,
        holder: Some(Holder { owner: owner(connection), node: "n".into(), taken_at_ms: 0, lease_until_ms: 0 }),
    }
}

fn free(epoch: u64) -> Floor {
    Floor { epoch, holder: None }
}

fn apply(hub: &Hub, floor: &Floor, cause: Option<FloorCause>, previous: Option<&Owner>) -> Applied {
    hub.apply(&Change { channel: &channel(), floor, cause, previous })
}

#[tokio::test]
async fn a_change_reaches_all_but_the_speaker_and_only_once() {
    let (hub, _idle) = Hub::new();
    let (mut a, mut b) = (Member::enter(&hub, "a"), Member::enter(&hub, "b"));
    assert_eq!(apply(&hub, &free(1), None, None), Applied::First);
    let taken = held(2, &a.connection);
    assert_eq!(apply(&hub, &taken, Some(FloorCause::Taken), None), Applied::Changed);
    assert_eq!(apply(&hub, &taken, Some(FloorCause::Taken), None), Applied::Nothing);
    assert_eq!(apply(&hub, &free(1), Some(FloorCause::Released), None), Applied::Nothing);
    assert!(a.pushes().is_empty());
    let pushes = b.pushes();
    assert_eq!(pushes.len(), 1);
    assert_eq!(pushes[0]["data"]["producerId"], "floor:c1");
}

#[tokio::test]
async fn who_gave_the_floor_back_is_not_told_and_who_lost_it_is() {
    let (hub, _idle) = Hub::new();
    let (mut a, mut b) = (Member::enter(&hub, "a"), Member::enter(&hub, "b"));
    let previous = owner(&a.connection);
    apply(&hub, &held(1, &a.connection), None, None);
    assert_eq!(apply(&hub, &free(2), Some(FloorCause::Released), Some(&previous)), Applied::Changed);
    assert_eq!((a.pushes().len(), b.pushes().len()), (0, 1));
    apply(&hub, &held(3, &a.connection), Some(FloorCause::Taken), None);
    apply(&hub, &free(4), Some(FloorCause::Expired), Some(&previous));
    let lost = a.pushes();
    assert_eq!((lost.len(), b.pushes().len()), (1, 2));
    assert_eq!(lost[0]["data"]["reason"], "expired");
    // A snapshot knows no cause: better told twice than not at all.
    apply(&hub, &held(5, &a.connection), Some(FloorCause::Taken), None);
    assert_eq!(apply(&hub, &free(6), None, None), Applied::Changed);
    assert_eq!((a.pushes().len(), b.pushes().len()), (1, 2));
}

#[tokio::test]
async fn a_slow_reader_loses_its_own_connection_only() {
    let (hub, _idle) = Hub::new();
    let (slow, mut quick) = (Member::enter(&hub, "slow"), Member::enter(&hub, "quick"));
    let outbox = hub.lock().channel_by_id[&channel()].member_by_connection[&slow.connection].outbox.clone();
    let other = ConnectionId::from("speaker");
    for epoch in 1..5_000 {
        apply(&hub, &held(epoch, &other), None, None);
        quick.pushes();
    }
    assert!(outbox.is_closed());
    let left = hub.lock().channel_by_id[&channel()].member_by_connection[&quick.connection].outbox.clone();
    assert!(!left.is_closed());
}

const CROWD: usize = 100;

fn crowd(hub: &Arc<Hub>) -> Vec<Member> {
    (0..CROWD).map(|index| Member::enter_with(hub, &format!("m{index}"), Roster { users: 1, version: 0 }, 1)).collect()
}

fn told(members: &mut [Member]) -> usize {
    members.iter_mut().map(|member| member.pushes().len()).sum()
}

#[tokio::test]
async fn a_crowd_is_told_in_portions_and_in_order() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub);
    let speaker = members[0].connection.clone();
    apply(&hub, &free(1), None, None);
    apply(&hub, &held(2, &speaker), Some(FloorCause::Taken), None);
    apply(&hub, &free(3), Some(FloorCause::Released), Some(&owner(&speaker)));
    assert_eq!(told(&mut members), 0);
    // A member of another channel does not wait for all of them.
    let (outbox, mut other) = Outbox::new();
    let _interest = hub.interest(&"c2".into());
    hub.enter(&"c2".into(), &"x".into(), &outbox, Roster { users: 1, version: 0 }, |_, _| {});
    hub.apply(&Change { channel: &"c2".into(), floor: &free(1), cause: None, previous: None });
    hub.apply(&Change { channel: &"c2".into(), floor: &held(2, &speaker), cause: None, previous: None });
    assert!(other.try_recv().is_ok());
    let mut portions = 0;
    while hub.send_portion() == Next::Now {
        portions += 1;
    }
    assert!(portions > 6, "{portions}");
    for member in &mut members[1..] {
        let epochs: Vec<_> = member.pushes().iter().map(|push| push["data"]["epoch"].as_u64()).collect();
        assert_eq!(epochs, [Some(2), Some(3)]);
    }
    assert!(members[0].pushes().is_empty() && hub.has_room());
}

#[tokio::test]
async fn who_is_answered_has_been_told_before_and_who_left_is_told_no_more() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub);
    let outbox =
        |member: &Member| hub.lock().channel_by_id[&channel()].member_by_connection[&member.connection].outbox.clone();
    let (speaker, presser, leaver) =
        (members[0].connection.clone(), outbox(&members[1]), members[2].connection.clone());
    apply(&hub, &free(1), None, None);
    apply(&hub, &held(2, &speaker), Some(FloorCause::Taken), None);
    hub.catch_up(&channel(), &presser);
    assert_eq!(members[1].pushes().len(), 1);
    hub.exit(&channel(), &leaver);
    // It comes when the push is on its way, and has its answer.
    members.push(Member::enter_with(&hub, "late", Roster { users: 1, version: 0 }, 1));
    while hub.send_portion() == Next::Now {}
    assert_eq!(told(&mut members), CROWD - 3);
    assert!(members[1].pushes().is_empty() && members[2].pushes().is_empty());
}

#[tokio::test]
async fn pushes_that_wait_are_bounded_by_leaving_changes_to_the_bus() {
    let (hub, _idle) = Hub::new();
    let mut members = crowd(&hub);
    let mut epoch = 1;
    apply(&hub, &free(epoch), None, None);
    while hub.has_room() {
        epoch += 1;
        apply(&hub, &held(epoch, &"other".into()), None, None);
    }
    let waiting = room(&hub);
    while hub.send_portion() == Next::Now {
        told(&mut members);
    }
    waiting.await;
    assert!(hub.has_room());
}

/// Waits for room, registered before anything is sent.
fn room(hub: &Arc<Hub>) -> impl Future<Output = ()> {
    let hub = Arc::clone(hub);
    let waiting = tokio::spawn(async move { hub.room().await });
    async move { waiting.await.expect("does not panic") }
}

#[tokio::test]
async fn a_users_coming_is_told_to_the_others_with_the_floor() {
    let (hub, _idle) = Hub::new();
    let (mut a, mut b) = (Member::enter(&hub, "a"), Member::enter(&hub, "b"));
    apply(&hub, &held(1, &b.connection), None, None);
    let member = owner(&a.connection);
    hub.member_changed(joined(member, 2, 1));
    assert!(a.pushes().is_empty());
    let pushes = b.pushes();
    assert_eq!((pushes.len(), &pushes[0]["type"]), (1, &"channel-state".into()));
    assert_eq!((&pushes[0]["data"]["isBusy"], &pushes[0]["data"]["userCount"]), (&true.into(), &2.into()));
}

fn joined(member: Owner, users: usize, version: u64) -> MemberChanged {
    let roster = Roster { users, version };
    MemberChanged { channel: channel(), member, action: MemberAction::Joined, roster }
}

#[tokio::test]
async fn a_join_is_followed_by_newer_news_of_members_only_and_misses_none() {
    let (hub, _idle) = Hub::new();
    let stranger = owner(&"stranger".into());
    // Answered when seven were there. The bus is behind: it has yet to tell of the sixth and the seventh.
    let mut early = Member::enter_with(&hub, "early", Roster { users: 7, version: 7 }, 7);
    apply(&hub, &free(1), None, None);
    hub.member_changed(joined(stranger.clone(), 6, 6));
    hub.member_changed(joined(stranger.clone(), 7, 7));
    assert!(early.pushes().is_empty());
    hub.member_changed(joined(stranger.clone(), 8, 8));
    // Answered when seven were there, too, but it enters only when the bus has told of the eighth.
    let mut late = Member::enter_with(&hub, "late", Roster { users: 7, version: 7 }, 8);
    hub.member_changed(joined(stranger, 9, 9));
    let counts = |member: &mut Member| {
        let pushes = member.pushes();
        pushes.iter().map(|push| push["data"]["userCount"].as_u64().expect("a count")).collect::<Vec<_>>()
    };
    assert_eq!((counts(&mut early), counts(&mut late)), (vec![8, 9], vec![9]));
}

#[tokio::test]
async fn a_channel_is_forgotten_when_nobody_is_interested_any_more() {
    let (hub, mut idle) = Hub::new();
    let (a, b) = (hub.interest(&channel()), hub.interest(&channel()));
    hub.set_watched(&channel());
    drop(a);
    assert!(idle.try_recv().is_err());
    drop(b);
    assert_eq!(idle.try_recv(), Ok(channel()));
    // A join that begins before the subscription lets go keeps the channel.
    let again = hub.interest(&channel());
    assert!(hub.is_watched(&channel()) && !hub.forget_if_idle(&channel()));
    drop(again);
    assert!(hub.forget_if_idle(&channel()) && !hub.forget_if_idle(&channel()));
    assert!(hub.watched().is_empty());
    assert_eq!(apply(&hub, &free(1), None, None), Applied::Nothing);
}

/// A floor whose lease ends in this time.
fn held_for(epoch: u64, connection: &ConnectionId, left: Duration) -> Floor {
    let mut floor = held(epoch, connection);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let until = u64::try_from((now + left).as_millis()).expect("a time");
    floor.holder.as_mut().expect("held").lease_until_ms = until;
    floor
}

#[tokio::test(start_paused = true)]
async fn a_state_that_has_lost_a_talk_frees_the_display_when_the_lease_is_over() {
    let (hub, _idle) = Hub::new();
    let mut a = Member::enter(&hub, "a");
    apply(&hub, &free(1), None, None);
    apply(&hub, &held_for(10, &"speaker".into(), Duration::from_secs(15)), Some(FloorCause::Taken), None);
    a.pushes();
    // A snapshot that was read before the talk began comes late.
    assert_eq!(apply(&hub, &free(5), None, None), Applied::Nothing);
    tokio::time::advance(Duration::from_secs(16)).await;
    assert_eq!(apply(&hub, &free(5), Some(FloorCause::Released), None), Applied::Nothing, "events keep their order");
    assert_eq!(apply(&hub, &held(6, &"other".into()), None, None), Applied::Nothing);
    assert_eq!(apply(&hub, &free(5), None, None), Applied::Corrected);
    let pushes = a.pushes();
    assert_eq!((pushes.len(), &pushes[0]["data"]["isBusy"]), (1, &false.into()));
    assert_eq!((&pushes[0]["data"]["epoch"], &pushes[0]["data"]["reason"]), (&11.into(), &"expired".into()));
    assert_eq!(hub.next_lease(), None);
    assert_eq!(apply(&hub, &free(5), None, None), Applied::Nothing);
    // The next talk, by the time that has passed, is newer than all of it.
    assert_eq!(apply(&hub, &held(16_000, &"other".into()), Some(FloorCause::Taken), None), Applied::Changed);
}

#[tokio::test]
async fn who_joins_again_over_another_socket_is_told_there() {
    let (hub, _idle) = Hub::new();
    let mut before = Member::enter(&hub, "a");
    let mut after = Member::enter(&hub, "a");
    apply(&hub, &free(1), None, None);
    apply(&hub, &held(2, &"speaker".into()), Some(FloorCause::Taken), None);
    assert_eq!((before.pushes().len(), after.pushes().len()), (0, 1));
}
