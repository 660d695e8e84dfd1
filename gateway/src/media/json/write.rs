//! What clients get.

use serde_json::{Map, Value, json};
use voiceping_proto::media::v1::{CreateTransportResponse, RtpParameters};

use super::OPUS;

/// What this service receives and sends: the same on every node and for every channel, so that a client loads its
/// device once.
pub(crate) fn router_rtp_capabilities() -> Value {
    let extension = |uri: &str, id: u32, direction: &str| json!({"kind": "audio", "uri": uri, "preferredId": id, "preferredEncrypt": false, "direction": direction});
    json!({
        "codecs": [{
            "kind": "audio",
            "mimeType": OPUS,
            "preferredPayloadType": 111,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": {},
            "rtcpFeedback": [{"type": "nack"}, {"type": "transport-cc"}],
        }],
        "headerExtensions": [
            extension("urn:ietf:params:rtp-hdrext:sdes:mid", 1, "sendrecv"),
            extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 4, "sendrecv"),
            extension("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", 5, "recvonly"),
            extension("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10, "sendrecv"),
            extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", 13, "sendrecv"),
        ],
    })
}

/// The answer to `create-transport`.
pub(crate) fn transport(transport: CreateTransportResponse, ice_servers: Option<Value>) -> Value {
    let candidates = transport.ice_candidates.into_iter().map(|candidate| {
        let mut json = json!({
            "foundation": candidate.foundation,
            "priority": candidate.priority,
            "ip": candidate.address,
            "address": candidate.address,
            "protocol": candidate.protocol,
            "port": candidate.port,
            "type": "host",
        });
        if candidate.protocol == "tcp" {
            json["tcpType"] = "passive".into();
        }
        json
    });
    let fingerprints = transport
        .dtls_fingerprints
        .into_iter()
        .map(|fingerprint| json!({"algorithm": fingerprint.algorithm, "value": fingerprint.value}));
    let ice = transport.ice_parameters.unwrap_or_default();
    let mut answer = json!({
        "id": transport.transport_id,
        "iceParameters": {"usernameFragment": ice.username_fragment, "password": ice.password, "iceLite": true},
        "iceCandidates": candidates.collect::<Vec<_>>(),
        "dtlsParameters": {"role": "auto", "fingerprints": fingerprints.collect::<Vec<_>>()},
    });
    if let Some(ice_servers) = ice_servers {
        answer["iceServers"] = ice_servers;
    }
    answer
}

/// What will arrive at a consuming client.
pub(crate) fn consumer_rtp_parameters(parameters: RtpParameters) -> Value {
    let codec = parameters.codec.unwrap_or_default();
    let fmtp: Map<_, _> = codec.parameters.into_iter().map(|(name, value)| (name, fmtp_value(value))).collect();
    let extensions = parameters
        .header_extensions
        .into_iter()
        .map(|extension| json!({"uri": extension.uri, "id": extension.id, "encrypt": false, "parameters": {}}));
    json!({
        "mid": parameters.mid,
        "codecs": [{
            "mimeType": codec.mime_type,
            "payloadType": codec.payload_type,
            "clockRate": codec.clock_rate,
            "channels": codec.channels,
            "parameters": fmtp,
            "rtcpFeedback": codec.rtcp_feedback.into_iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
        }],
        "headerExtensions": extensions.collect::<Vec<_>>(),
        "encodings": [{"ssrc": parameters.ssrc}],
        "rtcp": {"cname": parameters.cname, "reducedSize": true},
    })
}

/// A number where it was one: the contract with the node carries text.
fn fmtp_value(text: String) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}
