//! What a replay says: numbers that machines read, and that the table and the
//! page show.
//!
//! The same traffic, settings and seed give the same report, byte for byte. Knows
//! how to judge; does not know how the numbers came about.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operation::Operation;
use crate::say::harmless;
use crate::tally::{Tallies, Tally};

pub mod figures;
pub mod page;
pub mod table;

/// Points of a curve in a report: enough for a page, few enough to read.
const CURVE_POINTS: u64 = 100;
/// A latency is judged at these.
pub const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// Everything about one replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was replayed and on what, in words: name and value.
    pub conditions: Vec<(String, String)>,
    pub rows: Vec<Row>,
    /// Where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceRow>,
    pub timeline: Timeline,
    pub stores: Vec<StoreLoad>,
    pub staleness: Staleness,
    /// What other L1s would have answered.
    pub bounds: Vec<Bound>,
    /// Limits of the platform that were reached, or nearly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// The same traffic under other settings; the first is this replay.
    pub what_if: Vec<WhatIf>,
    /// What a reader has to know to read the numbers right.
    pub notes: Vec<String>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// See [`Operation::name`].
    pub operation: String,
    pub requests: u64,
    pub l1: u64,
    pub l2: u64,
    pub l3: u64,
    /// False: no answer can come from L3.
    pub has_l3: bool,
    pub errors: u64,
    pub absent: u64,
    pub latency: Latency,
    pub target_ms: Option<u32>,
    /// At each of [`QUANTILES`]; empty without a target or a request.
    pub is_met: Vec<bool>,
}

/// All requests of one place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaceRow {
    pub place: String,
    pub requests: u64,
    pub l1: u64,
    pub l2: u64,
    pub l3: u64,
    pub errors: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    /// Of whole voice queries; None: there were none.
    pub voice_p95_us: Option<u64>,
}

/// How long answers took, in µs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// (µs, part of the answers that took no longer), from the shortest on.
    pub curve: Vec<(u64, f64)>,
}

/// What happened when, in buckets of the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    pub bucket_ms: u64,
    pub buckets: Vec<Bucket>,
}

/// Counts between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub requests: u64,
    pub l1: u64,
    pub l2: u64,
    pub l3: u64,
    pub errors: u64,
    pub valkey_commands: u64,
    pub postgres_statements: u64,
}

/// What reached a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreLoad {
    /// "Valkey", "PostgreSQL".
    pub store: String,
    /// "commands", "statements".
    pub unit: String,
    pub total: u64,
    /// Of the busiest second.
    pub peak_per_s: u64,
    pub peak_at_ms: u64,
    pub connections: u64,
    pub connections_at_once_max: u64,
}

/// Connections to a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub opened: u64,
    pub at_once_max: u64,
}

/// How far answers lay behind the truth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Staleness {
    /// Answers to reads that could be judged.
    pub answers: u64,
    /// Of these, how many were not the truth any more.
    pub stale: u64,
    /// For how long the truth had been another one, of those that were stale, in ms.
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub max_ms: u64,
    /// (ms, part of the stale answers that lay no further behind).
    pub curve: Vec<(u64, f64)>,
}

/// What an L1 with another policy would have answered of the same reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    pub name: String,
    /// Part of the reads, 0…1.
    pub hit_ratio: f64,
}

/// What was needed of a limit of the platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub name: String,
    /// "us", "bytes", or empty: a number of these.
    pub unit: String,
    /// By the one that needed most.
    pub most: u64,
    pub allowed: u64,
    /// How many needed more than is allowed.
    pub over: u64,
}

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// Settings as in `wrangler.toml`, and what else differs; empty: as it is.
    pub settings: Vec<(String, String)>,
    /// Part of the answers that a tier gave, 0…1.
    pub l1_share: f64,
    /// Operations that miss their target at p95.
    pub targets_missed: u64,
    /// p95 of the operation that is worst, as a part of its target.
    pub worst: f64,
    pub voice_p95_us: u64,
    pub errors: u64,
    pub postgres_peak_per_s: u64,
    pub valkey_peak_per_s: u64,
    pub stale_share: f64,
    pub stale_max_ms: u64,
    /// No other line is at least as good in everything and better in something.
    pub is_on_front: bool,
}

impl Report {
    /// The rows of requests: flows have rows as well.
    pub fn requests(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_of_requests())
    }

    /// Reads one that was written as JSON; `-` is stdin.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = match path.to_str() {
            Some("-") => io::read_to_string(io::stdin()),
            _ => fs::read_to_string(path),
        };
        let text = text.with_context(|| format!("cannot read the report {name}"))?;
        let cannot = || format!("{name} is no report as --json writes it");
        let mut report: Value = serde_json::from_str(&text).with_context(cannot)?;
        make_harmless(&mut report);
        serde_path_to_error::deserialize(report).with_context(cannot)
    }
}

impl PlaceRow {
    pub fn of(place: &str, all: &Tally, voice_queries: &Tally) -> Self {
        let [p50_us, p95_us, p99_us] = quantiles_us(&all.latency_us);
        let voice = Some(voice_queries).filter(|voice| voice.requests > 0);
        Self {
            place: place.to_owned(),
            requests: all.requests,
            l1: all.l1,
            l2: all.l2,
            l3: all.l3,
            errors: all.errors,
            p50_us,
            p95_us,
            p99_us,
            voice_p95_us: voice.map(|voice| voice.latency_us.value_at_quantile(0.95)),
        }
    }

    /// Answers of which the tier is known.
    pub fn known(&self) -> u64 {
        self.l1.saturating_add(self.l2).saturating_add(self.l3)
    }
}

fn quantiles_us(us: &Histogram<u64>) -> [u64; 3] {
    QUANTILES.map(|quantile| us.value_at_quantile(quantile))
}

/// Whoever wrote it, none of its texts steers a terminal.
fn make_harmless(report: &mut Value) {
    match report {
        Value::String(text) => *text = harmless(text),
        Value::Array(all) => all.iter_mut().for_each(make_harmless),
        Value::Object(all) => all.values_mut().for_each(make_harmless),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Row {
    pub fn of(operation: Operation, tally: &Tally) -> Self {
        let latency = Latency::of(&tally.latency_us);
        let quantiles_us = [latency.p50_us, latency.p95_us, latency.p99_us];
        let target_ms = operation.target_ms();
        let is_met = match target_ms {
            Some(ms) if tally.requests > 0 => {
                quantiles_us.map(|us| us < u64::from(ms) * 1000).to_vec()
            }
            _ => Vec::new(),
        };
        Self {
            operation: operation.name().to_owned(),
            requests: tally.requests,
            l1: tally.l1,
            l2: tally.l2,
            l3: tally.l3,
            has_l3: operation.has_l3(),
            errors: tally.errors,
            absent: tally.absent,
            latency,
            target_ms,
            is_met,
        }
    }

    pub fn all_of(tallies: &Tallies) -> Vec<Self> {
        tallies
            .iter()
            .map(|(operation, tally)| Self::of(operation, tally))
            .collect()
    }

    /// A flow is none, its requests are.
    pub fn is_of_requests(&self) -> bool {
        self.operation != Operation::VoiceQuery.name()
    }

    /// Answers of which the tier is known.
    pub fn known(&self) -> u64 {
        self.l1.saturating_add(self.l2).saturating_add(self.l3)
    }

    /// At p95, the quantile that the guide's targets are read at.
    pub fn verdict(&self) -> Option<bool> {
        self.is_met.get(1).copied()
    }
}

impl Latency {
    pub fn of(us: &Histogram<u64>) -> Self {
        let [p50_us, p95_us, p99_us] = quantiles_us(us);
        Self {
            p50_us,
            p95_us,
            p99_us,
            max_us: us.max(),
            curve: curve(us),
        }
    }
}

/// A cumulative distribution, by equal steps of its parts. Of those at one place only
/// the highest is seen.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(u64, f64)> {
    let (mut points, mut count, mut next) = (Vec::new(), 0, 0);
    for value in histogram.iter_recorded() {
        count += value.count_since_last_iteration();
        let reached = count * CURVE_POINTS / histogram.len();
        if reached >= next {
            let part = reached as f64 / CURVE_POINTS as f64;
            points.push((value.value_iterated_to(), part));
            next = reached + 1;
        }
    }
    points
}

impl Staleness {
    /// `behind_ms` has the answers that were stale.
    pub fn of(answers: u64, behind_ms: &Histogram<u64>) -> Self {
        Self {
            answers,
            stale: behind_ms.len(),
            p50_ms: behind_ms.value_at_quantile(0.5),
            p99_ms: behind_ms.value_at_quantile(0.99),
            max_ms: behind_ms.max(),
            curve: curve(behind_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(latencies_ms: &[u64]) -> Result<Tally> {
        let mut tally = Tally::new()?;
        for ms in latencies_ms {
            tally.time(ms * 1000);
        }
        Ok(tally)
    }

    #[test]
    fn a_target_holds_when_95_of_100_are_below_it() -> Result<()> {
        let verdict = |operation, latencies: &[u64]| {
            Ok::<_, anyhow::Error>(Row::of(operation, &tally(latencies)?).verdict())
        };
        let mut latencies = vec![1; 95];
        latencies.extend([500; 5]);
        assert_eq!(verdict(Operation::Session, &latencies)?, Some(true));
        latencies.push(500);
        assert_eq!(verdict(Operation::Session, &latencies)?, Some(false));
        assert_eq!(verdict(Operation::Orders, &latencies)?, None);
        assert_eq!(verdict(Operation::Session, &[])?, None);
        Ok(())
    }

    #[test]
    fn a_curve_goes_up_to_all() -> Result<()> {
        let latencies: Vec<u64> = (1..=1000).collect();
        let histogram = tally(&latencies)?.latency_us;
        let curve = curve(&histogram);
        assert!(curve.is_sorted_by(|(a, p), (b, q)| a < b && p < q));
        assert_eq!(curve.last().map(|(_, part)| *part), Some(1.0));
        for (value, part) in curve.iter().skip(1) {
            assert_eq!(*value, histogram.value_at_quantile(*part), "{part}");
        }
        assert!(Latency::of(&tally(&[])?.latency_us).curve.is_empty());
        Ok(())
    }
}
