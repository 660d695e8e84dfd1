//! The log: to standard error, as text for a person or as JSON for a collector.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a role logs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace), or levels by module such as
    /// "info,voiceping_gateway=debug"
    #[arg(long = "log", env = "VOICEPING_LOG", value_name = "FILTER", default_value = "info")]
    pub filter: String,

    /// How a line of the log looks
    #[arg(long = "log-format", env = "VOICEPING_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log of this process. Fails when the filter cannot be understood, or when it was started before.
pub fn init(args: &LogArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&args.filter)
        .map_err(|error| anyhow::anyhow!("--log: {:?} is not a log filter: {error}", args.filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match args.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_understood_is_refused_with_its_text() {
        let args = LogArgs { filter: "voiceping=loud".into(), format: LogFormat::Text };
        let error = init(&args).expect_err("refused").to_string();
        assert!(error.contains("voiceping=loud"), "{error}");
    }
}
