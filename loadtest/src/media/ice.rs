//! The controlling side of ICE towards a lite agent with one candidate (RFC 8445 section 7): a check, repeated until it is
//! answered, then kept up for consent (RFC 7675).

use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

/// Between checks of a path that works, as in browsers.
const CONSENT: Duration = Duration::from_millis(2500);

/// Until the first repetition of a check; doubled each time (RFC 8489 section 6.2.1 would start later, browsers do not).
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Unanswered for so long, a path is lost (RFC 7675 section 5.1).
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Priority of a peer-reflexive host candidate (RFC 8445 section 5.1.2.1).
const PRIORITY: u32 = 110 << 24 | 65535 << 8 | 255;

/// One transport's.
#[derive(Debug)]
pub(super) struct Checks {
    username: String,
    password: String,
    tie_breaker: u64,
    transaction: Option<TransactionId>,
    wait: Duration,
    /// When a check was answered, or when the first one was sent.
    heard: Instant,
}

/// What is to be done at a timeout.
#[derive(Debug)]
pub(super) enum Due {
    Send(Vec<u8>),
    Lost,
}

impl Checks {
    pub(super) fn new(now: Instant, server_ufrag: &str, password: &str) -> Self {
        let username = format!("{server_ufrag}:load");
        let tie_breaker = rand::random();
        Self { username, password: password.to_owned(), tie_breaker, transaction: None, wait: FIRST_WAIT, heard: now }
    }

    /// It is time for a check. Answers when the next one is due.
    pub(super) fn due(&mut self, now: Instant) -> (Due, Instant) {
        if now.saturating_duration_since(self.heard) > LOST_AFTER {
            return (Due::Lost, now);
        }
        let next = now + self.wait;
        if self.wait < CONSENT {
            self.wait = (self.wait * 2).min(CONSENT);
        }
        match self.request() {
            Some(request) => (Due::Send(request), next),
            None => (Due::Lost, now),
        }
    }

    /// Whether a datagram answers the last check.
    pub(super) fn is_answer(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        if message.decode().is_err()
            || message.typ != BINDING_SUCCESS
            || Some(message.transaction_id) != self.transaction
            || MessageIntegrity::check(&mut message, self.password.as_bytes(), AwsLcRsProvider::new().crypto()).is_err()
        {
            return false;
        }
        self.transaction = None;
        (self.heard, self.wait) = (now, CONSENT);
        true
    }

    /// `None`: there is no randomness, or it cannot be encoded.
    fn request(&mut self) -> Option<Vec<u8>> {
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.new_transaction_id().ok()?;
        message.write_header();
        TextAttribute::new(ATTR_USERNAME, self.username.clone()).add_to(&mut message).ok()?;
        message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
        message.add(ATTR_ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        message.add(ATTR_USE_CANDIDATE, &[]);
        let provider = AwsLcRsProvider::new();
        MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), provider.crypto())
            .add_to(&mut message)
            .ok()?;
        FINGERPRINT.add_to(&mut message).ok()?;
        self.transaction = Some(message.transaction_id);
        Some(message.raw)
    }
}

#[cfg(test)]
mod tests {
    use voiceping_engine::stun::BindingRequest;

    use super::*;

    fn sent(due: Due) -> Vec<u8> {
        match due {
            Due::Send(request) => request,
            Due::Lost => panic!("a request is due"),
        }
    }

    #[test]
    fn the_engine_takes_the_check_and_its_answer_is_taken() {
        let now = Instant::now();
        let mut checks = Checks::new(now, "server", "secret");
        let (due, next) = checks.due(now);
        assert_eq!(next, now + FIRST_WAIT);
        let mut request = BindingRequest::parse(&sent(due)).expect("well-formed");
        assert!(request.is_authentic("secret") && request.use_candidate());
        assert_eq!(request.local_ufrag(), "server");
        let source = "127.0.0.1:9".parse().expect("valid");
        assert!(!checks.is_answer(now, &request.success("guess", source).expect("encodes")), "another's");
        let answer = request.success("secret", source).expect("encodes");
        assert!(checks.is_answer(now, &answer));
        assert!(!checks.is_answer(now, &answer), "once");
        assert_eq!(checks.due(now).1, now + CONSENT);
    }

    #[test]
    fn a_silent_server_is_asked_again_and_given_up() {
        let start = Instant::now();
        let mut checks = Checks::new(start, "server", "secret");
        let (mut now, mut count) = (start, 0);
        loop {
            let (due, next) = checks.due(now);
            if matches!(due, Due::Lost) {
                break;
            }
            (now, count) = (next, count + 1);
        }
        assert!(now - start > LOST_AFTER && now - start < LOST_AFTER * 2);
        assert!((10..30).contains(&count), "{count} checks");
    }
}
