//! The SDP that a client of a mediasoup-like server writes for itself. Such a server speaks parameters, not SDP; each
//! client library makes a remote description of them for its own peer connection. This does what mediasoup-client's
//! `RemoteSdp` and `MediaSection` do, line for line where it matters.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::peer::DtlsRole;

/// A server's side of one transport, as signaling tells it.
#[derive(Debug, Clone)]
pub struct Server {
    /// ICE username fragment.
    pub ufrag: String,
    /// ICE password.
    pub password: String,
    /// Host candidates, UDP, best first.
    pub candidates: Vec<SocketAddr>,
    /// SHA-256 fingerprint of the server's certificate.
    pub fingerprint: String,
}

/// A stream to be received, as signaling tells it.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Media identification.
    pub mid: String,
    /// Payload type of Opus.
    pub payload_type: u8,
    /// Format parameters.
    pub parameters: Vec<(String, String)>,
    /// Whether the server answers negative acknowledgements.
    pub nack: bool,
    /// Header extensions: URI and id.
    pub extensions: Vec<(String, u8)>,
    /// Synchronization source.
    pub ssrc: u32,
    /// Canonical name.
    pub cname: String,
}

/// A stream that the client offered to send, as its own SDP says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Media identification.
    pub mid: String,
    /// Payload type of Opus.
    pub payload_type: u8,
    /// Header extensions: URI and id.
    pub extensions: Vec<(String, u8)>,
}

/// The answer to an offer to send: the server receives every stream, in the role opposite to the client's.
pub(crate) fn answer(server: &Server, client_role: DtlsRole, offered: &[Offered]) -> String {
    let setup = match client_role {
        DtlsRole::Client => "passive",
        DtlsRole::Server => "active",
    };
    let mids: Vec<&str> = offered.iter().map(|section| section.mid.as_str()).collect();
    let mut sdp = session(server, &mids);
    for section in offered {
        media(&mut sdp, server, &section.mid, section.payload_type, setup);
        fmtp(&mut sdp, section.payload_type, [("minptime", "10"), ("useinbandfec", "1")].into_iter());
        let _ = writeln!(sdp, "a=rtcp-fb:{} nack\r", section.payload_type);
        extmaps(&mut sdp, &section.extensions);
        sdp.push_str("a=recvonly\r\n");
    }
    sdp
}

/// The offer of streams to receive. A closed one keeps its place, inactive (RFC 8829 section 5.2.2).
pub(crate) fn offer(server: &Server, streams: &[(Stream, bool)]) -> String {
    let mids: Vec<&str> = streams.iter().map(|(stream, _)| stream.mid.as_str()).collect();
    let mut sdp = session(server, &mids);
    for (stream, open) in streams {
        media(&mut sdp, server, &stream.mid, stream.payload_type, "actpass");
        let parameters = stream.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fmtp(&mut sdp, stream.payload_type, parameters);
        if stream.nack {
            let _ = writeln!(sdp, "a=rtcp-fb:{} nack\r", stream.payload_type);
        }
        extmaps(&mut sdp, &stream.extensions);
        if *open {
            let _ = writeln!(sdp, "a=sendonly\r\na=msid:{0} {0}\r\na=ssrc:{1} cname:{0}\r", stream.cname, stream.ssrc);
        } else {
            sdp.push_str("a=inactive\r\n");
        }
    }
    sdp
}

fn session(server: &Server, mids: &[&str]) -> String {
    format!(
        "v=0\r\no=mediasoup-client 10000 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
         a=fingerprint:sha-256 {}\r\na=msid-semantic: WMS *\r\na=group:BUNDLE {}\r\n",
        server.fingerprint,
        mids.join(" ")
    )
}

fn media(sdp: &mut String, server: &Server, mid: &str, payload_type: u8, setup: &str) {
    let _ = write!(
        sdp,
        "m=audio 7 UDP/TLS/RTP/SAVPF {payload_type}\r\nc=IN IP4 127.0.0.1\r\na=mid:{mid}\r\na=setup:{setup}\r\n\
         a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        server.ufrag, server.password
    );
    for (index, candidate) in server.candidates.iter().enumerate() {
        let (priority, ip, port) = (2_130_706_431 - index, candidate.ip(), candidate.port());
        let _ = writeln!(sdp, "a=candidate:udp{index} 1 udp {priority} {ip} {port} typ host\r");
    }
    let _ = write!(
        sdp,
        "a=end-of-candidates\r\na=ice-options:renomination\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:{payload_type} opus/48000/2\r\n"
    );
}

fn fmtp<'a>(sdp: &mut String, payload_type: u8, parameters: impl Iterator<Item = (&'a str, &'a str)>) {
    let parameters: Vec<String> = parameters.map(|(name, value)| format!("{name}={value}")).collect();
    if !parameters.is_empty() {
        let _ = writeln!(sdp, "a=fmtp:{payload_type} {}\r", parameters.join(";"));
    }
}

fn extmaps(sdp: &mut String, extensions: &[(String, u8)]) {
    for (uri, id) in extensions {
        let _ = writeln!(sdp, "a=extmap:{id} {uri}\r");
    }
}

/// The streams that a local description offers.
pub(crate) fn offered(sdp: &str) -> Result<Vec<Offered>> {
    sdp.split("\nm=").skip(1).map(|section| offered_in(section).context("reading our own offer")).collect()
}

fn offered_in(section: &str) -> Result<Offered> {
    let lines = || section.lines().map(str::trim_end);
    let value = |name: &str| lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"));
    let payload_type = value("audio ")?.split(' ').nth(2).context("no format")?.parse().context("format")?;
    let extension = |line: &str| {
        let (id, uri) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
        Some((uri.to_owned(), id.split('/').next()?.parse().ok()?))
    };
    Ok(Offered { mid: value("a=mid:")?.to_owned(), payload_type, extensions: lines().filter_map(extension).collect() })
}
