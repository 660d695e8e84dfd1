use super::*;

const LIMIT: Duration = Duration::from_secs(4);

fn floors() -> (Floors, ChannelId, Owner) {
    let owner = Owner { user: "u1".into(), user_name: "U".into(), connection: "x1".into(), gateway: "g1".into() };
    (Floors::new(LIMIT), "c1".into(), owner)
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_judged_after_the_silence_limit_unless_media_starts() {
    let (floors, channel, owner) = floors();
    let granted_at = Instant::now();
    floors.granted(&channel, &owner, 1);
    assert_eq!(floors.next_task(), Some(granted_at + LIMIT));
    tokio::time::advance(LIMIT / 2).await;
    // Asked again, as an impatient client does: the time still counts from the grant.
    floors.granted(&channel, &owner, 1);
    assert_eq!(floors.next_task(), Some(granted_at + LIMIT));
    floors.media_started(&channel, 2);
    assert_eq!(floors.next_task(), Some(granted_at + LIMIT), "another epoch's media is not this talk's");
    floors.media_started(&channel, 1);
    assert_eq!(floors.next_task(), None);
}

#[tokio::test(start_paused = true)]
async fn after_missed_events_every_talk_is_judged_again() {
    let (floors, channel, owner) = floors();
    floors.granted(&channel, &owner, 1);
    floors.media_started(&channel, 1);
    tokio::time::advance(LIMIT * 2).await;
    floors.media_unknown();
    assert_eq!(floors.next_task(), Some(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_until_it_is_done_and_the_lease_is_left_to_end() {
    let (floors, channel, owner) = floors();
    floors.granted(&channel, &owner, 1);
    assert_eq!(floors.renewable(), vec![(channel.clone(), owner.clone(), 1)]);
    floors.media_stopped(&channel, 1);
    assert!(floors.renewable().is_empty());
    let again = Duration::from_secs(1);
    let due = floors.take_due(Instant::now(), again);
    assert!(matches!(due[..], [Due { held: Held { task: Task::Release(FloorCause::Silent, _), .. }, .. }]));
    assert!(floors.take_due(Instant::now(), again).is_empty());
    tokio::time::advance(again).await;
    assert_eq!(floors.take_due(Instant::now(), again).len(), 1);
    floors.remove(&channel, &owner.connection, Some(1));
    assert_eq!(floors.next_task(), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_press_replaces_a_release_that_was_never_answered() {
    let (floors, channel, owner) = floors();
    floors.release_later(&channel, &owner, FloorCause::Released);
    let due = floors.take_due(Instant::now(), LIMIT);
    assert_eq!(due[0].held.epoch, None);
    floors.granted(&channel, &owner, 5);
    floors.remove(&channel, &owner.connection, None);
    assert!(floors.holds(&channel, &owner.connection, 5));
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_moved_on_is_held_no_longer() {
    let (floors, channel, owner) = floors();
    floors.granted(&channel, &owner, 5);
    floors.moved_on(&channel, 4);
    floors.moved_on(&channel, 5);
    floors.moved_on(&"other".into(), 9);
    assert!(floors.holds(&channel, &owner.connection, 5));
    floors.moved_on(&channel, 6);
    assert!(!floors.holds(&channel, &owner.connection, 5));
}
