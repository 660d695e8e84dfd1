//! What clients send. Unknown fields are skipped; what is needed and does not fit names the field of the request.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use voiceping_proto::media::v1::{
    DtlsFingerprint, DtlsRole, RtpCapabilities, RtpCodec, RtpHeaderExtension, RtpParameters,
};

use super::OPUS;
use crate::error::Refusal;

/// More than any browser sends, and nothing to a node.
const MAX_ENTRIES: usize = 64;
const MAX_TEXT: usize = 256;

/// RFC 3551 section 6: seven bits in an RTP header.
const MAX_PAYLOAD_TYPE: u32 = 127;

/// RFC 8285 section 4.3: the identifiers of two-byte headers.
const MAX_EXTENSION_ID: u32 = 255;

const FINGERPRINT_ALGORITHMS: [&str; 3] = ["sha-256", "sha-384", "sha-512"];

/// A client's DTLS role and the fingerprints of its certificate.
pub(crate) fn dtls_parameters(json: &Map<String, Value>) -> Result<(DtlsRole, Vec<DtlsFingerprint>), Refusal> {
    #[derive(Deserialize)]
    struct Dtls {
        role: Option<String>,
        fingerprints: Vec<Fingerprint>,
    }
    #[derive(Deserialize)]
    struct Fingerprint {
        algorithm: String,
        value: String,
    }

    const FIELD: &str = "dtlsParameters";
    let dtls: Dtls = parse(json, FIELD)?;
    let role = match dtls.role.as_deref() {
        None | Some("auto") => DtlsRole::Auto,
        Some("client") => DtlsRole::Client,
        Some("server") => DtlsRole::Server,
        Some(_) => return Err(Refusal::Invalid(FIELD)),
    };
    // Others, such as sha-1, prove nothing any more; a client that has only those is refused.
    let fingerprints: Vec<_> = entries(dtls.fingerprints, FIELD)?
        .into_iter()
        .map(|Fingerprint { algorithm, value }| (algorithm.to_ascii_lowercase(), value))
        .filter(|(algorithm, _)| FINGERPRINT_ALGORITHMS.contains(&algorithm.as_str()))
        .map(|(algorithm, value)| DtlsFingerprint { algorithm, value })
        .collect();
    let fits = fingerprints.iter().all(|fingerprint| fingerprint.value.len() <= MAX_TEXT);
    if fingerprints.is_empty() || !fits { Err(Refusal::Invalid(FIELD)) } else { Ok((role, fingerprints)) }
}

/// The stream that a client will send.
pub(crate) fn rtp_parameters(json: &Map<String, Value>) -> Result<RtpParameters, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        #[serde(default)]
        mid: Option<String>,
        codecs: Vec<Codec>,
        #[serde(default)]
        header_extensions: Vec<Extension>,
        #[serde(default)]
        encodings: Vec<Encoding>,
        #[serde(default)]
        rtcp: Option<Rtcp>,
    }
    #[derive(Deserialize)]
    struct Encoding {
        ssrc: Option<u32>,
    }
    #[derive(Deserialize)]
    struct Rtcp {
        cname: Option<String>,
    }

    const FIELD: &str = "rtpParameters";
    let parameters: Parameters = parse(json, FIELD)?;
    let mid = short(parameters.mid.unwrap_or_default(), FIELD)?;
    let ssrc = parameters.encodings.first().and_then(|encoding| encoding.ssrc).unwrap_or(0);
    if mid.is_empty() && ssrc == 0 {
        // Nothing would tell its packets from others of the same transport.
        return Err(Refusal::Invalid(FIELD));
    }
    Ok(RtpParameters {
        mid,
        codec: Some(opus(parameters.codecs, FIELD)?),
        header_extensions: extensions(parameters.header_extensions, FIELD)?,
        ssrc,
        cname: short(parameters.rtcp.and_then(|rtcp| rtcp.cname).unwrap_or_default(), FIELD)?,
    })
}

/// What a client can receive.
pub(crate) fn rtp_capabilities(json: &Map<String, Value>) -> Result<RtpCapabilities, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Capabilities {
        codecs: Vec<Codec>,
        #[serde(default)]
        header_extensions: Vec<Extension>,
    }

    const FIELD: &str = "rtpCapabilities";
    let capabilities: Capabilities = parse(json, FIELD)?;
    let mut offered = entries(capabilities.header_extensions, FIELD)?;
    offered.retain(Extension::is_received_audio);
    Ok(RtpCapabilities {
        codecs: vec![opus(capabilities.codecs, FIELD)?],
        header_extensions: extensions(offered, FIELD)?,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Codec {
    mime_type: String,
    /// In capabilities it is only preferred.
    #[serde(alias = "preferredPayloadType")]
    payload_type: Option<u32>,
    clock_rate: u32,
    #[serde(default)]
    channels: Option<u32>,
    #[serde(default)]
    parameters: HashMap<String, Value>,
    #[serde(default)]
    rtcp_feedback: Vec<Feedback>,
}

#[derive(Deserialize)]
struct Feedback {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extension {
    uri: String,
    #[serde(alias = "preferredId")]
    id: u32,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    direction: Option<String>,
}

impl Extension {
    fn is_received_audio(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("" | "audio"))
            && !matches!(self.direction.as_deref(), Some("sendonly" | "inactive"))
    }
}

fn parse<T: for<'de> Deserialize<'de>>(json: &Map<String, Value>, field: &'static str) -> Result<T, Refusal> {
    T::deserialize(json).map_err(|error| {
        tracing::debug!(%error, field, "media parameters were refused");
        Refusal::Invalid(field)
    })
}

/// The first Opus among the codecs.
fn opus(codecs: Vec<Codec>, field: &'static str) -> Result<RtpCodec, Refusal> {
    let codec = entries(codecs, field)?
        .into_iter()
        .find(|codec| codec.mime_type.eq_ignore_ascii_case(OPUS))
        .ok_or(Refusal::Invalid(field))?;
    let payload_type = codec.payload_type.filter(|payload_type| *payload_type <= MAX_PAYLOAD_TYPE);
    let parameters = entries(codec.parameters.into_iter().collect(), field)?
        .into_iter()
        .map(|(name, value)| Ok((short(name, field)?, short(fmtp_text(value, field)?, field)?)))
        .collect::<Result<_, Refusal>>()?;
    let rtcp_feedback = entries(codec.rtcp_feedback, field)?
        .into_iter()
        .map(|feedback| short(feedback.kind, field))
        .collect::<Result<_, _>>()?;
    Ok(RtpCodec {
        mime_type: OPUS.into(),
        payload_type: payload_type.ok_or(Refusal::Invalid(field))?,
        clock_rate: codec.clock_rate,
        // RFC 7587 section 7: always two in signaling.
        channels: codec.channels.unwrap_or(2),
        parameters,
        rtcp_feedback,
    })
}

fn extensions(extensions: Vec<Extension>, field: &'static str) -> Result<Vec<RtpHeaderExtension>, Refusal> {
    entries(extensions, field)?
        .into_iter()
        .map(|extension| match extension.id {
            1..=MAX_EXTENSION_ID => Ok(RtpHeaderExtension { uri: short(extension.uri, field)?, id: extension.id }),
            _ => Err(Refusal::Invalid(field)),
        })
        .collect()
}

/// A parameter of a codec as text, as the contract with the node carries it.
fn fmtp_text(value: Value, field: &'static str) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(u8::from(flag).to_string()),
        _ => Err(Refusal::Invalid(field)),
    }
}

fn entries<T>(entries: Vec<T>, field: &'static str) -> Result<Vec<T>, Refusal> {
    if entries.len() <= MAX_ENTRIES { Ok(entries) } else { Err(Refusal::Invalid(field)) }
}

fn short(text: String, field: &'static str) -> Result<String, Refusal> {
    if text.len() <= MAX_TEXT { Ok(text) } else { Err(Refusal::Invalid(field)) }
}
