//! Who is there, asked for where there are many.

use crate::counting;
use crate::members::Quiet;

/// Above the number of users whose names are told.
const MEMBERS: usize = 110;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_a_crowd_are_not_told_and_those_of_who_remain_are() {
    let _alone = counting::alone().await;
    let gateway = Quiet::start();
    let mut members = gateway.members("c1", MEMBERS).await;
    let mut asks = gateway.members("c1", 1).await.remove(0); // u0 with another device
    tokio::task::block_in_place(|| {
        asks.say(r#"{"type":"members","id":"3","data":{"channelId":"c1"}}"#);
        let answer = asks.hear("\"userCount\":110}");
        assert!(answer.contains(r#""complete":false,"members":[]"#), "{answer}");
        for mut left in members.drain(10..) {
            left.say(r#"{"type":"leave-channel","id":"4","data":{"channelId":"c1"}}"#);
            left.read_until(b"leave-channel");
        }
        asks.read_until(b"\"userCount\":10,");
        asks.say(r#"{"type":"members","id":"5","data":{"channelId":"c1"}}"#);
        let answer = asks.hear("\"userCount\":10}");
        assert!(answer.contains(r#""complete":true"#) && answer.matches("\"userId\"").count() >= 10, "{answer}");
    });
    gateway.end().await;
}
