//! The miss-ratio curve of LRU, exact or from a sample, and that of the edge's
//! L1, which has to be run at each size.

use std::fmt;

use anyhow::{Result, ensure};
use indicatif::ParallelProgressIterator;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Subject, Summary, progress, ratio, table};
use crate::caches::Policy;
use crate::caches::curve::Curve;
use crate::trace::Operation;

/// Of a sample that tells something: an error of some percentage points.
const SAMPLE_THINGS_MIN: usize = 100;

/// What else may be asked of a curve.
#[derive(Debug, Clone, clap::Args)]
pub struct CurveOptions {
    /// Estimate from this share of the things (SHARDS), such as 0.1
    #[arg(long)]
    pub sample: Option<f64>,
    /// Run the edge's own L1 at the sizes as well, on all cores
    #[arg(long)]
    pub l1: bool,
}

/// Miss ratios by size.
pub struct CurveReport {
    summary: Summary,
    sizes: Vec<u32>,
    sample: Option<f64>,
    lru: Vec<f64>,
    l1: Option<Vec<f64>>,
}

/// Looks at the trace once, and once more for each size of L1.
///
/// # Errors
/// The trace cannot be read, or the sample is no share.
pub fn curve(subject: &Subject, options: &CurveOptions) -> Result<CurveReport> {
    if let Some(rate) = options.sample {
        ensure!(
            rate > 0.0 && rate <= 1.0,
            "--sample is a share of the things, above 0 and at most 1, not {rate}"
        );
    }
    let opened = subject.open()?;
    let curve = match options.sample {
        None => Curve::exact(&opened.all),
        Some(rate) => {
            let asked = opened.requests.iter();
            let keys: Vec<u64> = asked
                .filter(|request| request.operation != Operation::Delete)
                .map(|request| request.key)
                .collect();
            let curve = Curve::sampled(keys.into_iter(), rate)?;
            ensure!(
                curve.things() >= SAMPLE_THINGS_MIN,
                "a share of {rate} has {} of the {} things of the trace, and fewer than {SAMPLE_THINGS_MIN} tell nothing of the others: give a larger --sample, or none",
                curve.things(),
                opened.all.distinct
            );
            curve
        }
    };
    let l1 = options.l1.then(|| {
        let bar = progress(opened.sizes.len()).with_message("Running the edge's L1");
        let sizes = opened.sizes.par_iter().progress_with(bar);
        sizes
            .map(|size| {
                let hits = Policy::EdgeL1.hits(*size, &opened.all, &[]);
                1.0 - hits as f64 / opened.all.ids.len() as f64
            })
            .collect()
    });
    Ok(CurveReport {
        lru: opened
            .sizes
            .iter()
            .map(|size| curve.miss_ratio(*size))
            .collect(),
        summary: opened.summary,
        sizes: opened.sizes,
        sample: options.sample,
        l1,
    })
}

impl CurveReport {
    pub fn json(&self) -> Value {
        json!({
            "trace": self.summary.json(),
            "entries": self.sizes,
            "sample": self.sample,
            "missRatios": {"LRU": self.lru, "edge L1": self.l1},
        })
    }
}

impl fmt::Display for CurveReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut header = vec!["entries", "% of things", "LRU misses"];
        header.extend(self.l1.as_ref().map(|_| "edge L1 misses"));
        let mut l1 = self.l1.iter().flatten();
        let rows = self.sizes.iter().zip(&self.lru).map(|(size, lru)| {
            let percent = f64::from(*size) * 100.0 / f64::from(self.summary.distinct);
            let mut row = vec![size.to_string(), format!("{percent:.2}"), ratio(*lru)];
            row.extend(l1.next().map(|l1| ratio(*l1)));
            row
        });
        let header = header.into_iter().map(str::to_owned).collect();
        writeln!(formatter, "{}", table(header, rows.collect()))?;
        write!(formatter, "{}", self.summary)?;
        if let Some(rate) = self.sample {
            writeln!(
                formatter,
                "LRU is estimated from {} % of the things.",
                rate * 100.0
            )?;
        }
        Ok(())
    }
}
