//! Every policy at every size, beside the optimum and the unbounded cache.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ParallelProgressIterator;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Subject, Summary, progress, ratio, table};
use crate::caches::{Policy, clairvoyant};

/// What all of them made of a trace.
pub struct PoliciesReport {
    summary: Summary,
    sizes: Vec<u32>,
    /// In the order of [`Policy::ALL`], and of the sizes.
    misses: Vec<Vec<u64>>,
    took: Vec<Duration>,
}

/// Runs them, on all cores.
///
/// # Errors
/// The trace cannot be read.
pub fn policies(subject: &Subject) -> Result<PoliciesReport> {
    let opened = subject.open()?;
    let (all, sizes) = (&opened.all, &opened.sizes);
    let next_uses = clairvoyant::next_uses(&all.ids, all.distinct);
    let runs: Vec<(Policy, u32)> = Policy::ALL
        .into_iter()
        .flat_map(|policy| sizes.iter().map(move |size| (policy, *size)))
        .collect();
    let bar = progress(runs.len()).with_message("Running the policies");
    let results: Vec<(u64, Duration)> = runs
        .par_iter()
        .progress_with(bar)
        .map(|(policy, size)| {
            let began = Instant::now();
            let hits = policy.hits(*size, all, &next_uses);
            (all.ids.len() as u64 - hits, began.elapsed())
        })
        .collect();
    let of_policies = || results.chunks(sizes.len().max(1));
    Ok(PoliciesReport {
        misses: of_policies()
            .map(|runs| runs.iter().map(|(misses, _)| *misses).collect())
            .collect(),
        took: of_policies()
            .map(|runs| runs.iter().map(|(_, took)| *took).sum())
            .collect(),
        summary: opened.summary,
        sizes: opened.sizes,
    })
}

impl PoliciesReport {
    fn ratio(&self, misses: u64) -> f64 {
        misses as f64 / self.summary.requests as f64
    }

    pub fn json(&self) -> Value {
        let policies: Vec<Value> = Policy::ALL
            .iter()
            .zip(&self.misses)
            .map(|(policy, misses)| {
                let ratios: Vec<f64> = misses.iter().map(|misses| self.ratio(*misses)).collect();
                json!({"name": policy.name(), "misses": misses, "missRatios": ratios})
            })
            .collect();
        json!({"trace": self.summary.json(), "entries": self.sizes, "policies": policies})
    }
}

impl fmt::Display for PoliciesReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut header = vec!["misses with room for".to_owned()];
        header.extend(self.sizes.iter().map(u32::to_string));
        header.push("M requests/s".to_owned());
        let rows = Policy::ALL
            .iter()
            .zip(self.misses.iter().zip(&self.took))
            .map(|(policy, (misses, took))| {
                let asked = self.summary.requests as f64 * misses.len() as f64;
                let mut row = vec![policy.name().to_owned()];
                row.extend(misses.iter().map(|misses| ratio(self.ratio(*misses))));
                row.push(format!("{:.1}", asked / took.as_secs_f64() / 1e6));
                row
            });
        writeln!(formatter, "{}", table(header, rows.collect()))?;
        write!(formatter, "{}", self.summary)?;
        writeln!(
            formatter,
            "A size is a number of entries, and a miss is filled at once. No policy can miss less than the\n\
             unbounded cache, and none that lets in what it missed less than the clairvoyant one."
        )
    }
}
