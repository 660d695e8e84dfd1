//! The client's side of a transport on which it sends: what mediasoup-client's `SendTransport` is in a browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtp::{Header, Packet};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::peer_connection::RTCSessionDescription;

use crate::peer::{DtlsRole, Options, Peer, opus};
use crate::sdp::{self, Offered, Server};
use crate::voice::{self, FRAME_TICKS};

/// URI of the MID header extension (RFC 8843).
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// See the module.
#[derive(Debug)]
pub struct SendTransport {
    peer: Peer,
    server: Server,
    options: Options,
}

impl SendTransport {
    /// A transport towards this server. Nothing is sent before the first [`Self::add_microphone`].
    pub async fn new(server: Server, options: Options) -> Result<Self> {
        Ok(Self { peer: Peer::new(&options, &server, Box::new(|_| {})).await?, server, options })
    }

    /// The SHA-256 fingerprint of the client's certificate.
    pub fn fingerprint(&self) -> &str {
        &self.peer.fingerprint
    }

    /// The client's role in the handshake.
    pub fn role(&self) -> DtlsRole {
        self.options.role
    }

    /// Negotiates one more stream. `speaker` marks its frames.
    pub async fn add_microphone(&mut self, speaker: u32) -> Result<Microphone> {
        let ssrc = rand::random::<u32>().max(1);
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec: opus(),
            ..Default::default()
        };
        let name = format!("{ssrc:08x}");
        let track = MediaStreamTrack::new(name.clone(), name.clone(), name, RtpCodecKind::Audio, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let connection = &self.peer.connection;
        connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        let offer = connection.create_offer(None).await?;
        let offered = sdp::offered(&offer.sdp)?;
        connection.set_local_description(offer).await.context("our own offer")?;
        let answer = sdp::answer(&self.server, self.options.role, &offered);
        connection
            .set_remote_description(RTCSessionDescription::answer(answer)?)
            .await
            .context("the server's answer")?;
        let offered = offered.into_iter().next_back().context("an offer with a stream in it")?;
        let mid_extension = offered.extensions.iter().find(|(uri, _)| uri == MID).map(|(_, id)| *id);
        let voice = Arc::new(Voice {
            track,
            speaker,
            ssrc,
            payload_type: offered.payload_type,
            mid: mid_extension.map(|id| (id, Bytes::from(offered.mid.clone()))),
            first_sequence_number: rand::random(),
            first_timestamp: rand::random(),
            next: AtomicU32::new(0),
        });
        let (sender, reports) = mpsc::unbounded_channel();
        tokio::spawn(take_reports(Arc::clone(&voice), sender));
        Ok(Microphone { offered, ssrc, voice, reports })
    }

    /// Waits until media can flow.
    pub async fn connected(&self) -> Result<()> {
        self.peer.connected().await
    }

    /// Says goodbye (close_notify) and ends.
    pub async fn close(&self) -> Result<()> {
        self.peer.close().await
    }
}

/// A stream that is sent.
#[derive(Debug)]
pub struct Microphone {
    /// What was negotiated.
    pub offered: Offered,
    /// Its synchronization source.
    pub ssrc: u32,
    voice: Arc<Voice>,
    reports: mpsc::UnboundedReceiver<ReceptionReport>,
}

struct Voice {
    track: Arc<TrackLocalStaticRTP>,
    speaker: u32,
    ssrc: u32,
    payload_type: u8,
    /// Sent in every packet, as browsers do until they have had a report.
    mid: Option<(u8, Bytes)>,
    first_sequence_number: u16,
    first_timestamp: u32,
    next: AtomicU32,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("speaker", &self.speaker).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Microphone {
    /// Speaks this many frames, 20 ms apart; answers the number of the first one.
    pub async fn say(&self, frames: u32) -> Result<u32> {
        let first = self.spoken();
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..frames {
            clock.tick().await;
            self.voice.speak().await?;
        }
        Ok(first)
    }

    /// Speaks one frame with a payload of the caller's.
    pub async fn speak(&self, payload: Bytes) -> Result<()> {
        let number = self.voice.next.fetch_add(1, Ordering::SeqCst);
        self.voice.send(number, payload).await
    }

    /// Speaks until the answer is dropped, as a browser does whose producer is merely paused at the server.
    pub fn keep_speaking(&self) -> Speaking {
        let voice = Arc::clone(&self.voice);
        Speaking(tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_millis(20));
            loop {
                clock.tick().await;
                // Fails when the transport has been closed: the voice is then heard by nobody anyway.
                let _ = voice.speak().await;
            }
        }))
    }

    /// The next receiver report about the stream (RFC 3550 section 6.4.2).
    pub async fn report(&mut self) -> Result<ReceptionReport> {
        crate::soon("a receiver report", self.reports.recv()).await?.context("the transport has ended")
    }

    /// Frames spoken so far: the number of the next one.
    pub fn spoken(&self) -> u32 {
        self.voice.next.load(Ordering::SeqCst)
    }

    /// The sequence number under which a frame was, or will be, sent.
    pub fn sequence_number(&self, frame: u32) -> u16 {
        self.voice.first_sequence_number.wrapping_add(frame as u16)
    }
}

impl Voice {
    async fn speak(&self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.send(number, voice::frame(self.speaker, number)).await
    }

    async fn send(&self, number: u32, payload: Bytes) -> Result<()> {
        let mut header = Header {
            version: 2,
            payload_type: self.payload_type,
            sequence_number: self.first_sequence_number.wrapping_add(number as u16),
            timestamp: self.first_timestamp.wrapping_add(number.wrapping_mul(FRAME_TICKS)),
            ssrc: self.ssrc,
            ..Default::default()
        };
        if let Some((id, mid)) = &self.mid {
            header.set_extension(*id, mid.clone())?;
        }
        self.track.write_rtp(Packet { header, payload }).await?;
        Ok(())
    }
}

/// Passes on what the server reports about a stream.
async fn take_reports(voice: Arc<Voice>, to: mpsc::UnboundedSender<ReceptionReport>) {
    while let Some(TrackLocalEvent::OnRtcpPacket(packets)) = voice.track.poll().await {
        let reports = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<ReceiverReport>());
        for report in reports.flat_map(|report| &report.reports).filter(|report| report.ssrc == voice.ssrc) {
            let _ = to.send(report.clone()); // nobody asks any more: the test is over
        }
    }
}

/// See [`Microphone::keep_speaking`].
#[derive(Debug)]
pub struct Speaking(JoinHandle<()>);

impl Drop for Speaking {
    fn drop(&mut self) {
        self.0.abort();
    }
}
