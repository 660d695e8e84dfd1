//! What mediasoup-client's `Device` is in a browser: between signaling's JSON and the peer connections of this kit.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::peer::DtlsRole;
use crate::sdp::{Server, Stream};
use crate::sender::Microphone;

/// The server's side of a transport, from the answer to `create-transport`.
pub fn server(created: &Value) -> Result<Server> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
    ensure!(created["iceParameters"]["iceLite"] == true, "the server is ICE-lite: {created}");
    ensure!(created["dtlsParameters"]["role"] == "auto", "the client chooses the role: {created}");
    let candidates = created["iceCandidates"].as_array().context("candidates")?;
    let candidate = |candidate: &Value| {
        ensure!(candidate["ip"] == candidate["address"] && candidate["type"] == "host", "a candidate: {candidate}");
        ensure!(candidate["foundation"].is_string() && candidate["priority"].is_u64(), "a candidate: {candidate}");
        let address = text(&candidate["address"])?.parse()?;
        Ok((candidate["protocol"] == "udp").then_some(SocketAddr::new(address, u16_of(&candidate["port"])?)))
    };
    let fingerprints = created["dtlsParameters"]["fingerprints"].as_array().context("fingerprints")?;
    let sha256 = fingerprints.iter().find(|fingerprint| fingerprint["algorithm"] == "sha-256");
    Ok(Server {
        ufrag: text(&created["iceParameters"]["usernameFragment"])?,
        password: text(&created["iceParameters"]["password"])?,
        candidates: candidates.iter().filter_map(|found| candidate(found).transpose()).collect::<Result<_>>()?,
        fingerprint: text(&sha256.context("a SHA-256 fingerprint")?["value"])?,
    })
}

/// The client's side of a transport, for `connect-transport`.
pub fn dtls_parameters(role: DtlsRole, fingerprint: &str) -> Value {
    let role = match role {
        DtlsRole::Client => "client",
        DtlsRole::Server => "server",
    };
    json!({"role": role, "fingerprints": [{"algorithm": "sha-256", "value": fingerprint}]})
}

/// A microphone's stream, for `produce`.
pub fn rtp_parameters(microphone: &Microphone) -> Value {
    let offered = &microphone.offered;
    let extension = |(uri, id): &(String, u8)| json!({"uri": uri, "id": id, "encrypt": false, "parameters": json!({})});
    json!({
        "mid": offered.mid,
        "codecs": [{
            "mimeType": "audio/opus",
            "payloadType": offered.payload_type,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1},
            "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "transport-cc", "parameter": ""}],
        }],
        "headerExtensions": offered.extensions.iter().map(extension).collect::<Vec<_>>(),
        "encodings": [{"ssrc": microphone.ssrc, "dtx": false}],
        "rtcp": {"cname": format!("{:08x}", microphone.ssrc), "reducedSize": true},
    })
}

/// What this client can receive of what a router can send, for `consume`. The device takes over the router's payload
/// type and extension ids.
pub fn rtp_capabilities(router: &Value) -> Result<Value> {
    let codecs = router["codecs"].as_array().context("codecs")?;
    let opus = codecs.iter().find(|codec| codec["mimeType"] == "audio/opus").context("Opus")?;
    ensure!(opus["kind"] == "audio" && opus["clockRate"] == 48_000 && opus["channels"] == 2, "Opus: {opus}");
    let mut opus = opus.clone();
    opus["parameters"] = json!({"minptime": 10, "useinbandfec": 1});
    let extensions = router["headerExtensions"].as_array().context("header extensions")?;
    for extension in extensions {
        ensure!(extension["kind"] == "audio" && extension["preferredEncrypt"] == false, "extension: {extension}");
    }
    let received: Vec<_> = extensions.iter().filter(|extension| extension["direction"] != "recvonly").collect();
    Ok(json!({"codecs": [opus], "headerExtensions": received}))
}

/// The stream that will come, from the answer to `consume`.
pub fn stream(consumed: &Value) -> Result<Stream> {
    let rtp = &consumed["rtpParameters"];
    let codec = rtp["codecs"].get(0).context("a codec")?;
    ensure!(codec["mimeType"] == "audio/opus" && codec["clockRate"] == 48_000, "Opus: {codec}");
    let parameters = codec["parameters"].as_object().context("parameters")?;
    let extensions = rtp["headerExtensions"].as_array().context("header extensions")?;
    let extension = |extension: &Value| {
        let id = u16_of(&extension["id"])?;
        Ok((extension["uri"].as_str().context("a URI")?.to_owned(), u8::try_from(id)?))
    };
    let ssrc = rtp["encodings"][0]["ssrc"].as_u64().context("an SSRC")?;
    Ok(Stream {
        mid: rtp["mid"].as_str().context("a MID")?.to_owned(),
        payload_type: u8::try_from(u16_of(&codec["payloadType"])?)?,
        parameters: parameters.iter().map(|(name, value)| (name.clone(), fmtp_text(value))).collect(),
        nack: codec["rtcpFeedback"].as_array().is_some_and(|known| known.iter().any(|known| known["type"] == "nack")),
        extensions: extensions.iter().map(extension).collect::<Result<_>>()?,
        ssrc: u32::try_from(ssrc)?,
        cname: rtp["rtcp"]["cname"].as_str().context("a CNAME")?.to_owned(),
    })
}

fn fmtp_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn u16_of(value: &Value) -> Result<u16> {
    Ok(u16::try_from(value.as_u64().context("a number")?)?)
}
