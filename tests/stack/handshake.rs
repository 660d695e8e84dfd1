//! The handshake: a token in three places, and every refusal before the upgrade (section 1).

use anyhow::{Result, ensure};
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use voiceping_testkit::signaling::Signaling;

use crate::phone::join;
use crate::process::{Process, SECRET, in_seconds, sign, token, voiceping};

/// A handshake with these headers.
fn request(url: &str, headers: &[(&'static str, &str)]) -> Result<Request> {
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse()?);
    }
    Ok(request)
}

/// A handshake that is refused: status, body, and `Retry-After`.
async fn refused(url: &str, headers: &[(&'static str, &str)]) -> Result<(u16, String, Option<u64>)> {
    use tokio_tungstenite::tungstenite::Error;
    let error = Signaling::handshake(request(url, headers)?).await.expect_err("refused");
    let Some(Error::Http(response)) = error.downcast_ref::<Error>() else { return Err(error) };
    let retry_after = response.headers().get("retry-after").map(|seconds| seconds.to_str()).transpose()?;
    let body = response.body().clone().unwrap_or_default();
    Ok((response.status().as_u16(), String::from_utf8(body)?, retry_after.map(str::parse).transpose()?))
}

fn unauthorized(text: &str) -> (u16, String, Option<u64>) {
    (401, format!("Unauthorized: {text}"), None)
}

#[tokio::test]
async fn a_token_is_found_in_each_place_and_the_first_one_counts() -> Result<()> {
    let server = Process::start(&[]).await?;
    let (url, good) = (server.url(), token("alice", &["lobby"]));
    let bearer = format!("Bearer {good}");
    let with_query = format!("{url}?token={good}");
    let bad_query = format!("{url}?token=bad");
    let offered = format!("voiceping, {good}");
    let prefixed = format!("voiceping, token-{good}");
    let reversed = format!("{good}, voiceping");
    for (url, headers, echoed) in [
        (&url, vec![("authorization", bearer.as_str())], None),
        (&with_query, vec![], None),
        (&url, vec![("sec-websocket-protocol", offered.as_str())], Some("voiceping")),
        (&url, vec![("sec-websocket-protocol", prefixed.as_str())], Some("voiceping")),
        (&url, vec![("sec-websocket-protocol", reversed.as_str())], Some("voiceping")),
        // The header before the query, the query before the subprotocol.
        (&bad_query, vec![("authorization", bearer.as_str())], None),
        (&with_query, vec![("sec-websocket-protocol", "voiceping, bad")], Some("voiceping")),
    ] {
        let (mut socket, response) = Signaling::handshake(request(url, &headers)?).await?;
        let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str()).transpose()?;
        ensure!(protocol == echoed, "{headers:?} is answered with {protocol:?}");
        let list = socket.push().await?;
        let data = json!({"channels": ["lobby"], "role": "GENERAL", "globalRole": "NONE"});
        assert_eq!(list, json!({"type": "channel-list", "data": data}));
        join(&mut socket, "lobby").await?;
    }
    let bad = refused(&with_query, &[("authorization", "Bearer bad")]).await?;
    assert_eq!(bad, unauthorized("Invalid or expired token"));
    Ok(())
}

#[tokio::test]
async fn what_is_no_good_token_is_refused_with_its_reason() -> Result<()> {
    let server = Process::start(&[]).await?;
    let url = server.url();
    let with = |token: &str| format!("{url}?token={token}");
    assert_eq!(refused(&url, &[]).await?, unauthorized("Missing token"));
    assert_eq!(refused(&url, &[("sec-websocket-protocol", "voiceping")]).await?, unauthorized("Missing token"));

    let exp = in_seconds(60);
    for claims in [
        json!({"userName": "Alice", "exp": exp}),
        json!({"userId": "alice", "exp": exp}),
        json!({"userId": "", "userName": "Alice", "exp": exp}),
    ] {
        assert_eq!(refused(&with(&sign(&claims)), &[]).await?, unauthorized("Invalid token payload"), "{claims}");
    }
    let alice = |more: serde_json::Value| {
        let mut claims = json!({"userId": "alice", "userName": "Alice", "exp": exp});
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        sign(&claims)
    };
    let other_key = {
        let key = jsonwebtoken::EncodingKey::from_secret(b"another secret, which is quite as long as ours");
        let claims = json!({"userId": "alice", "userName": "Alice", "exp": exp});
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?
    };
    let other_algorithm = {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let claims = json!({"userId": "alice", "userName": "Alice", "exp": exp});
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512), &claims, &key)?
    };
    // {"alg":"none","typ":"JWT"}, and no signature
    let unsigned = {
        let good = alice(json!({}));
        let claims = good.split('.').nth(1).expect("claims");
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    };
    for (token, what) in [
        ("nonsense".to_owned(), "no token at all"),
        (other_key, "another key"),
        (other_algorithm, "another algorithm"),
        (unsigned, "no signature"),
        (alice(json!({"exp": in_seconds(-1)})), "expired"),
        (alice(json!({"exp": null})), "never expires"),
        (alice(json!({"nbf": in_seconds(600)})), "not yet valid"),
    ] {
        assert_eq!(refused(&with(&token), &[]).await?, unauthorized("Invalid or expired token"), "{what}");
    }
    // All of that has cost nobody anything.
    server.socket("alice", &["lobby"]).await?;
    Ok(())
}

#[tokio::test]
async fn audience_and_issuer_are_asked_for_where_they_are_configured() -> Result<()> {
    let server = Process::start(&["--jwt-issuer", "us", "--jwt-audience", "voice"]).await?;
    let claims = |iss: &str, aud: &str| {
        let claims = json!({"userId": "a", "userName": "A", "exp": in_seconds(60), "iss": iss, "aud": aud});
        format!("{}?token={}", server.url(), sign(&claims))
    };
    for url in [claims("them", "voice"), claims("us", "mail"), format!("{}?token={}", server.url(), token("a", &[]))] {
        assert_eq!(refused(&url, &[]).await?, unauthorized("Invalid or expired token"));
    }
    Signaling::handshake(request(&claims("us", "voice"), &[])?).await?;
    Ok(())
}

#[tokio::test]
async fn a_role_comes_from_the_claims() -> Result<()> {
    let server = Process::start(&[]).await?;
    for (more, role, global) in [
        (json!({"globalRole": "ADMIN", "role": "DISPATCH"}), "ADMIN", "ADMIN"),
        (json!({"role": "DISPATCH"}), "DISPATCH", "NONE"),
        (json!({"eventRole": "DISPATCH", "role": "USER"}), "DISPATCH", "NONE"),
        (json!({"eventRole": "USER", "role": "DISPATCH"}), "GENERAL", "NONE"),
        (json!({"role": "ADMIN"}), "GENERAL", "NONE"),
    ] {
        let mut claims = json!({"userId": "a", "userName": "A", "channelIds": [], "exp": in_seconds(60)});
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let url = format!("{}?token={}", server.url(), sign(&claims));
        let (mut socket, _) = Signaling::handshake(request(&url, &[])?).await?;
        let list = socket.push_of("channel-list").await?;
        assert_eq!((&list["role"], &list["globalRole"]), (&json!(role), &json!(global)), "{more}");
        // Only an administrator may join what the token does not list.
        let joined = socket.request("join-channel", json!({"channelId": "anywhere"})).await?;
        assert_eq!(joined["type"] == "join-channel", role == "ADMIN", "{joined}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_expires_ends_its_socket() -> Result<()> {
    let server = Process::start(&[]).await?;
    let claims = json!({"userId": "a", "userName": "A", "channelIds": ["lobby"], "exp": in_seconds(8)});
    let mut short = Signaling::connect(&server.url(), &sign(&claims)).await?;
    join(&mut short, "lobby").await?;
    let mut other = server.member("bob", "lobby").await?;
    short.ok("ptt-start", json!({"channelId": "lobby"})).await?;
    assert_eq!(short.closed().await?.map(|(code, _)| code), Some(4001));
    // And its floor, and its membership.
    other.push_of("speaker-changed").await?;
    assert_eq!(other.push_of("speaker-changed").await?["isBusy"], false);
    assert_eq!(other.push_of("channel-state").await?["action"], "user-disconnected");
    other.ok("ptt-start", json!({"channelId": "lobby"})).await?;
    Ok(())
}

#[tokio::test]
async fn too_many_attempts_and_too_many_sockets_are_told_to_come_back() -> Result<()> {
    let server = Process::start(&["--connect-rate", "1", "--connect-burst", "3", "--max-sockets", "2"]).await?;
    let url = format!("{}?token={}", server.url(), token("alice", &["lobby"]));
    let (_first, _second) = (Signaling::handshake(url.as_str()).await?, Signaling::handshake(url.as_str()).await?);
    let (status, body, retry_after) = refused(&url, &[]).await?;
    assert_eq!((status, body.as_str()), (503, "Service unavailable"));
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    // There is room for another attempt once a second, and a slow machine may take that long for one.
    let (body, retry_after) = loop {
        let (status, body, retry_after) = refused(&url, &[]).await?;
        if status != 503 {
            assert_eq!(status, 429);
            break (body, retry_after);
        }
    };
    assert_eq!(body, "Too many connection attempts");
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    Ok(())
}

#[tokio::test]
async fn only_the_exact_path_is_a_socket() -> Result<()> {
    let server = Process::start(&[]).await?;
    let base = server.url();
    for path in ["/", "x", "//"] {
        let (status, ..) = refused(&format!("{base}{path}?token={}", token("alice", &[])), &[]).await?;
        assert!(status >= 400, "{path}: {status}");
    }
    // Without an upgrade it is no socket either, with a token or not.
    assert_eq!(server.get("/ws").await?, (401, "Unauthorized: Missing token".to_owned()));
    let (status, _) = server.get(&format!("/ws?token={}", token("alice", &[]))).await?;
    assert!((400..500).contains(&status), "{status}");
    Ok(())
}

#[tokio::test]
async fn the_token_command_prints_a_token_that_the_server_accepts() -> Result<()> {
    let server = Process::start(&[]).await?;
    let arguments =
        ["token", "--user", "alice", "--name", "Alice A.", "--channel", "lobby", "--channel", "stage", "--ttl", "2m"];
    let printed = voiceping(&arguments).args(["--role", "dispatch", "--jwt-secret", SECRET]).output().await?;
    ensure!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
    let token = String::from_utf8(printed.stdout)?;
    assert_eq!(token.trim_end(), token.strip_suffix('\n').expect("one line"));
    let url = format!("{}?token={}", server.url(), token.trim_end());
    let (mut socket, _) = Signaling::handshake(url.as_str()).await?;
    let list = socket.push_of("channel-list").await?;
    assert_eq!(list, json!({"channels": ["lobby", "stage"], "role": "DISPATCH", "globalRole": "NONE"}));
    let state = crate::phone::press(&mut { join(&mut socket, "stage").await.map(|_| socket)? }, "stage").await?;
    assert_eq!((&state["currentSpeaker"], &state["speakerName"]), (&json!("alice"), &json!("Alice A.")));

    // With the secret from the environment, and refused without one.
    let printed = voiceping(&["token", "--user", "bob"]).env("VOICEPING_JWT_SECRET", SECRET).output().await?;
    let bob = format!("{}?token={}", server.url(), String::from_utf8(printed.stdout)?.trim_end());
    Signaling::handshake(bob.as_str()).await?;
    let refused = voiceping(&["token", "--user", "bob"]).output().await?;
    ensure!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    Ok(())
}
