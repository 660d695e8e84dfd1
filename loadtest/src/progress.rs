//! The bar with live figures, on standard error; nothing where that is no terminal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::figures::{Count, Figures, Time};
use crate::limits::show_time;
use crate::run::Run;

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for one phase.
    pub(crate) fn new(what: &'static str, len: u64) -> Self {
        let bar = ProgressBar::new(len).with_prefix(what);
        // A template that does not parse would be seen at the first look; the bar is then a plain one.
        if let Ok(style) = ProgressStyle::with_template("{prefix:>8} {bar:24} {pos}/{len}  {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// How far it is, and what has been measured.
    pub(crate) fn show(&self, position: u64, run: &Run, figures: &Figures) {
        if self.0.is_hidden() {
            return;
        }
        let p95 = |time: Time| {
            let times = figures.times(time);
            if times.is_empty() { "–".to_owned() } else { show_time(times.value_at_quantile(0.95) as f64) }
        };
        let errors: u64 = figures.errors().values().map(|(count, _)| count).sum();
        self.0.set_position(position);
        self.0.set_message(format!(
            "talks {}  grant p95 {}  mouth to ear p95 {}  received {}  lost {}  denied {}  errors {errors}",
            run.talking.load(Ordering::Relaxed),
            p95(Time::Grant),
            p95(Time::MouthToEar),
            figures.count(Count::Received),
            figures.count(Count::Lost),
            figures.count(Count::Denied),
        ));
    }

    /// Whether anybody sees it.
    pub(crate) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    pub(crate) fn end(self) {
        self.0.finish_and_clear();
    }
}

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(500);
