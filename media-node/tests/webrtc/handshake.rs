//! ICE and DTLS: both roles, every protection of media, and certificates that are not the announced ones.

use anyhow::Result;
use tonic::Code;
use voiceping_proto::media::v1::Direction;
use voiceping_proto::media::v1::node_event::Event;
use voiceping_proto::media::v1::node_event::transport_closed::Reason;
use voiceping_testkit::sender::SendTransport;
use voiceping_testkit::voice::assert_one_stream;
use voiceping_testkit::{DtlsRole, Options, SrtpProfile};

use crate::node::{CHANNEL, Node, assert_refused};

/// A talk from a client with these options to another one with the same.
async fn talk_between(options: Options) -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let a = alice.speaker(CHANNEL, 1, options.clone()).await?;
    let mut b = bob.listener(CHANNEL, options).await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    a.microphone.say(5).await?;
    let heard = b.ear.hear(5).await?;
    assert_one_stream(&heard, &[5]);
    assert_eq!(heard[0].number, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_the_handshake_with_each_protection() -> Result<()> {
    for profile in [SrtpProfile::Aes128CmSha1_80, SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm] {
        talk_between(Options { profile: Some(profile), ..Options::default() }).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_the_handshake_with_each_protection() -> Result<()> {
    for profile in [SrtpProfile::Aes128CmSha1_80, SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm] {
        talk_between(Options { role: DtlsRole::Server, profile: Some(profile), ..Options::default() }).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_handshake_is_faster_than_its_signaling() -> Result<()> {
    let mut node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let mut b = bob.listener(CHANNEL, Options::default()).await?;
    node.until(|event| matches!(event, Event::TransportConnected(_))).await?;

    // The client connects and speaks before the node knows its certificate or its producer.
    let (transport_id, server) = alice.create_transport(Direction::Send).await?;
    let mut transport = SendTransport::new(server, Options::default()).await?;
    let microphone = transport.add_microphone(1).await?;
    transport.connected().await?;
    node.set_floor(CHANNEL, 1, Some(&alice)).await?;
    let speaking = microphone.keep_speaking();
    alice.connect(&transport_id, transport.role(), transport.fingerprint()).await?;
    let connected = node.event().await?;
    assert!(matches!(&connected, Event::TransportConnected(of) if of.transport_id == transport_id), "{connected:?}");
    assert_eq!(b.ear.rest(), []);
    alice.produce(&transport_id, CHANNEL, &microphone).await?;
    assert_one_stream(&b.ear.hear(5).await?, &[5]);
    drop(speaking);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_not_announced_ends_the_transport() -> Result<()> {
    for (role, faster) in [(DtlsRole::Client, false), (DtlsRole::Client, true), (DtlsRole::Server, false)] {
        let mut node = Node::start(1).await?;
        let alice = node.member("alice");
        let (transport_id, server) = alice.create_transport(Direction::Send).await?;
        let options = Options { role, ..Options::default() };
        let mut transport = SendTransport::new(server.clone(), options.clone()).await?;
        let other = SendTransport::new(server, options).await?;
        if faster {
            transport.add_microphone(1).await?;
            transport.connected().await?;
        }
        alice.connect(&transport_id, role, other.fingerprint()).await?;
        if !faster {
            transport.add_microphone(1).await?;
        }
        let event = node.event().await?;
        let Event::TransportClosed(closed) = &event else { panic!("{role:?}: {event:?}") };
        assert_eq!((closed.transport_id.as_str(), closed.reason()), (&*transport_id, Reason::FingerprintMismatch));
        assert_eq!(node.usage().await?, (0, 0, 0));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_can_be_delivered_again_but_not_changed() -> Result<()> {
    let node = Node::start(1).await?;
    let (alice, bob) = (node.member("alice"), node.member("bob"));
    let (transport_id, server) = alice.create_transport(Direction::Send).await?;
    let one = SendTransport::new(server.clone(), Options::default()).await?;
    let other = SendTransport::new(server, Options::default()).await?;
    assert_refused(bob.connect(&transport_id, one.role(), one.fingerprint()).await, Code::NotFound);
    assert_refused(alice.connect(&transport_id, one.role(), "not hex").await, Code::InvalidArgument);
    alice.connect(&transport_id, one.role(), one.fingerprint()).await?;
    alice.connect(&transport_id, one.role(), one.fingerprint()).await?;
    let changed = alice.connect(&transport_id, other.role(), other.fingerprint()).await;
    assert_refused(changed, Code::FailedPrecondition);
    Ok(())
}
