//! What is used once.

use std::time::Duration;

use voiceping_state::State;

use crate::support::*;

pub(crate) async fn of_many_who_claim_a_key_one_has_it<H: Harness>() {
    let harness: H = start().await;
    for key in ["ticket", "", "}{", "lobby"] {
        let claims: Vec<_> = (0..20)
            .map(|_| {
                let gateway = harness.gateway();
                tokio::spawn(async move { gateway.claim(key, Duration::from_secs(3600)).await })
            })
            .collect();
        let mut claimed = 0;
        for claim in claims {
            claimed += u32::from(claim.await.expect("no panic").expect("available"));
        }
        assert_eq!(claimed, 1, "{key:?}");
    }
}

pub(crate) async fn a_claim_ends_by_itself<H: Harness>() {
    let harness: H = start().await;
    let state = harness.gateway();
    assert_eq!(state.claim("long", Duration::MAX).await, Ok(true));
    for (key, time) in [("none", Duration::ZERO), ("short", Duration::from_millis(50))] {
        assert_eq!(state.claim(key, time).await, Ok(true));
        // By the harness's clock or the server's own, whichever the backend has.
        tokio::time::timeout(Duration::from_secs(60), async {
            while state.claim(key, Duration::from_secs(3600)).await != Ok(true) {
                harness.advance(Duration::from_millis(10)).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("it ends");
    }
    assert_eq!(state.claim("long", Duration::MAX).await, Ok(false), "that one does not");
}
