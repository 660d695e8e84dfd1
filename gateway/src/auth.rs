//! Who is at the other end: keys, claims and roles (PROTOCOL section 1).
//!
//! [`Keys`] turns a token into an [`Identity`]; the handshake calls it once per socket, the development sign-in and the
//! `token` command sign with it. Which key may verify a token follows from the token's `alg` and `kid`, but the algorithm of
//! each key is ours to say: a secret is for HS256, a public key for the one algorithm of its type, so that none can be used
//! as something else. Never logs a token, a secret, or why exactly a token was refused to the outside.

mod claims;
mod config;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod jwks;
mod place;
mod provider;
mod tickets;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use voiceping_state::{ChannelId, UserId};

use crate::files::{self, Files};
use crate::session::ticket::Ticket;

pub use claims::{Claims, Role};
pub use config::{AuthConfig, SecretConfig};
pub(crate) use place::{SUBPROTOCOL, find_token};

use fetch::Source;
use jwks::PublicKey;
use provider::Provider;
use tickets::TicketKeys;

/// The shortest secret that is accepted: RFC 7518 section 3.2 asks for a key as long as the hash's output.
pub const MIN_SECRET_BYTES: usize = 32;

/// The longest token that is looked at. Real ones have some hundred bytes, with many channels a few thousand.
const MAX_TOKEN: usize = 8 * 1024;

/// Clocks of machines differ a little; a token from a clock slightly ahead is not a forgery.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(5);

/// The keys that tokens are verified and signed with. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    rules: Rules,
    secrets: RwLock<Arc<Secrets>>,
    secret_file: Option<Files>,
    public: RwLock<Arc<Vec<PublicKey>>>,
    public_file: Option<Files>,
    provider: Option<Provider>,
    /// Tickets are signed with a secret that does not change with those of tokens.
    session_secret: Option<TicketKeys>,
}

/// What every token must say.
#[derive(Debug, Clone)]
struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
}

/// The symmetric secrets, the newest first, and what is derived from them.
struct Secrets {
    keys: Vec<(EncodingKey, DecodingKey)>,
    tickets: TicketKeys,
}

/// A secret that nobody has seen, for one run.
pub fn random_secret() -> SecretSlice<u8> {
    SecretSlice::from(rand::random::<[u8; MIN_SECRET_BYTES]>().to_vec())
}

impl Keys {
    /// Keys of a symmetric secret.
    pub fn hs256(secret: &SecretSlice<u8>, issuer: Option<String>, audience: Option<String>) -> Self {
        Self::of_secrets(std::slice::from_ref(secret), Rules { issuer, audience, leeway: NOT_BEFORE_LEEWAY })
    }

    fn of_secrets(secrets: &[SecretSlice<u8>], rules: Rules) -> Self {
        Self(Arc::new(Inner {
            rules,
            secrets: RwLock::new(Arc::new(Secrets::new(secrets))),
            secret_file: None,
            public: RwLock::default(),
            public_file: None,
            provider: None,
            session_secret: None,
        }))
    }

    /// Keys by configuration; `None` if it names none. What is no good is refused here and not where the setting is read,
    /// because such an error would show a secret.
    pub fn from_config(config: &AuthConfig) -> anyhow::Result<Option<Self>> {
        let SecretConfig { jwt_secret, jwt_secret_file, jwt_issuer, jwt_audience } = &config.secret;
        let mut secrets = Vec::new();
        for (flag, secret) in [("jwt-secret", jwt_secret), ("jwt-previous-secret", &config.jwt_previous_secret)] {
            secrets.extend(secret.as_ref().map(|secret| long_enough(flag, secret)).transpose()?);
        }
        let mut secret_file = None;
        if let Some(path) = jwt_secret_file {
            let opened = Files::open("--jwt-secret-file", &[path], secrets_of)?;
            (secret_file, secrets) = (Some(opened.0), opened.1);
        }
        let (mut public_file, mut public, mut provider) = (None, Vec::new(), None);
        match &config.jwks {
            Some(address) if address.contains("://") => {
                let source = Source::new(address, config.jwks_ca.as_deref());
                provider = Some(Provider::new(source.context("--jwks: the address is no good")?, config.jwks_refresh));
            }
            Some(path) => {
                let opened = Files::open("--jwks", &[Path::new(path)], public_keys_of)?;
                (public_file, public) = (Some(opened.0), opened.1);
            }
            None if secrets.is_empty() => return Ok(None),
            None => {}
        }
        let session_secret = config.session_secret.as_ref().map(|secret| long_enough("session-secret", secret));
        let session_secret = session_secret.transpose()?.map(|secret| TicketKeys::derive(&[secret]));
        let rules = Rules { issuer: jwt_issuer.clone(), audience: jwt_audience.clone(), leeway: config.jwt_leeway };
        Ok(Some(Self(Arc::new(Inner {
            rules,
            secrets: RwLock::new(Arc::new(Secrets::new(&secrets))),
            secret_file,
            public: RwLock::new(Arc::new(public)),
            public_file,
            provider,
            session_secret,
        }))))
    }

    /// The key to sign tokens with; `None` if the settings name none.
    pub fn to_sign(config: &SecretConfig) -> anyhow::Result<Option<Self>> {
        let auth = AuthConfig { secret: config.clone(), jwt_leeway: NOT_BEFORE_LEEWAY, ..AuthConfig::default() };
        Self::from_config(&auth)
    }

    /// Is there a secret to sign tokens with?
    pub fn can_sign(&self) -> bool {
        !self.0.secrets().keys.is_empty()
    }

    /// Can another gateway with the same settings read this one's tickets?
    pub fn can_sign_tickets(&self) -> bool {
        self.0.session_secret.is_some() || self.can_sign()
    }

    /// Who a token speaks for. Waits for the provider if the token names a key that is not known yet.
    pub(crate) async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        match self.0.verify(token) {
            Ok(identity) => Ok(identity),
            Err(Refused::Token(error)) => Err(error),
            Err(Refused::UnknownKey) => {
                if let Some(provider) = &self.0.provider
                    && provider.asked_again().await
                    && let Ok(identity) = self.0.verify(token)
                {
                    return Ok(identity);
                }
                Err(TokenError::Invalid)
            }
        }
    }

    /// Are there keys to verify tokens with? Not before a provider has answered for the first time.
    pub(crate) fn are_there(&self) -> bool {
        self.can_sign() || !self.0.public().is_empty()
    }

    /// Waits until the provider has been asked for the first time, if there is one.
    pub(crate) async fn asked(&self) {
        if let Some(provider) = &self.0.provider {
            provider.asked().await;
        }
    }

    /// Follows the provider until the gateway ends.
    pub(crate) async fn keep(&self, end: CancellationToken) {
        if let Some(provider) = &self.0.provider {
            provider.ask(|keys| self.0.set_public(keys), end).await;
        }
    }

    /// Takes in the files that have changed.
    pub(crate) fn look_at_files(&self) {
        if let Some(secrets) = self.0.secret_file.as_ref().and_then(|file| file.changed(secrets_of)) {
            *self.0.secrets.write().expect("nothing panics under the lock") = Arc::new(Secrets::new(&secrets));
        }
        if let Some(keys) = self.0.public_file.as_ref().and_then(|file| file.changed(public_keys_of)) {
            self.0.set_public(keys);
        }
    }

    /// Signs a token that is valid for `ttl` from now.
    pub fn sign(&self, claims: &Claims, ttl: Duration) -> anyhow::Result<String> {
        let secrets = self.0.secrets();
        let (encoding, _) = secrets.keys.first().context("there is no secret to sign tokens with")?;
        let mut claims = serde_json::to_value(claims)?;
        let now = unix_now();
        claims["iat"] = now.as_secs().into();
        claims["exp"] = now.saturating_add(ttl).as_secs().into();
        for (name, value) in [("iss", &self.0.rules.issuer), ("aud", &self.0.rules.audience)] {
            if let Some(value) = value {
                claims[name] = value.as_str().into();
            }
        }
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, encoding)?)
    }

    /// Signs the ticket of a session.
    pub(crate) fn sign_ticket(&self, ticket: &Ticket, ttl: Duration) -> anyhow::Result<String> {
        self.0.with_tickets(|tickets| tickets.sign(ticket, ttl))
    }

    /// What a ticket says, if it is one of this deployment's and not over.
    pub(crate) fn verify_ticket(&self, ticket: &str) -> Option<Ticket> {
        self.0.with_tickets(|tickets| tickets.verify(ticket))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("rules", &self.0.rules).field("provider", &self.0.provider).finish_non_exhaustive()
    }
}

/// Why a token was not verified.
enum Refused {
    Token(TokenError),
    /// It names a key that is not known. There may be one of that name by now.
    UnknownKey,
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl Inner {
    fn verify(&self, token: &str) -> Result<Identity, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid.into());
        }
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        if header.crit.is_some() {
            // Something that must be understood (RFC 7515 section 4.1.11), and is not.
            return Err(TokenError::Invalid.into());
        }
        let (secrets, public) = (self.secrets(), self.public());
        let keys: Vec<&DecodingKey> = if header.alg == Algorithm::HS256 {
            secrets.keys.iter().map(|(_, decoding)| decoding).collect()
        } else {
            let named = |key: &&PublicKey| header.kid.is_none() || header.kid == key.id;
            let fits = |key: &&PublicKey| key.algorithm == header.alg && named(key);
            public.iter().filter(fits).map(|key| &key.decoding).collect()
        };
        if keys.is_empty() && matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Err(Refused::UnknownKey);
        }
        let validation = self.rules.validation(header.alg);
        let verified = keys
            .into_iter()
            .find_map(|key| jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation).map_err(invalid).ok());
        let identity = Identity::from_claims(verified.ok_or(TokenError::Invalid)?.claims)?;
        // The library's leeway is for `nbf`: a token is over when it says so, as it is on a live socket.
        if identity.expires_in().is_zero() { Err(TokenError::Invalid.into()) } else { Ok(identity) }
    }

    fn with_tickets<T>(&self, work: impl FnOnce(&TicketKeys) -> T) -> T {
        match &self.session_secret {
            Some(tickets) => work(tickets),
            None => work(&self.secrets().tickets),
        }
    }

    fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.secrets.read().expect("nothing panics under the lock"))
    }

    fn public(&self) -> Arc<Vec<PublicKey>> {
        Arc::clone(&self.public.read().expect("nothing panics under the lock"))
    }

    fn set_public(&self, keys: Vec<PublicKey>) {
        let names = |keys: &[PublicKey]| keys.iter().map(|key| (key.id.clone(), key.algorithm)).collect::<Vec<_>>();
        if names(&self.public()) != names(&keys) {
            tracing::info!(?keys, "the keys of the identity provider");
        }
        *self.public.write().expect("nothing panics under the lock") = Arc::new(keys);
    }
}

impl Rules {
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        validation
    }
}

impl Secrets {
    fn new(secrets: &[SecretSlice<u8>]) -> Self {
        let keys = secrets.iter().map(|secret| {
            let secret = secret.expose_secret();
            (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret))
        });
        // Where tokens have no secret, tickets have one of this run: they are good at this gateway.
        let random = secrets.is_empty().then(random_secret);
        let tickets = random
            .as_ref()
            .map_or_else(|| TicketKeys::derive(secrets), |random| TicketKeys::derive(std::slice::from_ref(random)));
        Self { keys: keys.collect(), tickets }
    }
}

fn secrets_of(contents: &[Vec<u8>]) -> anyhow::Result<Vec<SecretSlice<u8>>> {
    files::secrets(&contents[0], MIN_SECRET_BYTES)
}

fn public_keys_of(contents: &[Vec<u8>]) -> anyhow::Result<Vec<PublicKey>> {
    jwks::parse(&contents[0])
}

fn long_enough(flag: &str, secret: &SecretString) -> anyhow::Result<SecretSlice<u8>> {
    let secret = SecretSlice::from(secret.expose_secret().as_bytes().to_vec());
    let (bytes, env) = (secret.expose_secret().len(), flag.to_uppercase().replace('-', "_"));
    ensure!(
        bytes >= MIN_SECRET_BYTES,
        "--{flag} (VOICEPING_{env}) has {bytes} bytes; at least {MIN_SECRET_BYTES} are needed"
    );
    Ok(secret)
}

fn invalid(error: jsonwebtoken::errors::Error) -> TokenError {
    tracing::debug!(%error, "a token was refused");
    TokenError::Invalid
}

/// Why a token opens no socket. The text is the body of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Unauthorized: Missing token")]
    Missing,
    #[error("Unauthorized: Invalid token payload")]
    Payload,
    #[error("Unauthorized: Invalid or expired token")]
    Invalid,
}

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) user_name: String,
    /// `None`: the deployment has no control plane that would list them.
    pub(crate) channels: Option<Vec<ChannelId>>,
    pub(crate) role: Role,
    pub(crate) global_role: String,
    /// Seconds since the Unix epoch.
    expires_at: Duration,
}

impl Identity {
    /// How long the token is still good for; zero when it is over.
    pub(crate) fn expires_in(&self) -> Duration {
        self.expires_at.saturating_sub(unix_now())
    }

    /// May this user join the channel? `open`: also with a token that lists none.
    pub(crate) fn may_join(&self, channel: &ChannelId, open: bool) -> bool {
        self.role == Role::Admin
            || match &self.channels {
                Some(channels) => channels.contains(channel),
                None => open,
            }
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
