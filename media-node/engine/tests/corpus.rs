//! What the fuzz targets were fed is survived by every build: their corpora, replayed.

mod support;
#[path = "../../../fuzz/src/engine.rs"]
#[allow(unreachable_pub)] // the fuzz targets' crate exports it
mod targets;

use std::fs;
use std::path::Path;

fn replay(corpus: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(corpus);
    let mut replayed = 0;
    for entry in fs::read_dir(folder).expect("a corpus") {
        target(&fs::read(entry.expect("an entry").path()).expect("an input"));
        replayed += 1;
    }
    assert!(replayed > 0, "the corpus of {corpus} is empty");
}

#[test]
fn checks() {
    replay("stun", targets::stun);
}

#[test]
fn frames() {
    replay("framing", targets::framing);
}

#[test]
fn voice() {
    replay("rtp", targets::rtp);
}

#[test]
fn reports() {
    replay("rtcp", targets::rtcp);
}
