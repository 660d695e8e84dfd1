//! What the system knows of this process: processor time, memory, threads, descriptors.
//!
//! Read from /proc when somebody reads the metrics.

use std::time::Instant;

use procfs::process::{Process, Stat};
use voiceping_signals::{Gauge, Tally, label};

static CPU_TIME: Tally = Tally::new("process.cpu.time", "s", &["cpu.mode"], "Processor time of this process");
static MEMORY: Gauge = Gauge::new("process.memory.usage", "By", &[], "Resident memory");
static THREADS: Gauge = Gauge::new("process.thread.count", "{thread}", &[], "Threads");
static DESCRIPTORS: Gauge =
    Gauge::new("process.unix.file_descriptor.count", "{file_descriptor}", &[], "Open file descriptors");
static UPTIME: Gauge = Gauge::new("process.uptime", "s", &[], "Time since the process started");

voiceping_signals::declared!(CPU_TIME, MEMORY, THREADS, DESCRIPTORS, UPTIME);

/// Answers from now on.
pub(crate) fn observe() {
    let started = Instant::now();
    CPU_TIME.observe(|observe| {
        if let Some(stat) = stat() {
            let ticks = procfs::ticks_per_second() as f64;
            observe(stat.utime as f64 / ticks, &[label("cpu.mode", "user")]);
            observe(stat.stime as f64 / ticks, &[label("cpu.mode", "system")]);
        }
    });
    MEMORY.observe(|observe| {
        if let Some(stat) = stat() {
            observe((stat.rss * procfs::page_size()) as f64, &[]);
        }
    });
    THREADS.observe(|observe| {
        if let Some(stat) = stat() {
            observe(stat.num_threads as f64, &[]);
        }
    });
    DESCRIPTORS.observe(|observe| {
        if let Ok(count) = Process::myself().and_then(|process| process.fd_count()) {
            observe(count as f64, &[]);
        }
    });
    UPTIME.observe(move |observe| observe(started.elapsed().as_secs_f64(), &[]));
}

fn stat() -> Option<Stat> {
    Process::myself().and_then(|process| process.stat()).ok()
}
