//! The log: to standard error, as text for a person or as JSON for a collector.
//!
//! Written by a thread of its own. Whoever logs, a media worker above all, hands over a line and goes on: if standard error
//! takes no more, lines are dropped and counted, and nobody waits.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer, Registry};
use voiceping_signals::trace;

/// Lines that may wait to be written: some megabytes at most.
const LINES: usize = 16_384;

/// The libraries that deliver telemetry complain at each attempt that fails; we count those, and say it once.
const NOISE: &str = "opentelemetry";

/// How a role logs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log")]
#[group(skip)]
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

impl LogArgs {
    /// What is logged. `traced`: also the spans of traces, for lines to have the ids of theirs.
    pub(crate) fn filter(&self, traced: bool) -> anyhow::Result<EnvFilter> {
        let filter = EnvFilter::builder()
            .parse(&self.filter)
            .with_context(|| format!("--log: {:?} is not a log filter", self.filter))?;
        let spans = format!("{}={}", trace::TARGET, if traced { "info" } else { "off" });
        let mut filter = filter.add_directive(spans.parse().context("a directive of ours")?);
        if !self.filter.contains(NOISE) {
            filter = filter.add_directive(format!("{NOISE}=off").parse().context("a directive of ours")?);
        }
        Ok(filter)
    }

    pub(crate) fn layer(
        &self,
        writer: NonBlocking,
        traced: bool,
    ) -> anyhow::Result<Box<dyn Layer<Registry> + Send + Sync>> {
        let filter = self.filter(traced)?;
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        Ok(match self.format {
            LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
            LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
        })
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    guard: WorkerGuard,
    dropped: ErrorCounter,
}

/// Where to hand lines over, and who writes them.
pub(crate) fn writer() -> (NonBlocking, Writer) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).thread_name("log");
    let (writer, guard) = builder.finish(std::io::stderr());
    let dropped = writer.error_counter();
    (writer, Writer { guard, dropped })
}

impl Writer {
    /// How many lines were dropped until now.
    pub(crate) fn dropped(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines()
    }

    /// Writes what is left, for a second at most.
    pub(crate) fn end(self) {
        drop(self.guard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_understood_is_refused_with_its_text() {
        let args = LogArgs { filter: "voiceping=loud".into(), format: LogFormat::Text };
        let error = format!("{:#}", args.filter(false).expect_err("refused"));
        assert!(error.contains("voiceping=loud"), "{error}");
    }
}
