//! What a trace says about caches: every policy at several sizes, or the curve
//! of LRU at all of them, as a table or as JSON.
//!
//! Knows traces and policies. Speeds are for people and never in the JSON, which
//! is the same for any number of threads.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::CellAlignment;
use indicatif::{ProgressBar, ProgressStyle};
use rustc_hash::FxBuildHasher;
use serde_json::{Value, json};

use crate::caches::Requests;
use crate::operation::Effect;
use crate::tables;
use crate::trace::{self, Format, Oddities, Trace};
use crate::traffic::{Thing, Traffic, ndjson};

mod curve;
mod policies;

pub use curve::{CurveOptions, CurveReport, curve};
pub use policies::{PoliciesReport, policies};

/// How large a cache is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    Entries(u32),
    /// Of the different things in the trace.
    Percent(f64),
}

impl Size {
    /// At least one.
    fn entries(self, distinct: u32) -> u32 {
        let entries = match self {
            Self::Entries(entries) => entries,
            // A float that is too large becomes the largest integer.
            Self::Percent(percent) => (f64::from(distinct) * percent / 100.0) as u32,
        };
        entries.max(1)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().map(Self::Percent),
            None => text.parse().ok().map(Self::Entries),
        };
        size.filter(|size| match size {
            Self::Entries(entries) => *entries > 0,
            Self::Percent(percent) => *percent > 0.0 && percent.is_finite(),
        })
        .ok_or_else(|| {
            format!("a size is a number of entries such as 5000, or a share of the things such as 2.5%, not {text:?}")
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(entries) => write!(formatter, "{entries}"),
            Self::Percent(percent) => write!(formatter, "{percent} %"),
        }
    }
}

/// Which trace to look at, and at which sizes.
#[derive(Debug, Clone, clap::Args)]
pub struct Subject {
    /// The recording, or traffic (.ndjson, .ndjson.zst); gzip, xz and zstd are undone
    pub trace: PathBuf,
    /// Its format, where the name does not tell it
    #[arg(long)]
    pub format: Option<Format>,
    /// Entries, or shares of the different things in the trace
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.1%,1%,2%,5%,10%,20%,50%"
    )]
    pub sizes: Vec<Size>,
}

impl Subject {
    fn open(&self) -> Result<Opened> {
        let waiting = ProgressBar::new_spinner().with_message("Reading the trace");
        waiting.enable_steady_tick(Duration::from_millis(100));
        let is_traffic = self.format.is_none() && ndjson::is_named(&self.trace);
        let Trace { requests, oddities } = match is_traffic {
            true => keys(ndjson::open(&self.trace)?),
            false => trace::open(&self.trace, self.format)?,
        };
        let all = Requests::of_trace(&requests)
            .with_context(|| format!("cannot study {}", self.trace.display()))?;
        waiting.finish_and_clear();
        ensure!(
            !all.ids.is_empty(),
            "{} has only deletes: no cache hits or misses them",
            self.trace.display()
        );
        let mut sizes: Vec<u32> = self
            .sizes
            .iter()
            .map(|size| size.entries(all.distinct))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        Ok(Opened {
            summary: Summary {
                name: name(&self.trace),
                requests: all.ids.len(),
                distinct: all.distinct,
                deletes: all.deletes,
                oddities,
            },
            requests,
            all,
            sizes,
        })
    }
}

/// What traffic asks for, as a trace of keys: a key is a thing of one kind.
fn keys(traffic: Traffic) -> Trace {
    let mut things: HashMap<Thing, u64, FxBuildHasher> = HashMap::default();
    let mut requests = Vec::with_capacity(traffic.requests.len());
    for request in &traffic.requests {
        let operation = match request.operation.effect() {
            Effect::Read | Effect::Touch => trace::Operation::Read,
            Effect::Write => trace::Operation::Write,
            Effect::Delete => trace::Operation::Delete,
            Effect::None => continue,
        };
        let next = things.len() as u64;
        let key = *things.entry(request.thing()).or_insert(next);
        requests.push(trace::Request {
            size_bytes: request.size_bytes.max(1),
            operation,
            ..trace::Request::read(request.time_ms, key)
        });
    }
    Trace {
        requests,
        oddities: traffic.oddities,
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

struct Opened {
    summary: Summary,
    requests: Vec<trace::Request>,
    all: Requests,
    /// Ascending.
    sizes: Vec<u32>,
}

/// What has to be known of the trace.
#[derive(Debug, Clone)]
struct Summary {
    name: String,
    requests: usize,
    distinct: u32,
    deletes: u64,
    oddities: Oddities,
}

impl Summary {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "requests": self.requests,
            "distinct": self.distinct,
            "deletesLeftOut": self.deletes,
            "unsorted": self.oddities.unsorted,
            "rejected": self.oddities.rejected,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{}: {} requests for {} things.",
            self.name, self.requests, self.distinct
        )?;
        if self.deletes > 0 {
            writeln!(formatter, "{} deletes are left out.", self.deletes)?;
        }
        write!(formatter, "{}", self.oddities)
    }
}

/// A share in the way of the golden tables.
fn ratio(value: f64) -> String {
    format!("{value:.4}")
}

/// Numbers stand on the right, but for the first column.
fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = tables::begun(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    // A mistake in the template leaves the library's own style.
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_traffic_is_a_thing_of_one_kind() {
        use crate::operation::Operation::{DeleteGeneric, Floor, Profile, Session, StoreSession};
        let mut traffic = Traffic::default();
        for operation in [Session, Profile, StoreSession, Floor, DeleteGeneric] {
            traffic.push(crate::traffic::Request::new(0, operation, 0));
        }
        let trace = keys(traffic);
        let keys: Vec<u64> = trace.requests.iter().map(|request| request.key).collect();
        assert_eq!(keys, [0, 1, 0, 2]);
        let last = trace.requests.last().map(|request| request.operation);
        assert_eq!(last, Some(trace::Operation::Delete));
    }

    #[test]
    fn a_size_is_a_number_or_a_share() {
        assert_eq!("5000".parse(), Ok(Size::Entries(5_000)));
        assert_eq!("2.5%".parse(), Ok(Size::Percent(2.5)));
        assert_eq!(Size::Percent(2.5).entries(1_000), 25);
        assert_eq!(Size::Percent(0.01).entries(10), 1);
        for text in ["0", "-1", "0%", "x", "", "nan%", "inf%"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
