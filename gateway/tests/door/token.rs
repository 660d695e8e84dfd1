//! Tokens that end while a socket is open.

use std::time::Duration;

use serde_json::json;

use crate::house::House;

const SOON: Duration = Duration::from_secs(50);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_client_of_ours_is_told_before_its_token_ends_and_goes_on_with_another() {
    let house = House::open("");
    let mut client = house.knock(&house.token("alice", &["c1", "c2"], SOON), &[]).await.expect("let in");
    client.request("session", json!({})).await;
    for channel in ["c1", "c2"] {
        let joined = client.request("join-channel", json!({"channelId": channel})).await;
        assert_eq!(joined["type"], "join-channel", "{joined}");
    }
    let expiring = client.push("token-expiring").await;
    let left = expiring["data"]["expiresIn"].as_u64().expect("a time");
    assert!((1..=50_000).contains(&left), "{expiring}");
    // Of another user, over, or none: the socket stays as it is.
    let foreign = house.token("bob", &["c1"], HOUR);
    for bad in [foreign.as_str(), "x.y.z"] {
        let refused = client.request("refresh-token", json!({"token": bad})).await;
        assert_eq!((&refused["type"], &refused["code"]), (&"error".into(), &"token-invalid".into()), "{refused}");
    }
    let missing = client.request("refresh-token", json!({})).await;
    assert_eq!(missing["code"], "field-required");
    // A newer one that allows less.
    let refreshed = client.request("refresh-token", json!({"token": house.token("alice", &["c1"], HOUR)})).await;
    let data = &refreshed["data"];
    assert!(data["expiresIn"].as_u64().is_some_and(|left| left > 3_000_000), "{refreshed}");
    assert_eq!((&data["channels"], &data["role"]), (&json!(["c1"]), &json!("GENERAL")));
    let left = client.request("members", json!({"channelId": "c2"})).await;
    assert_eq!(left["code"], "not-a-member", "{left}");
    let stays = client.request("members", json!({"channelId": "c1"})).await;
    assert_eq!(stays["data"]["members"][0]["userId"], "alice", "{stays}");
    house.close().await;
}

#[tokio::test]
async fn a_socket_whose_token_ends_is_closed_and_one_that_was_refreshed_is_not() {
    let house = House::open("");
    let short = Duration::from_secs(3);
    let mut refreshed = house.knock(&house.token("alice", &["c1"], short), &[]).await.expect("let in");
    let mut left_alone = house.knock(&house.token("bob", &["c1"], short), &[]).await.expect("let in");
    let newer = house.token("alice", &["c1"], HOUR);
    assert_eq!(refreshed.request("refresh-token", json!({"token": newer})).await["type"], "refresh-token");
    assert_eq!(left_alone.closed().await, 4001);
    assert_eq!(refreshed.request("ping", json!({})).await["type"], "pong");
    // A newer token that ends sooner counts too.
    let sooner = house.token("alice", &["c1"], short);
    assert_eq!(refreshed.request("refresh-token", json!({"token": sooner})).await["type"], "refresh-token");
    assert_eq!(refreshed.closed().await, 4001);
    house.close().await;
}
