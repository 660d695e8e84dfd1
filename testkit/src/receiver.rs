//! The client's side of a transport on which it receives: what mediasoup-client's `RecvTransport` is in a browser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::rtp::Packet;
use tokio::sync::mpsc;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::RTCSessionDescription;

use crate::peer::{DtlsRole, Options, Peer};
use crate::sdp::{self, Server, Stream};
use crate::voice::Heard;

/// Who waits for the packets of which SSRC.
type Ears = Arc<Mutex<HashMap<u32, Waiting>>>;

/// Where the packets of a stream and the reports about it go.
#[derive(Debug)]
struct Waiting {
    packets: mpsc::UnboundedSender<Packet>,
    reports: mpsc::UnboundedSender<SenderReport>,
}

/// See the module.
#[derive(Debug)]
pub struct RecvTransport {
    peer: Peer,
    server: Server,
    options: Options,
    /// Each with whether it is still open.
    streams: Vec<(Stream, bool)>,
    ears: Ears,
    tracks: Arc<Mutex<HashMap<u32, Arc<Listening>>>>,
}

struct Listening(Arc<dyn TrackRemote>);

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}

impl RecvTransport {
    /// A transport from this server. Nothing is sent before the first [`Self::receive`].
    pub async fn new(server: Server, options: Options) -> Result<Self> {
        let ears = Ears::default();
        let tracks: Arc<Mutex<HashMap<u32, Arc<Listening>>>> = Arc::default();
        let (to, seen) = (Arc::clone(&ears), Arc::clone(&tracks));
        let on_track = Box::new(move |track: Arc<dyn TrackRemote>| {
            tokio::spawn(listen(track, Arc::clone(&to), Arc::clone(&seen)));
        });
        let peer = Peer::new(&options, &server, on_track).await?;
        Ok(Self { peer, server, options, streams: Vec::new(), ears, tracks })
    }

    /// The SHA-256 fingerprint of the client's certificate.
    pub fn fingerprint(&self) -> &str {
        &self.peer.fingerprint
    }

    /// The client's role in the handshake.
    pub fn role(&self) -> DtlsRole {
        self.options.role
    }

    /// Negotiates one more stream to hear.
    pub async fn receive(&mut self, stream: Stream) -> Result<Ear> {
        let (packet_sender, packets) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let ssrc = stream.ssrc;
        let waiting = Waiting { packets: packet_sender, reports: report_sender };
        self.ears.lock().unwrap_or_else(PoisonError::into_inner).insert(ssrc, waiting);
        self.streams.push((stream, true));
        self.negotiate().await?;
        Ok(Ear { ssrc, packets, reports })
    }

    /// Stops to hear a stream, as a client does that consumes again.
    pub async fn stop(&mut self, ear: Ear) -> Result<()> {
        let stream = self.streams.iter_mut().find(|(stream, _)| stream.ssrc == ear.ssrc).context("a stream of ours")?;
        stream.1 = false;
        self.negotiate().await
    }

    /// Asks the server for packets again (RFC 4585 section 6.2.1).
    pub async fn ask_again(&self, ear: &Ear, sequence_numbers: &[u16]) -> Result<()> {
        let track = self.tracks.lock().unwrap_or_else(PoisonError::into_inner).get(&ear.ssrc).cloned();
        let track = track.context("a stream that has been heard")?;
        let nacks = nack_pairs_from_sequence_numbers(sequence_numbers);
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: ear.ssrc, nacks };
        Ok(track.0.write_rtcp(vec![Box::new(nack)]).await?)
    }

    /// Waits until media can flow.
    pub async fn connected(&self) -> Result<()> {
        self.peer.connected().await
    }

    /// Says goodbye (close_notify) and ends.
    pub async fn close(&self) -> Result<()> {
        self.peer.close().await
    }

    async fn negotiate(&mut self) -> Result<()> {
        let connection = &self.peer.connection;
        let offer = sdp::offer(&self.server, &self.streams);
        connection.set_remote_description(RTCSessionDescription::offer(offer)?).await.context("the server's offer")?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer).await.context("our own answer")
    }
}

/// Passes on what a track brings.
async fn listen(track: Arc<dyn TrackRemote>, ears: Ears, tracks: Arc<Mutex<HashMap<u32, Arc<Listening>>>>) {
    for ssrc in track.ssrcs().await {
        let listening = Arc::new(Listening(Arc::clone(&track)));
        tracks.lock().unwrap_or_else(PoisonError::into_inner).insert(ssrc, listening);
    }
    while let Some(event) = track.poll().await {
        let ears = ears.lock().unwrap_or_else(PoisonError::into_inner);
        // A send fails when nobody listens any more: the test is over.
        match event {
            TrackRemoteEvent::OnRtpPacket(packet) => {
                let _ = ears.get(&packet.header.ssrc).map(|waiting| waiting.packets.send(packet));
            }
            TrackRemoteEvent::OnRtcpPacket(packets) => {
                for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>()) {
                    let _ = ears.get(&report.ssrc).map(|waiting| waiting.reports.send(report.clone()));
                }
            }
            _ => {}
        }
    }
}

/// What is heard of one stream.
#[derive(Debug)]
pub struct Ear {
    ssrc: u32,
    packets: mpsc::UnboundedReceiver<Packet>,
    reports: mpsc::UnboundedReceiver<SenderReport>,
}

impl Ear {
    /// The next packet.
    pub async fn next(&mut self) -> Result<Heard> {
        let packet = crate::soon("a packet", self.packets.recv()).await?.context("the transport has ended")?;
        Heard::read(&packet).with_context(|| format!("not a frame as it was spoken: {packet:?}"))
    }

    /// The payload of the next packet, whatever it is and however long it takes; `None`: the transport has ended.
    pub async fn payload(&mut self) -> Option<Bytes> {
        Some(self.packets.recv().await?.payload)
    }

    /// The next packets.
    pub async fn hear(&mut self, count: usize) -> Result<Vec<Heard>> {
        let mut heard = Vec::with_capacity(count);
        while heard.len() < count {
            heard.push(self.next().await.with_context(|| format!("after {} of {count} packets", heard.len()))?);
        }
        Ok(heard)
    }

    /// The next sender report about the stream (RFC 3550 section 6.4.1).
    pub async fn report(&mut self) -> Result<SenderReport> {
        crate::soon("a sender report", self.reports.recv()).await?.context("the transport has ended")
    }

    /// What has arrived until now and was not taken.
    pub fn rest(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.packets.try_recv().ok()).filter_map(|packet| Heard::read(&packet)).collect()
    }
}
