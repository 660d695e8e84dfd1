//! Partitions: hosts that do not hear each other any more, and say nothing about it. Each process is on a host of its own.

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Options};
use crate::network::Network;
use crate::phone::{hears_of, press, release};
use crate::user::{User, until_speaks};

/// Two gateways on hosts 0 and 1, two media nodes on hosts 2 and 3.
async fn cluster() -> Result<Option<Cluster>> {
    let Some(network) = Network::new(4)? else { return Ok(None) };
    let options = Options { gateway: &["--floor-lease", "4s"], network: Some(network), ..Options::default() };
    Cluster::with(2, 2, options).await.map(Some)
}

/// The speaker's gateway does not reach the speaker's media node any more: the gate there ends by itself before its lease
/// goes to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn between_a_gateway_and_a_media_node() -> Result<()> {
    let Some(cluster) = cluster().await? else { return Ok(()) };
    let network = cluster.network.as_ref().context("there is one")?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let bobs_voice = bob.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    hears_of(&mut bob.socket, &channel, &alice.name).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    network.cut(0, 2)?;
    // Her node is lost to her gateway: it sends her away, and her floor ends.
    let close = alice.socket.closed().await?.context("a close with a code")?;
    assert_eq!(close.0, 1012, "{close:?}");
    until_speaks(&mut bob.socket, None).await.context("no floor is stuck")?;
    press(&mut bob.socket, &channel).await?;
    let bob_speaking = bobs_voice.microphone.keep_speaking();
    // She comes again, and is placed on the other node.
    let mut again = User::listening(&cluster, 0, 1, &channel).await?;
    again.hear_of(2).await?;
    drop(bob_speaking);
    release(&mut bob.socket, &channel).await?;
    network.heal(0, 2)?;
    press(&mut again.socket, &channel).await?;
    drop(speaking);
    ensure!(cluster.assert_one_speaker()? >= 3);
    Ok(())
}

/// Two media nodes do not reach each other: each has its own listeners' view of the channel, and they meet again.
#[tokio::test(flavor = "multi_thread")]
async fn between_media_nodes() -> Result<()> {
    let Some(cluster) = cluster().await? else { return Ok(()) };
    let network = cluster.network.as_ref().context("there is one")?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut near = User::listening(&cluster, 0, 3, &channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let bobs_voice = bob.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    let speaking = voice.microphone.keep_speaking();
    bob.hear_of(1).await?;
    network.cut(2, 3)?;
    // Who is on her node hears her as before.
    near.hear(100).await?;
    network.heal(2, 3)?;
    // And the other node again, without anybody doing anything: the rest of the talk.
    bob.ear.rest();
    let heard = bob.hear_of(1).await?;
    ensure!(heard.number >= 100, "the rest, not what was missed: {heard:?}");
    drop(speaking);
    release(&mut alice.socket, &channel).await?;
    // The other way while they are apart: the floor is one, wherever its holder is.
    network.cut(2, 3)?;
    press(&mut bob.socket, &channel).await?;
    let speaking = bobs_voice.microphone.keep_speaking();
    let denied = alice.socket.request("ptt-start", serde_json::json!({"channelId": channel})).await?;
    assert_eq!(denied["type"], "ptt-denied", "{denied}");
    network.heal(2, 3)?;
    near.hear_of(2).await?;
    drop(speaking);
    ensure!(cluster.assert_one_speaker()? >= 2);
    Ok(())
}

/// A media node is cut off from everything but its clients: what is said there goes no further than its gate's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_and_everybody_else() -> Result<()> {
    let Some(cluster) = cluster().await? else { return Ok(()) };
    let network = cluster.network.as_ref().context("there is one")?;
    let channel = cluster.channel();
    let mut alice = User::listening(&cluster, 0, 1, &channel).await?;
    let voice = alice.microphone(&channel).await?;
    let mut near = User::listening(&cluster, 0, 3, &channel).await?;
    let mut bob = User::listening(&cluster, 1, 2, &channel).await?;
    let bobs_voice = bob.microphone(&channel).await?;
    press(&mut alice.socket, &channel).await?;
    hears_of(&mut bob.socket, &channel, &alice.name).await?;
    let speaking = voice.microphone.keep_speaking();
    near.hear_of(1).await?;
    for other in [0, 1, 3] {
        network.cut(2, other)?;
    }
    until_speaks(&mut bob.socket, None).await.context("no floor is stuck")?;
    near.ear.rest();
    press(&mut bob.socket, &channel).await?;
    bobs_voice.microphone.say(50).await?;
    assert!(near.ear.rest().is_empty(), "her voice has ended where she is, too");
    for other in [0, 1, 3] {
        network.heal(2, other)?;
    }
    drop(speaking);
    ensure!(cluster.assert_one_speaker()? >= 2);
    Ok(())
}
