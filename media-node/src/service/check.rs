//! What is checked of every request, and how a refusal is said.

use tonic::Status;
use voiceping_engine::Error;
use voiceping_proto::media::v1 as proto;

use crate::worker::Stopped;

/// The longest id that a caller may use.
const MAX_ID: usize = 256;

/// An id that is there and not absurdly long.
pub(crate) fn id<'a>(text: &'a str, name: &str) -> Result<&'a str, Status> {
    if text.is_empty() || text.len() > MAX_ID {
        return Err(Status::invalid_argument(format!("{name} is missing or longer than {MAX_ID} bytes")));
    }
    Ok(text)
}

/// An id that may be left out.
pub(crate) fn optional_id<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>, Status> {
    if text.is_empty() { Ok(None) } else { id(text, name).map(Some) }
}

/// A codec that is carried.
pub(crate) fn check_opus(codec: &proto::RtpCodec) -> Result<(), Status> {
    if !codec.mime_type.eq_ignore_ascii_case("audio/opus") || codec.clock_rate != 48_000 || codec.payload_type > 127 {
        return Err(Status::invalid_argument("only Opus at 48 kHz is carried (RFC 7587)"));
    }
    Ok(())
}

/// What a client can receive of what is carried.
pub(crate) fn find_opus(codecs: &[proto::RtpCodec]) -> Result<&proto::RtpCodec, Status> {
    let found = codecs.iter().find(|codec| check_opus(codec).is_ok());
    found.ok_or_else(|| Status::invalid_argument("the client cannot receive Opus"))
}

/// The id of an extension. Ids beyond one byte do not exist on the wire (RFC 8285).
pub(crate) fn extension_id(extensions: &[proto::RtpHeaderExtension], uri: &str) -> Option<u8> {
    let found = extensions.iter().find(|extension| extension.uri == uri)?;
    u8::try_from(found.id).ok().filter(|id| *id != 0)
}

pub(crate) fn refused(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NotFound(_) => Status::not_found(text),
        Error::Conflict(_) => Status::failed_precondition(text),
        Error::Invalid(_) => Status::invalid_argument(text),
        Error::Exhausted(_) => Status::resource_exhausted(text),
    }
}

pub(crate) fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}
