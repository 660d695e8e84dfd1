//! What the fuzz targets do with their bytes (`fuzz/`): everything that a client says before and after it is known. Not part
//! of any build but theirs and the tests', which replay the corpora.

use serde_json::Value;

use crate::message::Request;
use crate::{auth, media, request};

/// A text frame of a client, whoever it is.
pub fn signaling(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Request { kind, data, .. }) = Request::parse(text) {
        // A refusal names a field of the protocol, never what was sent.
        let _ = request::parses(kind, &data);
    }
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        let _ = media::json::dtls_parameters(&object);
        let _ = media::json::rtp_parameters(&object);
        let _ = media::json::rtp_capabilities(&object);
    }
}

/// A token, a ticket, the claims of a token, a provider's keys. The first byte says which.
pub fn token(data: &[u8]) {
    auth::fuzzing::token(data);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(corpus: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
        let mut replayed = 0;
        for entry in fs::read_dir(folder).expect("a corpus") {
            target(&fs::read(entry.expect("an entry").path()).expect("an input"));
            replayed += 1;
        }
        assert!(replayed >= 10, "the corpus of {corpus} has {replayed} inputs");
    }

    #[test]
    fn what_signaling_was_fuzzed_with_is_survived() {
        replay("signaling", super::signaling);
    }

    #[test]
    fn what_tokens_were_fuzzed_with_is_survived() {
        replay("token", super::token);
    }
}
