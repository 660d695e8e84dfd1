//! What processes say of themselves: the trace of a press across a real cluster, the metrics, and that nobody notices when
//! the collector is away.

mod away;
mod cluster;
mod collector;
mod page;
#[allow(dead_code)] // of the tests of the all-in-one, which use all of it
#[path = "../stack/phone.rs"]
mod phone;
mod press;
#[allow(dead_code)] // the same
#[path = "../stack/process.rs"]
mod process;
mod scrape;
#[allow(dead_code, unreachable_pub)] // of the state's tests
#[path = "../../state/tests/state/redis/servers.rs"]
mod servers;
mod stalled;
#[allow(dead_code)] // of the tests of clusters
#[path = "../cluster/user.rs"]
mod user;
