//! The binary: parses the command line, runs the command, reports its end in one line and in the exit code.

use std::process::ExitCode;

use clap::Parser;
use voiceping::cli::{Cli, Command};
use voiceping::{all_in_one, gateway, media_node, token};

/// A crowd that joins needs several times the memory that it keeps. The C library's allocator gives little of the rest back,
/// because what is kept lies scattered over it; this one gives it back within ten seconds.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Gateway(args)) => gateway::run(*args),
        Some(Command::MediaNode(args)) => media_node::run(*args),
        Some(Command::Token(args)) => token::run(args),
        Some(Command::Loadtest(args)) => voiceping_loadtest::run(*args),
        Some(Command::Plot(args)) => voiceping_loadtest::plot::run(&args),
        None => all_in_one::run(cli.all_in_one),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain of causes in one line: the log may be filtered, or not started yet.
            #[allow(clippy::print_stderr)]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
