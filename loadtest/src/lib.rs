//! `voiceping loadtest`: how many people a deployment carries, and what they feel.
//!
//! Called by the binary's command line. A stranger to the deployment: it knows the protocol, and talks to the addresses that
//! it was given and no others. It shares with the server only the engine's building blocks (DTLS, SRTP, RTP headers), for
//! `--floor` its way of sending; and the members of `--webrtc-crate` not even those.
//!
//! Signaling runs on tokio, one task for each member; media on a few threads of its own (`media`), so that neither waits for
//! the other. All times are taken by one clock; a packet's arrival is the kernel's own time of it, so that this tool's
//! queues are not taken for the server's.

mod args;
mod conduct;
mod figures;
mod floor;
mod hearing;
mod independent;
mod limits;
mod media;
mod member;
mod plan;
pub mod plot;
mod process;
mod progress;
mod report;
mod run;
mod signaling;
mod target;
mod traffic;
mod voice;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub use args::{Args, Consume, Microphones, SrtpProfile};
pub use limits::{Limit, Quantity};
pub use target::Url;

use report::Report;

/// Runs the load, prints the report. An error if it could not run, or if a limit was exceeded.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads())
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let json = args.json.clone();
    let report = runtime.block_on(Box::pin(conduct::conduct(args)))?;
    // Tasks of the independent client may linger; nothing waits for them.
    runtime.shutdown_background();
    print(&report, json.as_deref())?;
    let failed: Vec<String> =
        report.verdicts().iter().filter(|verdict| verdict.fails).map(|verdict| verdict.limit.to_string()).collect();
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} limits failed: {}", report.limits.len(), failed.join(", ")),
    }
}

#[allow(clippy::print_stdout)] // it is what the command is for
fn print(report: &Report, json: Option<&Path>) -> Result<()> {
    match json {
        Some(path) if path == Path::new("-") => println!("{:#}", report.json()),
        Some(path) => {
            print!("{report}");
            std::fs::write(path, format!("{:#}\n", report.json()))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        None => print!("{report}"),
    }
    Ok(())
}
