//! Replays traffic through the tiers in virtual time, and says what came of it.
//!
//! - [`setup`] is what is asked: settings, model, faults, seed.
//! - [`full`] is the edge itself, from its routes down to the bytes on its
//!   connections, in many isolates at the points of presence.
//! - [`fast`] is the same arithmetic without bytes, for long traces and many settings.
//! - [`routing`] says which isolate a request comes to.
//! - [`faults`] is what breaks, and when.
//! - [`truth`] knows what was written, and how far behind an answer lies.
//! - [`bounds`] is what other L1s would have made of the same reads.
//! - [`observed`] counts, and makes the report.
//!
//! The same traffic, setup and seed give the same report, byte for byte.

pub mod bounds;
pub mod fast;
pub mod faults;
pub mod full;
pub mod observed;
pub mod routing;
pub mod setup;
pub mod truth;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::report::Report;
use crate::steps;
use crate::traffic::{LONGEST, Traffic};
use setup::{Level, Setup};

/// Replays all of it.
///
/// # Errors
/// The traffic is too long.
pub fn replay(traffic: Traffic, setup: Setup) -> Result<Report> {
    let bar = steps::bar("Replaying in virtual time", traffic.requests.len() as u64);
    let report = on_a_thread({
        let bar = bar.clone();
        move || at_its_level(&Arc::new(traffic), &setup, &bar)
    });
    bar.finish_and_clear();
    report
}

/// Replays it under each setup, as many at a time as there are cores; the reports
/// in the order of the setups.
///
/// # Errors
/// Those of [`replay`].
pub fn replay_all(traffic: Traffic, setups: &[Setup]) -> Result<Vec<Report>> {
    let all = traffic.requests.len() as u64 * setups.len() as u64;
    let bar = steps::bar("Replaying in virtual time", all);
    let traffic = Arc::new(traffic);
    let reports = setups
        .par_iter()
        .map(|setup| at_its_level(&traffic, setup, &bar))
        .collect();
    bar.finish_and_clear();
    reports
}

fn at_its_level(traffic: &Arc<Traffic>, setup: &Setup, bar: &ProgressBar) -> Result<Report> {
    let duration = Duration::from_millis(traffic.duration_ms());
    ensure!(
        duration <= LONGEST,
        "the traffic spans {}, and a replay at most {}: is one of its times wrong? --requests takes only the first ones, --speed replays faster",
        humantime::format_duration(duration),
        humantime::format_duration(LONGEST)
    );
    match setup.level {
        Level::Full => full::replay(traffic, setup, bar),
        Level::Fast => fast::replay(traffic, setup, bar),
    }
}

/// Tokio's runtime lets no future be polled as often in a row.
fn on_a_thread(work: impl FnOnce() -> Result<Report> + Send + 'static) -> Result<Report> {
    let thread = std::thread::Builder::new().name("simulation".to_owned());
    thread
        .spawn(work)
        .context("the system gives no thread")?
        .join()
        .unwrap_or_else(|_| anyhow::bail!("the simulation came to a halt: this is a fault of ours"))
}
