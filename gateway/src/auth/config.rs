//! The settings of the keys.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// The secret that signs tokens, and what they say beside the user.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Tokens")]
#[group(skip)]
pub struct SecretConfig {
    /// Secret that signs tokens (HS256), at least 32 bytes
    #[arg(long, env = "VOICEPING_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<SecretString>,

    /// File with the secrets that sign tokens (HS256), one on each line: the first signs, all are accepted. Read again when
    /// it changes. Instead of --jwt-secret
    #[arg(long, env = "VOICEPING_JWT_SECRET_FILE", value_name = "FILE", conflicts_with = "jwt_secret")]
    pub jwt_secret_file: Option<PathBuf>,

    /// Issuer (`iss`) that tokens must name; without it any will do
    #[arg(long, env = "VOICEPING_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,

    /// Audience (`aud`) that tokens must name; without it any will do
    #[arg(long, env = "VOICEPING_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
}

/// Settings of the keys.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Tokens")]
#[group(skip)]
pub struct AuthConfig {
    /// The secret's.
    #[command(flatten)]
    pub secret: SecretConfig,

    /// A secret that was used before --jwt-secret: tokens that it signed are accepted still
    #[arg(
        long,
        env = "VOICEPING_JWT_PREVIOUS_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        requires = "jwt_secret"
    )]
    pub jwt_previous_secret: Option<SecretString>,

    /// Public keys of an identity provider (JWKS; RS256, ES256, EdDSA): an https:// address, or a file, which is read again
    /// when it changes
    #[arg(long, env = "VOICEPING_JWKS", value_name = "ADDRESS|FILE")]
    pub jwks: Option<String>,

    /// Time between two looks at the provider's keys. A token with a key that is not known makes the gateway look at once
    #[arg(long, env = "VOICEPING_JWKS_REFRESH", value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub jwks_refresh: Duration,

    /// The authority of the provider's certificate, PEM [default: those that this system trusts]
    #[arg(long, env = "VOICEPING_JWKS_CA", value_name = "FILE", requires = "jwks")]
    pub jwks_ca: Option<PathBuf>,

    /// How much later than here a token may begin to be valid (`nbf`): clocks differ. It is over when it says so
    #[arg(long, env = "VOICEPING_JWT_LEEWAY", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub jwt_leeway: Duration,

    /// Secret that signs the tickets with which clients come back to their sessions, at least 32 bytes, the same at all
    /// gateways [default: derived from the secret that signs tokens]
    #[arg(long, env = "VOICEPING_SESSION_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub session_secret: Option<SecretString>,
}
