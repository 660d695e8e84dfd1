//! The settings as an operator gives them: flags and environment, read into a [`RedisConfig`]. Used by every role that has
//! the shared state. Shows no password, nor a URL, which may hold one.

use std::path::PathBuf;

use clap::ValueEnum;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};

use super::config::{RedisConfig, RedisConfigError, Servers};

/// Where the shared state is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Shared state (Redis)")]
#[group(skip)] // flattened beside others
pub struct RedisArgs {
    /// redis://host:port, or rediss:// for TLS; of a Cluster some of its nodes, of Sentinels some of them, separated by
    /// commas
    #[arg(long, env = "VOICEPING_REDIS_URL", value_name = "URL,...", hide_env_values = true)]
    pub redis_url: SecretString,

    /// What the URLs are. One: standalone, unless this says otherwise
    #[arg(long, env = "VOICEPING_REDIS_MODE", value_name = "MODE")]
    pub redis_mode: Option<RedisMode>,

    /// The name under which the Sentinels know the master
    #[arg(long, env = "VOICEPING_REDIS_MASTER", value_name = "NAME", default_value = "mymaster")]
    pub redis_master: String,

    /// The password, for URLs without one; better given by the environment. With Sentinels it is the servers', and the
    /// Sentinels' own unless their URLs have another
    #[arg(long, env = "VOICEPING_REDIS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub redis_password: Option<SecretString>,

    /// The authority that signed the servers' certificates, PEM; otherwise those that the system trusts
    #[arg(long, env = "VOICEPING_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,

    /// In front of all names, so that deployments can share a server
    #[arg(long, env = "VOICEPING_REDIS_PREFIX", value_name = "PREFIX", default_value = "voiceping")]
    pub redis_prefix: String,
}

/// What the URLs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedisMode {
    /// One server
    Standalone,
    /// Nodes of a Redis Cluster
    Cluster,
    /// Sentinels, which name the server
    Sentinel,
}

impl RedisArgs {
    /// Reads the file, and checks what can be checked without a connection.
    pub fn config(&self) -> Result<RedisConfig, RedisConfigError> {
        let urls: Vec<String> = self.redis_url.expose_secret().split(',').map(|url| url.trim().to_owned()).collect();
        let is_secure = check(&urls)?;
        let servers = match (self.redis_mode, &urls[..]) {
            (None | Some(RedisMode::Standalone), [url]) => Servers::Standalone(url.clone()),
            (None, _) => return Err(error("--redis-url: several URLs need --redis-mode cluster or sentinel")),
            (Some(RedisMode::Standalone), _) => return Err(error("--redis-url: a standalone server has one URL")),
            (Some(RedisMode::Cluster), _) => Servers::Cluster(urls),
            (Some(RedisMode::Sentinel), _) if self.redis_master.is_empty() => {
                return Err(error("--redis-master: the Sentinels know no master without a name"));
            }
            (Some(RedisMode::Sentinel), _) => Servers::Sentinel { sentinels: urls, master: self.redis_master.clone() },
        };
        let mut config = RedisConfig::new(servers);
        config.password.clone_from(&self.redis_password);
        config.prefix.clone_from(&self.redis_prefix);
        if let Some(path) = &self.redis_ca {
            if !is_secure {
                return Err(error("--redis-ca: only rediss:// URLs are TLS"));
            }
            let unread = |why| error(format!("--redis-ca: cannot read {}: {why}", path.display()));
            let pem = std::fs::read(path).map_err(|why| unread(why.to_string()))?;
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(unread("there is no certificate in it".into()));
            }
            config.ca = Some(pem);
        }
        Ok(config)
    }
}

/// Whether they are TLS, all of them.
fn check(urls: &[String]) -> Result<bool, RedisConfigError> {
    let mut secure = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        let is_ours = url.starts_with("redis://") || url.starts_with("rediss://");
        let info: Option<ConnectionInfo> = url.as_str().into_connection_info().ok().filter(|_| is_ours);
        let Some(info) = info else {
            let which = if urls.len() > 1 { format!(" (number {} of {})", at + 1, urls.len()) } else { String::new() };
            return Err(error(format!("--redis-url: not of the form redis://[user:password@]host:port[/db]{which}")));
        };
        secure.push(matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
    }
    match (secure.contains(&true), secure.contains(&false)) {
        (true, true) => Err(error("--redis-url: redis:// and rediss:// do not mix")),
        (is_secure, _) => Ok(is_secure),
    }
}

fn error(text: impl Into<String>) -> RedisConfigError {
    RedisConfigError(text.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        redis: RedisArgs,
    }

    fn read(flags: &str) -> Result<RedisConfig, RedisConfigError> {
        let flags = std::iter::once("test").chain(flags.split(' '));
        Cli::try_parse_from(flags).expect("flags").redis.config()
    }

    #[test]
    fn one_url_is_one_server() {
        let config = read("--redis-url redis://localhost:6379").expect("good");
        assert!(matches!(config.servers, Servers::Standalone(url) if url == "redis://localhost:6379"));
        assert!(config.prefix == "voiceping" && config.password.is_none() && config.ca.is_none());
    }

    #[test]
    fn several_are_what_the_mode_says() {
        let urls = "--redis-url redis://a:1,redis://b:2";
        let cluster = read(&format!("{urls} --redis-mode cluster --redis-prefix other")).expect("good");
        assert!(matches!(cluster.servers, Servers::Cluster(urls) if urls == ["redis://a:1", "redis://b:2"]));
        assert_eq!(cluster.prefix, "other");
        let sentinel = read(&format!("{urls} --redis-mode sentinel")).expect("good");
        assert!(matches!(sentinel.servers, Servers::Sentinel { sentinels, master }
            if sentinels.len() == 2 && master == "mymaster"));
        let named = read("--redis-url redis://a:1 --redis-mode sentinel --redis-master main").expect("good");
        assert!(matches!(named.servers, Servers::Sentinel { master, .. } if master == "main"));
    }

    #[test]
    fn a_bad_value_is_named_in_one_line_without_what_it_holds() {
        for (flags, says) in [
            ("--redis-url http://:hush@a", "--redis-url: not of the form"),
            ("--redis-url redis+unix:///hush", "--redis-url: not of the form"),
            ("--redis-url redis://:hush@a:port", "--redis-url: not of the form"),
            ("--redis-url redis://:hush@a/db", "--redis-url: not of the form"),
            ("--redis-url redis://:hush@a:1, --redis-mode cluster", "(number 2 of 2)"),
            ("--redis-url redis://:hush@a:1,redis://b:1", "--redis-mode cluster or sentinel"),
            ("--redis-url redis://:hush@a:1,redis://b:1 --redis-mode standalone", "one URL"),
            ("--redis-url redis://:hush@a:1,rediss://b:1 --redis-mode cluster", "do not mix"),
            ("--redis-url redis://:hush@a:1 --redis-mode sentinel --redis-master=", "--redis-master"),
            ("--redis-url redis://:hush@a:1 --redis-ca /nowhere", "--redis-ca: only rediss://"),
            ("--redis-url rediss://:hush@a:1 --redis-ca /nowhere", "--redis-ca: cannot read /nowhere"),
            ("--redis-url rediss://:hush@a:1 --redis-ca /dev/null", "no certificate"),
        ] {
            let text = read(flags).expect_err(flags).to_string();
            assert!(text.contains(says) && text.lines().count() == 1, "{flags}: {text}");
            assert!(!text.contains("hush"), "{text}");
        }
        for flags in [&["test", "--redis-url=redis://:hush@a", "--redis-mode=many"][..], &["test"]] {
            let text = Cli::try_parse_from(flags).expect_err("refused").to_string();
            assert!(text.contains("--redis-") && !text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let flags = ["test", "--redis-url", "redis://:hush@a", "--redis-password", "hush"];
        let cli = Cli::try_parse_from(flags).expect("flags");
        let config = cli.redis.config().expect("good");
        assert!(!format!("{cli:?}{config:?}").contains("hush"));
    }
}
