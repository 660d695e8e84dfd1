//! A member with a device: what our own client is, without the page. It consumes the floor output at the join.

use anyhow::{Context, Result};
use serde_json::Value;
use voiceping_testkit::DtlsRole;
use voiceping_testkit::receiver::{Ear, RecvTransport};
use voiceping_testkit::sender::{Microphone, SendTransport};
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::voice::Heard;

use crate::cluster::Cluster;
use crate::phone::{Transport, join, load_device, open_to_receive, open_to_send};

/// See the module.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) voice: u32,
    pub(crate) socket: Signaling,
    capabilities: Value,
    recv: Transport<RecvTransport>,
    pub(crate) ear: Ear,
}

/// What speaks: a transport and a microphone.
pub(crate) struct Voice {
    send: Transport<SendTransport>,
    pub(crate) microphone: Microphone,
}

impl Voice {
    /// Says goodbye to the media node.
    pub(crate) async fn close(self) -> Result<()> {
        self.send.media.close().await
    }
}

impl User {
    /// Joins through this gateway and listens.
    pub(crate) async fn listening(cluster: &Cluster, gateway: usize, voice: u32, channel: &str) -> Result<Self> {
        let name = user_name(voice);
        let mut socket = cluster.socket(gateway, &name, channel).await?;
        join(&mut socket, channel).await?;
        let capabilities = load_device(&mut socket, channel).await?;
        let mut recv = open_to_receive(&mut socket, channel).await?;
        let ear = recv.consume(&mut socket, channel, &format!("floor:{channel}"), &capabilities).await?;
        Ok(Self { name, voice, socket, capabilities, recv, ear })
    }

    /// Opens a microphone on the channel.
    pub(crate) async fn microphone(&mut self, channel: &str) -> Result<Voice> {
        let mut send = open_to_send(&mut self.socket, channel, DtlsRole::Client).await?;
        let (_, microphone) = send.produce(&mut self.socket, channel, self.voice).await?;
        Ok(Voice { send, microphone })
    }

    /// Consumes the channel's floor output again, over a new transport in the place of the old one.
    pub(crate) async fn listen_again(&mut self, channel: &str) -> Result<()> {
        let mut recv = open_to_receive(&mut self.socket, channel).await?;
        self.ear = recv.consume(&mut self.socket, channel, &format!("floor:{channel}"), &self.capabilities).await?;
        // Its node may be gone, and hears no goodbye then.
        let _ = std::mem::replace(&mut self.recv, recv).media.close().await;
        Ok(())
    }

    /// The next packets.
    pub(crate) async fn hear(&mut self, count: usize) -> Result<Vec<Heard>> {
        self.ear.hear(count).await
    }

    /// Drops what was heard until a packet of this voice comes, and answers it.
    pub(crate) async fn hear_of(&mut self, voice: u32) -> Result<Heard> {
        loop {
            let heard = self.ear.next().await?;
            if heard.speaker == voice {
                return Ok(heard);
            }
        }
    }
}

/// Reads pushes until one says that this user speaks or, without one, that nobody does: what else is told by the way is
/// not the test's business.
pub(crate) async fn until_speaks(socket: &mut Signaling, user: Option<&str>) -> Result<Value> {
    loop {
        let push = socket.push().await.with_context(|| format!("waiting until {user:?} speaks"))?;
        if push["type"] == "speaker-changed" && push["data"]["currentSpeaker"].as_str() == user {
            return Ok(push);
        }
    }
}

/// The user with this voice.
pub(crate) fn user_name(voice: u32) -> String {
    format!("user{voice}")
}
