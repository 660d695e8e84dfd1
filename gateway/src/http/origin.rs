//! Which pages may open a socket. Browsers say where a page came from; other clients say nothing, and bring a token as well.
//!
//! Asked before anything else of a handshake. A page of another origin has no token of ours, so this is the second lock and
//! not the first.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

/// Settings of pages.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pages")]
#[allow(rustdoc::bare_urls, reason = "a help text is shown as it is")]
#[group(skip)]
pub struct OriginConfig {
    /// Origins whose pages may connect, as https://talk.example.org; several with commas, or * for all. Without it, pages that
    /// this gateway's own address has served
    #[arg(long, env = "VOICEPING_ALLOWED_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub allowed_origins: Vec<String>,
}

impl OriginConfig {
    /// May the page of this handshake connect?
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
        if self.allowed_origins.is_empty() {
            // Without its scheme: a proxy in front of us may have ended TLS.
            let page = origin.split_once("://").map(|(_, page)| page);
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            page.zip(host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
        } else {
            self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
        }
    }
}

fn origin(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let host = text.split_once("://").map(|(_, host)| host);
    if text == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' '])) {
        Ok(text.to_owned())
    } else {
        Err("it is no origin; write it like https://talk.example.org".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &[&str], headers: &[(axum::http::HeaderName, &str)]) -> bool {
        let allowed_origins = allowed.iter().map(|text| origin(text).expect("an origin")).collect();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        OriginConfig { allowed_origins }.allows(&headers.collect())
    }

    #[test]
    fn a_page_of_ones_own_may_connect_and_who_is_no_browser() {
        let host = (HOST, "talk.example.org:3000");
        assert!(allows(&[], std::slice::from_ref(&host)));
        for own in ["https://talk.example.org:3000", "http://TALK.example.org:3000"] {
            assert!(allows(&[], &[host.clone(), (ORIGIN, own)]));
        }
        for other in ["https://evil.example", "https://talk.example.org", "null", "", "talk.example.org:3000"] {
            assert!(!allows(&[], &[host.clone(), (ORIGIN, other)]), "{other}");
        }
        assert!(!allows(&[], &[(ORIGIN, "https://talk.example.org:3000")]), "it must say whom it means");
        let two = [host.clone(), (ORIGIN, "https://talk.example.org:3000"), (ORIGIN, "https://evil.example")];
        assert!(!allows(&["*"], &two));
    }

    #[test]
    fn a_list_says_who_may() {
        let list = ["https://a.example/", "https://b.example:8443"];
        let host = (HOST, "talk.example.org");
        let may = |page| allows(&list, &[host.clone(), (ORIGIN, page)]);
        assert!(may("https://a.example") && may("https://b.example:8443"));
        assert!(!may("http://a.example") && !may("https://b.example") && !may("https://talk.example.org"));
        assert!(allows(&["*"], &[host.clone(), (ORIGIN, "https://anything.example")]));
        for bad in ["a.example", "https://", "https://a.example/page"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
