//! `voiceping token`: signs a token with the secret that a gateway runs with, and prints it.

use std::time::Duration;

use anyhow::Context;
use voiceping_gateway::{Claims, Keys, Role, SecretConfig};

/// Settings of the command.
#[derive(Debug, clap::Args)]
#[group(id = "token")]
pub struct Args {
    /// Id of the user
    #[arg(long, value_name = "ID")]
    pub user: String,

    /// Name shown to others [default: the id]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Channel that the user may join; may be given several times. Without it the gateway's --channel-access decides
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<String>,

    /// What the user may do
    #[arg(long, value_name = "ROLE", default_value = "general", ignore_case = true)]
    pub role: Role,

    /// How long the token is valid
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// The key to sign with.
    #[command(flatten)]
    pub auth: SecretConfig,
}

/// Prints the token.
pub fn run(args: Args) -> anyhow::Result<()> {
    let token = sign(args)?;
    #[allow(clippy::print_stdout)] // it is what the command is for
    {
        println!("{token}");
    }
    Ok(())
}

fn sign(args: Args) -> anyhow::Result<String> {
    let Args { user, name, channels, role, ttl, auth } = args;
    let keys = Keys::to_sign(&auth)?
        .context("--jwt-secret (VOICEPING_JWT_SECRET) or --jwt-secret-file is needed: what the gateway runs with")?;
    let claims = Claims {
        user_name: name.unwrap_or_else(|| user.clone()),
        user_id: user,
        channel_ids: Some(channels).filter(|channels| !channels.is_empty()),
        ..Claims::default()
    };
    keys.sign(&claims.with_role(role), ttl)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn signed(arguments: &[&str]) -> anyhow::Result<String> {
        let arguments = ["voiceping", "token", "--user", "alice"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Some(Command::Token(args)) => sign(args),
            _ => panic!("the command is token"),
        }
    }

    #[test]
    fn a_token_has_three_parts() {
        let secret = "x".repeat(32);
        let token = signed(&["--channel", "a", "--channel", "b", "--role", "DISPATCH", "--jwt-secret", &secret]);
        assert_eq!(token.expect("signed").split('.').count(), 3);
    }

    #[test]
    fn what_cannot_be_signed_says_why() {
        assert!(signed(&["--ttl", "soon"]).is_err());
        assert!(signed(&["--role", "king"]).is_err());
        if std::env::var_os("VOICEPING_JWT_SECRET").is_none() {
            assert!(signed(&[]).expect_err("refused").to_string().contains("VOICEPING_JWT_SECRET"));
        }
    }
}
