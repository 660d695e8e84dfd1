use serde_json::{Map, Value, json};
use voiceping_proto::media::v1::{
    CreateTransportResponse, DtlsFingerprint, DtlsRole, IceCandidate, IceParameters, RtpCodec, RtpHeaderExtension,
    RtpParameters,
};

use super::*;
use crate::error::Refusal;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

/// As mediasoup-client 3.18 sends it from Chromium.
fn produced() -> Value {
    json!({
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1, "usedtx": true, "x-name": "007"},
            "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}],
        }],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1, "encrypt": false, "parameters": {}},
        ],
        "encodings": [{"ssrc": 4_294_967_295_u32, "dtx": false}],
        "rtcp": {"cname": "abc", "reducedSize": true},
        "mid": "0",
    })
}

#[test]
fn a_produced_stream_passes_through() {
    let parameters = rtp_parameters(&object(produced())).expect("valid");
    assert_eq!((parameters.mid.as_str(), parameters.ssrc, parameters.cname.as_str()), ("0", u32::MAX, "abc"));
    let codec = parameters.codec.expect("a codec");
    assert_eq!((codec.payload_type, codec.clock_rate, codec.channels), (111, 48_000, 2));
    let mut fmtp: Vec<_> = codec.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fmtp.sort_unstable();
    assert_eq!(fmtp, [("minptime", "10"), ("usedtx", "1"), ("useinbandfec", "1"), ("x-name", "007")]);
    assert_eq!(codec.rtcp_feedback, ["transport-cc"]);
    assert_eq!(parameters.header_extensions[1].id, 1);
}

#[test]
fn a_stream_that_cannot_be_is_refused() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = produced();
        change(&mut json);
        assert_eq!(rtp_parameters(&object(json.clone())), Err(Refusal::Invalid("rtpParameters")), "{json}");
    };
    refused(&|json| json["codecs"] = json!([]));
    refused(&|json| json["codecs"] = json!("opus"));
    refused(&|json| json["codecs"][0]["mimeType"] = "video/VP8".into());
    refused(&|json| json["codecs"][0]["payloadType"] = 128.into());
    refused(&|json| json["codecs"][0]["payloadType"] = (-1).into());
    refused(&|json| json["codecs"][0]["parameters"]["x"] = json!({}));
    refused(&|json| json["codecs"][0]["parameters"]["x"] = "y".repeat(300).into());
    refused(&|json| json["headerExtensions"][0]["id"] = 0.into());
    refused(&|json| json["headerExtensions"][0]["id"] = 256.into());
    refused(&|json| json["headerExtensions"] = vec![json["headerExtensions"][0].clone(); 65].into());
    refused(&|json| json["encodings"][0]["ssrc"] = 4_294_967_296_u64.into());
    refused(&|json| json["mid"] = "m".repeat(300).into());
    refused(&|json| {
        json["mid"] = Value::Null;
        json["encodings"] = json!([]);
    });
}

#[test]
fn capabilities_keep_opus_and_the_extensions_that_are_received() {
    let capabilities = rtp_capabilities(&object(json!({
        "codecs": [
            {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000},
            {"kind": "audio", "mimeType": "audio/OPUS", "preferredPayloadType": 109, "clockRate": 48000, "channels": 2},
        ],
        "headerExtensions": [
            {"kind": "audio", "uri": "mid", "preferredId": 1, "preferredEncrypt": false, "direction": "sendrecv"},
            {"kind": "video", "uri": "toffset", "preferredId": 2, "direction": "sendrecv"},
            {"kind": "audio", "uri": "twcc", "preferredId": 5, "direction": "sendonly"},
        ],
    })))
    .expect("valid");
    assert_eq!(capabilities.codecs.len(), 1);
    assert_eq!(capabilities.codecs[0].payload_type, 109);
    assert_eq!(capabilities.header_extensions, [RtpHeaderExtension { uri: "mid".into(), id: 1 }]);
    assert_eq!(rtp_capabilities(&object(json!({"codecs": []}))), Err(Refusal::Invalid("rtpCapabilities")));
    assert_eq!(rtp_capabilities(&object(json!({}))), Err(Refusal::Invalid("rtpCapabilities")));
}

#[test]
fn dtls_parameters_have_a_role_and_a_fingerprint_that_proves_something() {
    let parameters = |role: Value, algorithm: &str| {
        dtls_parameters(&object(json!({
            "role": role,
            "fingerprints": [{"algorithm": "sha-1", "value": "00"}, {"algorithm": algorithm, "value": "AA:BB"}],
        })))
    };
    let fingerprint = DtlsFingerprint { algorithm: "sha-256".into(), value: "AA:BB".into() };
    for (role, expected) in [
        (Value::Null, DtlsRole::Auto),
        ("auto".into(), DtlsRole::Auto),
        ("client".into(), DtlsRole::Client),
        ("server".into(), DtlsRole::Server),
    ] {
        assert_eq!(parameters(role, "SHA-256"), Ok((expected, vec![fingerprint.clone()])));
    }
    let refused = Err(Refusal::Invalid("dtlsParameters"));
    assert_eq!(parameters("both".into(), "sha-256"), refused);
    assert_eq!(parameters("auto".into(), "md5"), refused);
    assert_eq!(dtls_parameters(&object(json!({}))), refused);
    assert_eq!(dtls_parameters(&object(json!({"fingerprints": [{"algorithm": "sha-256"}]}))), refused);
}

#[test]
fn a_transport_is_written_as_mediasoup_does() {
    let candidate = |protocol: &str| IceCandidate {
        foundation: "1".into(),
        priority: 7,
        address: "192.0.2.1".into(),
        protocol: protocol.into(),
        port: 40_000,
    };
    let json = transport(
        CreateTransportResponse {
            transport_id: "t1".into(),
            ice_parameters: Some(IceParameters { username_fragment: "u".into(), password: "p".into() }),
            ice_candidates: vec![candidate("udp"), candidate("tcp")],
            dtls_fingerprints: vec![DtlsFingerprint { algorithm: "sha-256".into(), value: "AA".into() }],
        },
        None,
    );
    let udp = json!({"foundation": "1", "priority": 7, "ip": "192.0.2.1", "address": "192.0.2.1", "protocol": "udp",
                     "port": 40_000, "type": "host"});
    let mut tcp = udp.clone();
    tcp["protocol"] = "tcp".into();
    tcp["tcpType"] = "passive".into();
    assert_eq!(
        json,
        json!({
            "id": "t1",
            "iceParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceCandidates": [udp, tcp],
            "dtlsParameters": {"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": "AA"}]},
        })
    );
}

#[test]
fn a_consumers_parameters_have_numbers_where_they_were_numbers() {
    let fmtp = [("useinbandfec", "1"), ("x-name", "007")].map(|(name, value)| (name.into(), value.into()));
    let json = consumer_rtp_parameters(RtpParameters {
        mid: "3".into(),
        codec: Some(RtpCodec {
            mime_type: "audio/opus".into(),
            payload_type: 111,
            clock_rate: 48_000,
            channels: 2,
            parameters: fmtp.into(),
            rtcp_feedback: vec!["nack".into()],
        }),
        header_extensions: vec![RtpHeaderExtension { uri: "mid".into(), id: 1 }],
        ssrc: 42,
        cname: "c".into(),
    });
    assert_eq!(json["codecs"][0]["parameters"], json!({"useinbandfec": 1, "x-name": "007"}));
    assert_eq!(json["codecs"][0]["rtcpFeedback"], json!([{"type": "nack"}]));
    assert_eq!((&json["mid"], &json["encodings"]), (&json!("3"), &json!([{"ssrc": 42}])));
    assert_eq!(json["rtcp"], json!({"cname": "c", "reducedSize": true}));
}

#[test]
fn the_capabilities_are_the_protocols() {
    let capabilities = router_rtp_capabilities();
    let extensions = capabilities["headerExtensions"].as_array().expect("a list");
    let ids: Vec<_> = extensions.iter().map(|extension| extension["preferredId"].as_u64().expect("a number")).collect();
    assert_eq!(ids, [1, 4, 5, 10, 13]);
    assert_eq!(extensions[2]["direction"], "recvonly");
    assert_eq!(capabilities["codecs"][0]["preferredPayloadType"], 111);
}
