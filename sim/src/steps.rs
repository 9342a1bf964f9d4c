//! Tells the person in front of the terminal what is going on and how long it took.
//!
//! A spinner on a terminal, plain lines in a log. Everything goes to stderr, so
//! that stdout carries results only.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

const FRAME: Duration = Duration::from_millis(120);

/// Runs one step under its name; `why` says what takes long, if anything does.
///
/// # Errors
/// Those of the step.
pub async fn step<T>(name: &str, why: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let bar = ProgressBar::new_spinner().with_message(match why {
        "" => name.to_owned(),
        why => format!("{name} ({why})"),
    });
    bar.enable_steady_tick(FRAME);
    let result = work.await;
    bar.finish_and_clear();
    if result.is_ok() {
        say::aside(format_args!(
            "{name}: {:.1} s",
            started.elapsed().as_secs_f64()
        ));
    }
    result
}

/// A bar over a known number of things.
pub fn bar(name: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(name.to_owned());
    // A template that does not parse is a slip of ours; the default bar does then.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}") {
        bar.set_style(style);
    }
    bar
}
