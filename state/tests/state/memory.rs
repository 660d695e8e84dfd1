//! The in-memory backend under the contract suite.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use voiceping_state::{FloorRules, Limits, Memory};

use crate::support::Harness;

/// A fresh memory and the clock that it reads.
pub(crate) struct InMemory {
    state: Memory,
    now_ms: Arc<AtomicU64>,
}

impl Harness for InMemory {
    type State = Memory;

    async fn start(rules: FloorRules, limits: Limits) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
        let clock = Arc::clone(&now_ms);
        Self { state: Memory::with_clock(rules, limits, move || clock.load(Ordering::SeqCst)), now_ms }
    }

    fn gateway(&self) -> Memory {
        self.state.clone()
    }

    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    async fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(millis(by), Ordering::SeqCst);
    }

    async fn set_back(&self, by: Duration) {
        self.now_ms.fetch_sub(millis(by), Ordering::SeqCst);
    }
}

fn millis(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).expect("a test's time")
}

contract_suite!(InMemory);
