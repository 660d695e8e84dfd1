//! The command line.

use crate::{all_in_one, gateway, media_node, token};

/// VoicePing: push-to-talk voice for large teams. One speaks, everybody on the channel hears.
///
/// Without a command it runs everything in one process: the page, signaling, media and state. Nothing needs to be set.
#[derive(Debug, clap::Parser)]
#[command(name = "voiceping", version, args_conflicts_with_subcommands = true, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings of the all-in-one.
    #[command(flatten)]
    pub all_in_one: all_in_one::Args,
}

/// What to do instead of running everything.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run one of a cluster's gateways: signaling over WebSockets, the shared state on Redis
    Gateway(Box<gateway::Args>),

    /// Run one of a cluster's media nodes: audio over WebRTC
    MediaNode(Box<media_node::Args>),

    /// Print a signed token, to connect a client by hand or in a test
    Token(token::Args),

    /// Load a deployment with members that talk, and say what they feel
    Loadtest(Box<voiceping_loadtest::Args>),

    /// Draw reports of `voiceping loadtest --json` as SVG
    Plot(voiceping_loadtest::plot::Args),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_arguments_everything_runs() {
        let cli = Cli::try_parse_from(["voiceping"]).expect("parses");
        assert!(cli.command.is_none());
    }

    #[test]
    fn a_command_has_its_own_flags_only() {
        assert!(Cli::try_parse_from(["voiceping", "token", "--user", "alice"]).is_ok());
        assert!(Cli::try_parse_from(["voiceping", "--listen", "127.0.0.1:0", "token", "--user", "alice"]).is_err());
        assert!(Cli::try_parse_from(["voiceping", "token", "--user", "alice", "--listen", "127.0.0.1:0"]).is_err());
    }

    #[test]
    fn a_bad_value_is_named() {
        for arguments in [["--floor-lease", "0s"], ["--media-workers", "0"], ["--listen", "here"]] {
            let arguments = std::iter::once("voiceping").chain(arguments);
            let error = Cli::try_parse_from(arguments.clone()).expect_err("refused").to_string();
            assert!(error.contains(arguments.clone().nth(1).expect("a flag")), "{error}");
        }
    }
}
