use super::*;
use crate::nodes::Lost;
use crate::nodes::tests::unreachable;

const LIMIT: Duration = Duration::from_secs(4);
const RULES: FloorRules = FloorRules { lease: Duration::from_secs(15), talk_limit: None };

struct Table {
    floors: Floors,
    channel: ChannelId,
    owner: Owner,
    node: Arc<NodeHandle>,
}

fn table() -> Table {
    table_with(RULES)
}

fn table_with(rules: FloorRules) -> Table {
    let owner = Owner { user: "u1".into(), user_name: "U".into(), connection: "x1".into(), gateway: "g1".into() };
    Table { floors: Floors::new(rules, LIMIT), channel: "c1".into(), owner, node: unreachable("n1") }
}

impl Table {
    /// Granted now; answers until when the gate is to be open.
    fn grant(&self, epoch: u64) -> Option<Instant> {
        let now = Instant::now();
        self.floors.granted(&self.channel, &self.owner, epoch, (now, now), &self.node).map(|opening| opening.until)
    }

    fn renew(&self, epoch: u64) -> Option<Opening> {
        self.floors.renewed(&self.channel, &self.owner, epoch, Instant::now())
    }

    fn held(&self) -> Held {
        self.floors.lock().get(&key(&self.channel, &self.owner)).cloned().expect("held")
    }

    fn due(&self) -> Vec<Due> {
        self.floors.take_due(Instant::now(), Duration::from_secs(1)).into_iter().map(|(_, _, due)| due).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_judged_after_the_silence_limit_unless_media_starts() {
    let table = table();
    let granted_at = Instant::now();
    table.grant(1);
    assert_eq!(table.floors.next_due(), Some(granted_at + LIMIT));
    tokio::time::advance(LIMIT / 2).await;
    // Asked again, as an impatient client does: the time still counts from the grant.
    table.grant(1);
    assert_eq!(table.floors.next_due(), Some(granted_at + LIMIT));
    table.floors.media_started(&table.node, &table.channel, 2);
    table.floors.media_started(&unreachable("n1"), &table.channel, 1);
    assert_eq!(table.floors.next_due(), Some(granted_at + LIMIT), "another epoch's or node's media is not this talk's");
    table.floors.media_started(&table.node, &table.channel, 1);
    assert_eq!(table.floors.next_due(), None);
    tokio::time::advance(LIMIT * 2).await;
    table.floors.media_unknown(&table.node);
    assert_eq!(table.due(), [Due::Judge], "after missed events it is judged again");
}

#[tokio::test(start_paused = true)]
async fn a_gate_ends_with_the_lease_that_was_asked_for_and_with_the_talk() {
    let limit = Duration::from_secs(20);
    let table = table_with(FloorRules { talk_limit: Some(limit), ..RULES });
    let began = Instant::now();
    assert_eq!(table.grant(1), Some(began + RULES.lease));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(table.renew(1).expect("kept open").until, began + Duration::from_secs(18));
    assert!(table.renew(2).is_none(), "another talk's renewal");
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(table.renew(1).expect("kept open").until, began + limit);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert!(table.renew(1).is_none(), "a gate is not opened for a time that has passed");
}

#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_until_it_is_done_and_the_lease_is_left_to_end() {
    let table = table();
    table.grant(1);
    assert_eq!(table.floors.renewable(), vec![(table.channel.clone(), table.owner.clone(), 1)]);
    table.floors.media_stopped(&table.node, &table.channel, 1);
    assert!(table.floors.renewable().is_empty() && table.renew(1).is_none(), "also by an answer that comes late");
    assert_eq!(table.due(), [Due::Release]);
    assert!(table.due().is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(table.due(), [Due::Release]);
    table.floors.remove(&table.channel, &table.owner, Some(1));
    assert_eq!(table.floors.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_press_without_an_answer_is_released_whatever_it_was() {
    let table = table();
    table.floors.release_later(&table.channel, &table.owner, FloorCause::Released);
    assert_eq!((table.due(), table.held().epoch), (vec![Due::Release], None));
    table.grant(5);
    table.floors.remove(&table.channel, &table.owner, None);
    assert!(table.floors.holds(&table.channel, &table.owner.connection, 5), "a new press is not");
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_moved_on_is_held_no_longer() {
    let table = table();
    table.grant(5);
    for (channel, epoch) in [("c1", 4), ("c1", 5), ("other", 9)] {
        assert!(table.floors.moved_on(&channel.into(), epoch).is_empty());
    }
    let lost = table.floors.moved_on(&table.channel, 6);
    assert!(lost[0].gate.is_some(), "its gate is to be closed");
    assert!(!table.floors.is_talking(&table.owner.connection));
}

#[tokio::test(start_paused = true)]
async fn a_talk_moves_when_its_former_gate_is_sure_to_be_closed() {
    let (table, next) = (table(), unreachable("n2"));
    let until = table.grant(1).expect("opened");
    let (epoch, former) = table.floors.moved(&table.channel, &table.owner, &next).expect("moves");
    assert_eq!((epoch, table.floors.next_due()), (1, Some(Instant::now() + LIMIT)));
    assert!(table.renew(1).is_none(), "two gates would be open");
    tokio::time::advance(LIMIT).await;
    assert!(table.due().is_empty(), "who is on the way is not judged");
    table.floors.gate_closed(&table.channel, &table.owner, &former.expect("a gate"));
    let opened = table.renew(1).expect("opened");
    assert!(opened.node.is(&next) && opened.until > until);
    assert_eq!(table.floors.next_due(), Some(Instant::now() + LIMIT), "it has its time to begin there");
    assert!(table.floors.moved(&table.channel, &table.owner, &next).is_none(), "it is there");
    // What the former node says does not count any more.
    table.floors.media_stopped(&table.node, &table.channel, 1);
    assert!(!table.floors.is_ending(&table.channel, &table.owner));
}

#[tokio::test(start_paused = true)]
async fn the_gate_of_a_silent_node_is_waited_for_and_that_of_an_ended_one_is_not() {
    for (lost, waits) in [(Lost::Silent, true), (Lost::Gone, false)] {
        let (table, next) = (table(), unreachable("n2"));
        let until = table.grant(1).expect("opened");
        table.node.lose(lost);
        table.floors.node_lost(&table.node);
        assert!(table.renew(1).is_none(), "nobody is there to be told");
        table.floors.moved(&table.channel, &table.owner, &next).expect("moves");
        assert_eq!(table.renew(1).is_none(), waits, "{lost:?}");
        tokio::time::advance(until - Instant::now()).await;
        if waits {
            assert_eq!(table.due(), [Due::Open]);
        }
        assert!(table.renew(1).expect("opened").node.is(&next));
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_node_is_lost_has_as_long_as_a_silent_one_to_come_back() {
    let (table, next) = (table(), unreachable("n2"));
    table.grant(1);
    table.floors.media_started(&table.node, &table.channel, 1);
    table.node.lose(Lost::Gone);
    table.floors.node_lost(&table.node);
    assert_eq!(table.floors.next_due(), Some(Instant::now() + LIMIT));
    // It goes to another node, which is lost too.
    table.floors.moved(&table.channel, &table.owner, &next).expect("moves");
    next.lose(Lost::Gone);
    table.floors.node_lost(&next);
    tokio::time::advance(LIMIT).await;
    assert_eq!(table.due(), [Due::Judge]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_was_ended_elsewhere_ends_the_talk_and_one_that_came_late_does_not() {
    let table = table();
    table.grant(1);
    let answer = |refused| table.floors.answered(&table.channel, &table.owner, 1, refused);
    answer(true);
    answer(false);
    answer(true);
    assert!(!table.floors.is_ending(&table.channel, &table.owner));
    answer(true);
    assert!(matches!(table.held().task, Task::Release(FloorCause::Silent, _)));
}
