//! What the suites need from a backend, and the words that they are written in.

use std::future::Future;
use std::time::Duration;

use voiceping_state::{
    ChannelId, ConnectionId, Event, Floor, FloorCause, FloorChanged, FloorRules, JoinError, Leaving, Limits,
    MemberAction, MemberChanged, NodeId, Nodes, Owner, State, Subscription, Taken,
};

pub(crate) const LEASE: Duration = Duration::from_secs(10);
pub(crate) const TALK_LIMIT: Duration = Duration::from_secs(60);

/// A backend with a clock that obeys the test.
pub(crate) trait Harness: Sized + Send + Sync + 'static {
    type State: State + Nodes + Clone + Send + Sync + 'static;
    /// How many random schedules it is fast enough for.
    const SCHEDULES: u32 = 256;

    /// A state that nothing has touched yet.
    fn start(rules: FloorRules, limits: Limits) -> impl Future<Output = Self> + Send;
    /// One gateway's access to the state; each call stands for another gateway.
    fn gateway(&self) -> Self::State;
    fn now_ms(&self) -> u64;
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;
    fn set_back(&self, by: Duration) -> impl Future<Output = ()> + Send;
}

/// A fresh backend without limits.
pub(crate) async fn start<H: Harness>() -> H {
    H::start(rules(None), Limits::default()).await
}

pub(crate) fn rules(talk_limit: Option<Duration>) -> FloorRules {
    FloorRules { lease: LEASE, talk_limit }
}

pub(crate) fn lobby() -> ChannelId {
    "lobby".into()
}

/// A connection named `alice.1` belongs to the user `alice`, who is called `Alice`.
pub(crate) fn owner(connection: &str) -> Owner {
    let (user, _) = connection.split_once('.').expect("user.device");
    let (initial, rest) = user.split_at(1);
    Owner {
        user: user.into(),
        user_name: initial.to_uppercase() + rest,
        connection: connection.into(),
        gateway: "g1".into(),
    }
}

/// Where gates are.
pub(crate) fn node() -> NodeId {
    "n1".into()
}

/// The same connection through another gateway.
pub(crate) fn through(gateway: &str, connection: &str) -> Owner {
    Owner { gateway: gateway.into(), ..owner(connection) }
}

/// The calls as the tests say them: with names for ids, failing the test when the backend cannot answer.
pub(crate) trait Say: State {
    async fn take(&self, connection: &str) -> Taken {
        self.take_floor(&lobby(), &owner(connection), &node(), None).await.expect("available")
    }

    /// Takes a floor that is free or past its lease.
    async fn granted(&self, connection: &str) -> Floor {
        match self.take(connection).await {
            Taken::Granted { floor, renewed: false } => floor,
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn release(&self, connection: &str, epoch: Option<u64>) -> (Floor, bool) {
        self.release_floor(&lobby(), &owner(connection), epoch, FloorCause::Released).await.expect("available")
    }

    async fn renew(&self, connection: &str, epoch: u64) -> bool {
        self.renew_floor(&lobby(), &owner(connection), epoch, &node()).await.expect("available")
    }

    async fn expire(&self) -> Floor {
        self.expire_floor(&lobby()).await.expect("available")
    }

    async fn look(&self) -> Floor {
        self.floor(&lobby()).await.expect("available")
    }

    async fn enter(&self, connection: &str) -> Result<usize, JoinError> {
        self.join(&lobby(), &owner(connection)).await.map(|roster| roster.users)
    }

    async fn exit(&self, connection: &str, leaving: Leaving) -> usize {
        self.leave(&lobby(), &owner(connection), leaving).await.expect("available")
    }

    async fn names(&self) -> Vec<String> {
        let members = self.members(&lobby()).await.expect("available");
        members.into_iter().map(|(_, name)| name).collect()
    }

    /// A subscription that watches the lobby.
    async fn listen(&self) -> Subscription {
        let mut subscription = self.subscribe();
        subscription.watch(&lobby()).await.expect("available");
        subscription
    }

    /// The events of the lobby until now: all that comes before a stranger's visit, which is not among them.
    async fn heard(&self, subscription: &mut Subscription) -> Vec<Event> {
        self.heard_on(&lobby(), subscription).await
    }

    async fn heard_on(&self, channel: &ChannelId, subscription: &mut Subscription) -> Vec<Event> {
        let visitor = owner("visitor.1");
        self.join(channel, &visitor).await.expect("room for one more");
        self.leave(channel, &visitor, Leaving::Left).await.expect("available");
        let mut events = Vec::new();
        loop {
            match next(subscription).await {
                Event::Member(change) if change.member == visitor && change.channel == *channel => {
                    if change.action == MemberAction::Left {
                        return events;
                    }
                }
                event => events.push(event),
            }
        }
    }
}

impl<S: State> Say for S {}

/// The next event. The time is only there to end a test that has failed.
pub(crate) async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(Duration::from_secs(60), subscription.next())
        .await
        .expect("an event in time")
        .expect("the backend lives")
}

/// A floor event as the tests compare it: cause, epoch, who held it and who holds it.
pub(crate) fn change(event: &Event) -> (FloorCause, u64, Option<&str>, Option<&str>) {
    let Event::Floor(FloorChanged { floor, cause, previous, .. }) = event else {
        panic!("not a change of the floor: {event:?}");
    };
    fn connection(owner: &Owner) -> &str {
        owner.connection.as_str()
    }
    let holder = floor.holder.as_ref().map(|holder| connection(&holder.owner));
    (*cause, floor.epoch, previous.as_ref().map(connection), holder)
}

/// A member event as the tests compare it: what, which connection, how many users.
pub(crate) fn visit(event: &Event) -> (MemberAction, &str, usize) {
    let Event::Member(MemberChanged { member, action, roster, .. }) = event else {
        panic!("not a change of the members: {event:?}");
    };
    (*action, member.connection.as_str(), roster.users)
}

pub(crate) fn holder_of(floor: &Floor) -> Option<&ConnectionId> {
    floor.holder.as_ref().map(|holder| &holder.owner.connection)
}
