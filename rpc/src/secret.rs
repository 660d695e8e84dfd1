//! A shared secret, proven in each call by both sides and never sent.
//!
//! The caller sends a nonce and an HMAC-SHA256 (RFC 2104) over it and the method's path; the answer carries an HMAC over
//! the same nonce. Bodies are not covered: this tells who may call, TLS protects what is said.

use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::hmac;
use http::HeaderValue;

/// In requests and answers.
pub(crate) const HEADER: &str = "voiceping-auth";

const NONCE_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

#[derive(Clone)]
pub(crate) struct Secret(Arc<hmac::Key>);

/// What a call is made with: what to send, and what the answer must carry.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) sent: HeaderValue,
    pub(crate) expected: HeaderValue,
}

impl Secret {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Proves to whoever serves `path` that the secret is known here.
    pub(crate) fn prove(&self, path: &str) -> Proof {
        let nonce = hex(&rand::random::<[u8; NONCE_BYTES]>());
        let sent = format!("{nonce}{}", hex(&self.mac("call", &nonce, path)));
        Proof { sent: text(&sent), expected: self.answer(&nonce) }
    }

    /// Checks a call's proof. What the answer must carry, if it is a good one.
    pub(crate) fn check(&self, path: &str, sent: &HeaderValue) -> Option<HeaderValue> {
        let sent = sent.to_str().ok().filter(|sent| sent.len() == 2 * (NONCE_BYTES + MAC_BYTES))?;
        let (nonce, mac) = sent.split_at_checked(2 * NONCE_BYTES)?;
        let expected = hex(&self.mac("call", nonce, path));
        same(mac.as_bytes(), expected.as_bytes()).then(|| self.answer(nonce))
    }

    fn answer(&self, nonce: &str) -> HeaderValue {
        text(&hex(&self.mac("answer", nonce, "")))
    }

    fn mac(&self, what: &str, nonce: &str, path: &str) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        // The parts before the last have a fixed length: nothing can be read as something else.
        context.update(what.as_bytes());
        context.update(b":");
        context.update(nonce.as_bytes());
        context.update(path.as_bytes());
        context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

/// In a time that does not tell where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal digits are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_prove_that_they_know_it() {
        let (ours, same_one, other) = (Secret::new(b"one"), Secret::new(b"one"), Secret::new(b"another"));
        let proof = ours.prove("/service/method");
        assert_eq!(same_one.check("/service/method", &proof.sent).as_ref(), Some(&proof.expected));
        assert_eq!(other.check("/service/method", &proof.sent), None);
        assert_eq!(same_one.check("/service/other", &proof.sent), None, "it is good for one method");
        assert_ne!(ours.prove("/service/method").sent, proof.sent, "each call has its own");
        assert_ne!(proof.expected, proof.sent, "the question is no answer");
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let secret = Secret::new(b"one");
        let proof = secret.prove("/p");
        let sent = proof.sent.to_str().expect("text").to_owned();
        let mut flipped = sent.clone().into_bytes();
        flipped[95] = if flipped[95] == b'0' { b'1' } else { b'0' };
        for bad in
            [b"".as_slice(), b"x", &sent.as_bytes()[1..], &[sent.as_bytes(), b"0"].concat(), &flipped, &[0xff; 96]]
        {
            let bad = HeaderValue::from_bytes(bad).expect("a value");
            assert_eq!(secret.check("/p", &bad), None, "{bad:?}");
        }
    }
}
