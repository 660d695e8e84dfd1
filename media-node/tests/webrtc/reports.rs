//! Reports: a listener is told where the stream stands in time, a speaker what arrived of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use voiceping_proto::media::v1::Direction;
use voiceping_testkit::Options;
use voiceping_testkit::path::{Kind, Path, Way};

use crate::node::{CHANNEL, Node};

/// Seconds between the epochs of NTP and Unix (RFC 5905 section 6).
const NTP_OFFSET: u64 = 2_208_988_800;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_told_the_streams_time_and_size() -> Result<()> {
    let node = Node::start(2).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, 1, Options::default()).await?;
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let _speaking = a.microphone.keep_speaking();
    let report = b.ear.report().await?;
    let heard = b.ear.rest();
    let newest = heard.last().expect("a report is about packets");
    assert_eq!(report.ssrc, b.stream.ssrc);
    // Of the time of the report; a few more packets may have come since, or be on their way.
    let behind = newest.timestamp.wrapping_sub(report.rtp_time) as i32;
    assert!(behind.unsigned_abs() < 48_000 / 2, "{behind} ticks from the newest packet");
    let count = heard.len() as u32;
    assert!(report.packet_count.abs_diff(count) < 25, "{} of {count} packets", report.packet_count);
    assert_eq!(report.octet_count, report.packet_count * 80, "frames of 80 bytes");
    let unix = Duration::from_secs((report.ntp_time >> 32) - NTP_OFFSET);
    let apart = SystemTime::now().duration_since(UNIX_EPOCH)?.abs_diff(unix);
    assert!(apart < Duration::from_secs(5), "{apart:?} from this machine's clock");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_told_what_arrived_and_what_did_not() -> Result<()> {
    let node = Node::start(1).await?;
    let alice = node.member("alice");
    let (transport, mut server) = alice.create_transport(Direction::Send).await?;
    // One packet in ten is lost for good: also when it is sent again.
    let passes = |way, datagram: &[u8]| {
        way == Way::Down
            || !matches!(Kind::of(datagram), Kind::Rtp { sequence_number } if sequence_number.is_multiple_of(10))
    };
    let path = Path::open(server.candidates[0], passes).await?;
    server.candidates = vec![path.address()];
    let mut a = alice.speaker_over(transport, server, CHANNEL, 1, Options::default()).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let _speaking = a.microphone.keep_speaking();
    let report = loop {
        let report = a.microphone.report().await?;
        if report.total_lost > 5 {
            break report;
        }
    };
    let first = a.microphone.sequence_number(0);
    let arrived = (report.last_sequence_number as u16).wrapping_sub(first);
    assert!(u32::from(arrived) < a.microphone.spoken(), "{report:?} counts from {first}");
    // A tenth of them, give or take the ends.
    assert!(report.total_lost.abs_diff(u32::from(arrived) / 10) <= 2, "{report:?} of {arrived} packets");
    Ok(())
}
