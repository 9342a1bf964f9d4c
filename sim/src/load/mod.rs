//! Fires traffic at edges and counts what comes back.
//!
//! - [`edge`] is one client of one edge; [`fill`] stores what traffic reads.
//! - [`closed`] asks again when it was answered: for `make run`.
//! - [`schedule`] → [`open`] → [`target`]: asks when it is time to, whatever
//!   happens, and counts from then.
//! - [`outcome`] judges what an open loop saw, and [`compare`] holds it beside
//!   what a replay of the same traffic predicted.
//! - [`command`] is `sim load`.

use std::time::{Duration, Instant};

pub mod closed;
pub mod command;
pub mod compare;
pub mod edge;
pub mod fill;
pub mod open;
pub mod outcome;
pub mod schedule;
pub mod target;

pub use edge::{Answer, Edge};

fn us_since(started: Instant) -> u64 {
    us(started.elapsed())
}

/// Whole µs.
pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
