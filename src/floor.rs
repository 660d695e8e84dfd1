//! The rules of the floor as a user sets them: the same in every process that asks the state for floors.

use std::time::Duration;

use voiceping_state::{FloorRules, memory};

/// Rules of the floor.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Floor")]
#[group(skip)]
pub struct FloorArgs {
    /// Time that a floor outlives the last sign of its holder's gateway. The same for all gateways of a cluster. A talk
    /// goes on while the state is away for two thirds of it
    #[arg(long, env = "VOICEPING_FLOOR_LEASE", value_name = "TIME", default_value = "15s", value_parser = lease)]
    pub floor_lease: Duration,

    /// Longest talk; without it a talk may be as long as it likes
    #[arg(long, env = "VOICEPING_TALK_LIMIT", value_name = "TIME", value_parser = lease)]
    pub talk_limit: Option<Duration>,

    /// Users on one channel; without it as many as there are
    #[arg(long, env = "VOICEPING_MAX_USERS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_users: Option<u32>,
}

impl FloorArgs {
    pub(crate) fn rules(&self) -> FloorRules {
        FloorRules { lease: self.floor_lease, talk_limit: self.talk_limit }
    }

    pub(crate) fn limits(&self) -> memory::Limits {
        memory::Limits { users_per_channel: self.max_users.map(|users| users as usize) }
    }
}

/// A second is the least that renewals and a busy machine get along with.
fn lease(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time < Duration::from_secs(1) => Err("it must be at least 1s".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 10s or 2m")),
    }
}
