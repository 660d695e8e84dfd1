//! The certificates that this process shows and trusts, and how long they are good for.
//!
//! Told by whoever reads the files, at the start and after each change. A certificate that nobody renews is the outage that
//! can be known of weeks before.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use x509_cert::Certificate;

use crate::label;
use crate::metric::Gauge;

/// How long the certificates in use are good for.
pub static REMAINING: Gauge = Gauge::new(
    "voiceping.tls.certificate.remaining",
    "s",
    &["use"],
    "Until the certificate in use ends; the first to end of a file with several",
);

crate::declared!(REMAINING);

/// When they end, in seconds of the Unix epoch.
static ENDS: Mutex<BTreeMap<&'static str, f64>> = Mutex::new(BTreeMap::new());

/// Certificates in PEM are in use for this from now on, in the place of those before. What cannot be read is left to those
/// who use it.
pub fn in_use(purpose: &'static str, pem: &[u8]) {
    let Ok(chain) = Certificate::load_pem_chain(pem) else { return };
    let ends = chain.iter().map(|certificate| {
        let not_after = certificate.tbs_certificate().validity().not_after;
        not_after.to_unix_duration().as_secs_f64()
    });
    if let Some(end) = ends.min_by(f64::total_cmp) {
        ENDS.lock().unwrap_or_else(PoisonError::into_inner).insert(purpose, end);
    }
}

/// Answers from now on.
pub fn observe() {
    REMAINING.observe(|observe| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for (purpose, end) in ENDS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            observe(end - now, &[label("use", purpose)]);
        }
    });
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pem(year: i32) -> String {
        let mut params = CertificateParams::new(["media-node.voiceping".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 2);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").pem()
    }

    #[test]
    fn of_a_chain_the_first_to_end_counts_and_of_what_is_read_the_last() {
        let end = |purpose| ENDS.lock().expect("no panic").get(purpose).copied();
        in_use("a test", format!("{}{}", pem(2031), pem(2030)).as_bytes());
        let known = end("a test");
        assert_eq!(known, Some(1_893_542_400.0), "2030-01-02");
        for bad in ["", "\n", "no certificate", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"] {
            in_use("a test", bad.as_bytes());
            assert_eq!(end("a test"), known, "{bad}");
        }
        in_use("a test", pem(2032).as_bytes());
        assert!(end("a test") > known);
    }
}
