//! Credentials for TURN servers, made for one client and for a limited time.
//!
//! The scheme is TURN REST (draft-uberti-behave-turn-rest-00), as coturn has it (`use-auth-secret`): the name is the time
//! when it ends and the user, the password an HMAC-SHA1 over the name with a secret that the servers know. Nothing is stored
//! and nobody is asked. Used where a transport is created; nothing is given where no server is configured.

use std::path::PathBuf;
use std::sync::RwLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};
use voiceping_state::UserId;

use crate::files::{self, Files};

/// As much as the HMAC's output.
const MIN_SECRET_BYTES: usize = 16;

/// The longest part of a user's id that goes into a name. A whole one may have 509 bytes (RFC 8489 section 14.3).
const MAX_USER: usize = 128;

/// Settings of the TURN servers.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TURN servers")]
#[group(skip)]
pub struct TurnConfig {
    /// TURN servers that clients are told of, as turn:host:3478?transport=udp or turns:host:5349; several with commas
    #[arg(long, env = "VOICEPING_TURN_URLS", value_name = "URLS", value_delimiter = ',', value_parser = url)]
    pub turn_urls: Vec<String>,

    /// Secret that the TURN servers share with the gateways (coturn: static-auth-secret), at least 16 bytes
    #[arg(long, env = "VOICEPING_TURN_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub turn_secret: Option<SecretString>,

    /// File with that secret, read again when it changes. Of several lines the first is used: the servers know the new
    /// secret and the last one while it is replaced
    #[arg(long, env = "VOICEPING_TURN_SECRET_FILE", value_name = "FILE", conflicts_with = "turn_secret")]
    pub turn_secret_file: Option<PathBuf>,

    /// How long credentials are good. Longer than people stay: a server refuses to go on with a client after that
    #[arg(long, env = "VOICEPING_TURN_TTL", value_name = "TIME", default_value = "12h", value_parser = humantime::parse_duration)]
    pub turn_ttl: Duration,
}

/// The TURN servers of a deployment.
#[derive(Debug)]
pub(crate) struct Turn {
    urls: Vec<String>,
    ttl: Duration,
    key: RwLock<hmac::Key>,
    file: Option<Files>,
}

impl Turn {
    /// `None` without servers.
    pub(crate) fn from_config(config: &TurnConfig) -> anyhow::Result<Option<Self>> {
        let TurnConfig { turn_urls, turn_secret, turn_secret_file, turn_ttl } = config;
        if turn_urls.is_empty() {
            return Ok(None);
        }
        ensure!(!turn_ttl.is_zero(), "--turn-ttl must be longer than nothing");
        let (key, file) = match (turn_secret, turn_secret_file) {
            (Some(secret), _) => {
                let bytes = secret.expose_secret().len();
                ensure!(
                    bytes >= MIN_SECRET_BYTES,
                    "--turn-secret (VOICEPING_TURN_SECRET) has {bytes} bytes; at least {MIN_SECRET_BYTES} are needed"
                );
                (key(&SecretSlice::from(secret.expose_secret().as_bytes().to_vec())), None)
            }
            (None, Some(path)) => {
                let (file, key) = Files::open("--turn-secret-file", &[path], newest)?;
                (key, Some(file))
            }
            (None, None) => bail!("--turn-urls needs --turn-secret or --turn-secret-file"),
        };
        Ok(Some(Self { urls: turn_urls.clone(), ttl: *turn_ttl, key: RwLock::new(key), file }))
    }

    /// What a user's client is given, as `RTCIceServer`s.
    pub(crate) fn ice_servers(&self, user: &UserId) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.ice_servers_until(user, now.saturating_add(self.ttl).as_secs())
    }

    fn ice_servers_until(&self, user: &UserId, end: u64) -> Value {
        let name = format!("{end}:{}", plain(user.as_str()));
        let password = hmac::sign(&self.key.read().expect("nothing panics under the lock"), name.as_bytes());
        json!([{"urls": self.urls, "username": name, "credential": STANDARD.encode(password.as_ref())}])
    }

    /// Takes in a new secret.
    pub(crate) fn look_at_files(&self) {
        if let Some(key) = self.file.as_ref().and_then(|file| file.changed(newest)) {
            *self.key.write().expect("nothing panics under the lock") = key;
        }
    }
}

/// What a server's log can show and a name can hold: a server splits it at the first colon.
fn plain(user: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-._@+".contains(*c);
    user.chars().take(MAX_USER).map(|c| if is_plain(&c) { c } else { '_' }).collect()
}

fn newest(contents: &[Vec<u8>]) -> anyhow::Result<hmac::Key> {
    Ok(key(&files::secrets(&contents[0], MIN_SECRET_BYTES)?[0]))
}

fn key(secret: &SecretSlice<u8>) -> hmac::Key {
    // What the scheme says, and servers know. HMAC does not need more of SHA-1 than it has.
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose_secret())
}

fn url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let rest = text.strip_prefix("turn:").or_else(|| text.strip_prefix("turns:"));
    let rest = rest.ok_or("it begins with neither turn: nor turns:")?;
    let is_plain = !rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@');
    if rest.is_empty() || rest.starts_with(['?', ':']) || !is_plain {
        return Err("it names no server; write it like turn:turn.example.org:3478?transport=udp".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const URL: &str = "turn:turn.example.org:3478?transport=udp";

    fn config(secret: &str) -> TurnConfig {
        let turn_urls = vec![URL.to_owned(), "turns:turn.example.org".to_owned()];
        TurnConfig {
            turn_urls,
            turn_secret: Some(secret.into()),
            turn_ttl: Duration::from_secs(60),
            ..Default::default()
        }
    }

    #[test]
    fn a_client_gets_all_servers_with_a_name_that_ends() {
        let turn = Turn::from_config(&config("north-of-the-wall")).expect("is good").expect("servers");
        let servers = turn.ice_servers_until(&"alice".into(), 1_800_000_000);
        assert_eq!(servers[0]["urls"], json!([URL, "turns:turn.example.org"]));
        assert_eq!(servers[0]["username"], "1800000000:alice");
        // printf '1800000000:alice' | openssl dgst -sha1 -hmac north-of-the-wall -binary | base64
        assert_eq!(servers[0]["credential"], "12rc53221+7B9OZTL4ymxBn3D8s=");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let name = turn.ice_servers(&"alice".into())[0]["username"].as_str().expect("a name").to_owned();
        let end: u64 = name.split(':').next().expect("a time").parse().expect("a number");
        assert!((now + 59..=now + 70).contains(&end));
    }

    #[test]
    fn a_users_id_cannot_change_the_time() {
        let turn = Turn::from_config(&config("north-of-the-wall")).expect("is good").expect("servers");
        let name =
            |user: &str| turn.ice_servers_until(&user.into(), 7)[0]["username"].as_str().expect("text").to_owned();
        assert_eq!(name("9999999999:root"), "7:9999999999_root");
        assert_eq!(name("Zoë\n"), "7:Zo__");
        assert_eq!(name(&"x".repeat(256)).len(), 2 + MAX_USER);
    }

    #[test]
    fn a_secret_that_changes_is_used_and_the_first_line_is_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, "first-secret-of-all").expect("writes");
        let config = TurnConfig { turn_secret: None, turn_secret_file: Some(path.clone()), ..config("") };
        let turn = Turn::from_config(&config).expect("is good").expect("servers");
        let password = |turn: &Turn| turn.ice_servers_until(&"a".into(), 7)[0]["credential"].clone();
        let first = password(&turn);
        fs::write(&path, "second-secret-of-all\nfirst-secret-of-all\n").expect("writes");
        turn.look_at_files();
        assert_ne!(password(&turn), first);
        let alone = Turn::from_config(&self::config("second-secret-of-all")).expect("is good").expect("servers");
        assert_eq!(password(&turn), password(&alone));
    }

    #[test]
    fn without_servers_nothing_is_given_and_without_a_secret_nothing_starts() {
        assert!(Turn::from_config(&TurnConfig::default()).expect("is good").is_none());
        for bad in [TurnConfig { turn_secret: None, ..config("") }, config("short")] {
            let error = Turn::from_config(&bad).expect_err("refused").to_string();
            assert!(error.contains("--turn-secret"), "{error}");
        }
        for bad in ["", "turn:", "stun:host", "turn://host", "turn:user@host", "turn:ho st", "turn::3478"] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(url("turn:[2001:db8::1]:3478?transport=tcp").is_ok());
    }
}
