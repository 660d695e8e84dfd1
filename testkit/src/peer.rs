//! One peer connection of the `webrtc` crate, set up as a browser sets up its own: Opus, the usual header extensions,
//! negative acknowledgements, reports.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_trait::async_trait;
use rtc::crypto::SignatureScheme;
use rtc::interceptor::Slot;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use tokio::sync::watch;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCCertificate,
    RTCConfigurationBuilder, RTCPeerConnectionState, Registry, SettingEngineBuilder, SrtpProtectionProfile,
    configure_nack, configure_rtcp_reports, crypto,
};

use crate::rtcp::Deliver;
use crate::sdp::Server;

/// The client's role in the DTLS handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DtlsRole {
    /// Starts it, as browsers do.
    #[default]
    Client,
    /// Waits for it, as Android's library does where it sends.
    Server,
}

impl From<DtlsRole> for RTCDtlsRole {
    fn from(role: DtlsRole) -> Self {
        match role {
            DtlsRole::Client => Self::Client,
            DtlsRole::Server => Self::Server,
        }
    }
}

/// The protection of media that a client insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// What Chromium prefers.
    Aes128CmSha1_80,
    /// What Firefox prefers.
    AeadAes128Gcm,
    /// The strongest.
    AeadAes256Gcm,
}

/// How a client differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Its role in the handshake.
    pub role: DtlsRole,
    /// The only protection that it offers; `None`: the library's own list.
    pub profile: Option<SrtpProfile>,
    /// Its payload type of Opus; `None`: 111, Chromium's.
    pub payload_type: Option<u8>,
}

impl Options {
    pub(crate) fn payload_type(&self) -> u8 {
        self.payload_type.unwrap_or(111)
    }
}

/// The header extensions that a browser offers for audio, in its order: Chromium's ids 1 to 4.
const EXTENSIONS: [&str; 4] = [
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
];

/// Behind all of the library's own interceptors, on the application's side.
const LAST: Slot = Slot::Custom(14_000);

/// Takes the tracks that come.
pub(crate) type OnTrack = Box<dyn Fn(Arc<dyn TrackRemote>) + Send + Sync>;

/// A peer connection and what is known about it.
pub(crate) struct Peer {
    pub(crate) connection: Arc<dyn PeerConnection>,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
    pub(crate) fingerprint: String,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Peer {
    /// A connection from the address from which this machine reaches the server's first candidate.
    pub(crate) async fn new(options: &Options, server: &Server, on_track: OnTrack) -> Result<Self> {
        let provider = crypto::default_provider()?;
        let certificate = RTCCertificate::generate(
            provider.crypto(),
            SignatureScheme::EcdsaP256Sha256,
            CertificateParams::new(vec!["voiceping-test".to_owned()])?,
        )?;
        anyhow::ensure!(certificate.expires > SystemTime::now(), "a fresh certificate has not expired");
        let fingerprint = certificate.get_fingerprints(provider.crypto())?;
        let fingerprint = fingerprint.first().context("a certificate has a fingerprint")?.value.to_uppercase();

        let mut settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_answering_dtls_role(options.role.into())
            // Loopback answers at once: the default of 200 ms would be most of the time that a test takes.
            .with_ice_connection_attempts(Some(Duration::from_millis(20)), Some(200));
        if let Some(profile) = options.profile {
            settings = settings.with_srtp_protection_profiles(vec![match profile {
                SrtpProfile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProfile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            }]);
        }
        let (state_sender, state) = watch::channel(RTCPeerConnectionState::New);
        let (media, registry) = media(options.payload_type())?;
        let builder = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::default().with_certificates(vec![certificate]).build())
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings.build())
            .with_handler(Arc::new(Handler { state: state_sender, on_track }))
            .with_udp_addrs(vec![own_address(server)?]);
        let connection = Box::pin(builder.build()).await?;
        Ok(Self { connection: Arc::new(connection), state, fingerprint })
    }

    /// Waits until media can flow.
    pub(crate) async fn connected(&self) -> Result<()> {
        let mut state = self.state.clone();
        let last = |state: &RTCPeerConnectionState| {
            matches!(
                state,
                RTCPeerConnectionState::Connected | RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
            )
        };
        let reached = *crate::soon("the peer connection", state.wait_for(last)).await??;
        anyhow::ensure!(reached == RTCPeerConnectionState::Connected, "the peer connection is {reached}");
        Ok(())
    }

    pub(crate) async fn close(&self) -> Result<()> {
        Ok(self.connection.close().await?)
    }
}

/// Connecting a UDP socket sends nothing: it asks for the route.
fn own_address(server: &Server) -> Result<SocketAddr> {
    let candidate = server.candidates.first().context("a server has a candidate")?;
    let socket = UdpSocket::bind(if candidate.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(candidate)?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), 0))
}

/// The codec as the client declares it.
pub(crate) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() }],
    }
}

fn media(payload_type: u8) -> Result<(MediaEngine, Registry)> {
    let mut media = MediaEngine::default();
    let codec = RTCRtpCodecParameters { rtp_codec: opus(), payload_type };
    media.register_codec(codec, RtpCodecKind::Audio)?;
    for uri in EXTENSIONS {
        let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        media.register_header_extension(extension, RtpCodecKind::Audio, None)?;
    }
    let registry = configure_rtcp_reports(configure_nack(Registry::new(), &mut media));
    Ok((media, registry.with(LAST, Deliver::default())))
}

struct Handler {
    state: watch::Sender<RTCPeerConnectionState>,
    on_track: OnTrack,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        (self.on_track)(track);
    }
}
