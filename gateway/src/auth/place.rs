//! Where a handshake carries its token: three places, looked at in order.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Uri};

/// The subprotocol that browsers offer beside the token, and the only one that is ever echoed.
pub(crate) const SUBPROTOCOL: &str = "voiceping";

/// The token of a handshake: `Authorization: Bearer`, the query's `token`, or the first offered subprotocol that is not
/// `voiceping`, without its optional prefix `token-`.
pub(crate) fn find_token(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    bearer(headers).map(str::to_owned).or_else(|| query(uri)).or_else(|| subprotocol(headers).map(str::to_owned))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn query(uri: &Uri) -> Option<String> {
    // A token is base64url and dots: nothing in it needs escapes, and what is escaped all the same is not a token.
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.strip_prefix("token="))
        .find(|token| !token.is_empty())
        .map(str::to_owned)
}

fn subprotocol(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let token = offered.flat_map(|value| value.split(',')).map(str::trim).find(|entry| *entry != SUBPROTOCOL)?;
    let token = token.strip_prefix("token-").unwrap_or(token);
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(uri: &str, headers: &[(http::HeaderName, &str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header"))).collect();
        find_token(&uri.parse().expect("a URI"), &headers)
    }

    #[test]
    fn each_place_is_found() {
        assert_eq!(found("/ws", &[(AUTHORIZATION, "Bearer a.b.c")]).as_deref(), Some("a.b.c"));
        assert_eq!(found("/ws", &[(AUTHORIZATION, "bearer  a.b.c ")]).as_deref(), Some("a.b.c"));
        assert_eq!(found("/ws?x=1&token=a.b.c", &[]).as_deref(), Some("a.b.c"));
        for offered in ["voiceping, a.b.c", "a.b.c,voiceping", "token-a.b.c", "voiceping,token-a.b.c, other"] {
            assert_eq!(found("/ws", &[(SEC_WEBSOCKET_PROTOCOL, offered)]).as_deref(), Some("a.b.c"), "{offered}");
        }
    }

    #[test]
    fn the_order_is_header_query_subprotocol() {
        let header = (AUTHORIZATION, "Bearer first");
        let protocol = (SEC_WEBSOCKET_PROTOCOL, "voiceping, third");
        assert_eq!(found("/ws?token=second", &[header, protocol.clone()]).as_deref(), Some("first"));
        assert_eq!(found("/ws?token=second", std::slice::from_ref(&protocol)).as_deref(), Some("second"));
        assert_eq!(found("/ws?token=", &[protocol]).as_deref(), Some("third"));
    }

    #[test]
    fn what_is_no_token_is_not_found() {
        assert_eq!(found("/ws", &[]), None);
        assert_eq!(found("/ws?tokens=x", &[(AUTHORIZATION, "Basic eA==")]), None);
        assert_eq!(found("/ws", &[(AUTHORIZATION, "Bearer")]), None);
        assert_eq!(found("/ws", &[(SEC_WEBSOCKET_PROTOCOL, "voiceping")]), None);
        assert_eq!(found("/ws", &[(SEC_WEBSOCKET_PROTOCOL, "voiceping, token-")]), None);
    }
}
