//! Whether a report meets its targets, for a program that must not go on if not.
//!
//! Knows reports of replays and of loads alike.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;

use crate::load::command::positive;
use crate::operation::Operation;
use crate::report::{Latency, Report, Row};

/// Where a latency is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum At {
    P50,
    P95,
    P99,
}

impl At {
    fn of(self, latency: &Latency) -> u64 {
        match self {
            Self::P50 => latency.p50_us,
            Self::P95 => latency.p95_us,
            Self::P99 => latency.p99_us,
        }
    }
}

/// A target of one's own: `products=40`, in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub operation: Operation,
    pub ms: f64,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, ms) = text
            .split_once('=')
            .with_context(|| format!("{text} is not of the form OPERATION=MS"))?;
        let Some(operation) = Operation::named(name.trim()) else {
            let names = Operation::ALL.map(Operation::name).join(", ");
            bail!("{name} is no operation: {names}");
        };
        let ms = positive(ms.trim()).map_err(|why| anyhow!("a target in ms: {why}"))?;
        Ok(Self { operation, ms })
    }
}

/// As the command line has it.
#[derive(Debug, Clone, clap::Args)]
pub struct Targets {
    /// Where latencies are judged
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["p95"])]
    pub at: Vec<At>,
    /// A target in ms instead of the integration guide's, such as "user profile=25"; may be repeated
    #[arg(long = "target", value_name = "OPERATION=MS")]
    pub targets: Vec<Target>,
    /// How many of a hundred requests may fail
    #[arg(long, default_value_t = 0.1, value_parser = percent)]
    pub errors_percent: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("{text:?} is not from 0 to 100"))
}

/// What is missed, a sentence each.
///
/// # Errors
/// Nothing in the report has a target, or an operation that was given one is not in
/// it: then it was not checked.
pub fn missed(report: &Report, targets: &Targets) -> Result<Vec<String>> {
    let target_ms = |row: &Row| {
        let own = targets.targets.iter().rev();
        let own = own
            .into_iter()
            .find(|target| target.operation.name() == row.operation);
        own.map(|target| target.ms).or(row.target_ms.map(f64::from))
    };
    for Target { operation, .. } in &targets.targets {
        let mut rows = report.rows.iter().filter(|row| row.requests > 0);
        ensure!(
            rows.any(|row| row.operation == operation.name()),
            "the report has no request of {}, which --target names",
            operation.name()
        );
    }
    let judged: Vec<(&Row, f64)> = report
        .rows
        .iter()
        .filter(|row| row.requests > 0)
        .filter_map(|row| Some((row, target_ms(row)?)))
        .collect();
    ensure!(
        !judged.is_empty(),
        "no operation of the report has a target: give one with --target"
    );
    let mut missed = Vec::new();
    for (row, target_ms) in judged {
        for at in &targets.at {
            let ms = at.of(&row.latency) as f64 / 1000.0;
            if ms >= target_ms {
                missed.push(format!(
                    "{}: {ms:.1} ms at {at:?}, and the target is below {target_ms} ms",
                    row.operation
                ));
            }
        }
    }
    let sum = |count: fn(&Row) -> u64| report.requests().map(count).fold(0, u64::saturating_add);
    let (requests, errors) = (sum(|row| row.requests), sum(|row| row.errors));
    let percent = errors as f64 * 100.0 / requests.max(1) as f64;
    if percent > targets.errors_percent {
        missed.push(format!(
            "{errors} of {requests} requests failed ({percent:.2} %), and {} % may",
            targets.errors_percent
        ));
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tallies;

    #[test]
    fn a_target_that_is_not_checked_is_no_target_met() -> Result<()> {
        let targets = Targets {
            at: vec![At::P95],
            targets: vec!["user profile=10".parse()?],
            errors_percent: 100.0,
        };
        let error = missed(&report(0)?, &targets).unwrap_err().to_string();
        assert!(error.contains("no request of user profile"), "{error}");
        Ok(())
    }

    fn report(errors: u64) -> Result<Report> {
        let mut tallies = Tallies::default();
        let sessions = tallies.of(Operation::Session)?;
        for us in 1..=100 {
            sessions.time(us * 100);
        }
        sessions.errors = errors;
        tallies.of(Operation::VoiceQuery)?.time(100);
        Ok(Report {
            rows: Row::all_of(&tallies),
            ..Report::default()
        })
    }

    fn targets(at: At, own: &[&str]) -> Result<Targets> {
        Ok(Targets {
            at: vec![at],
            targets: own.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            errors_percent: 0.1,
        })
    }

    #[test]
    fn the_guides_target_holds_unless_one_is_given() -> Result<()> {
        assert!(missed(&report(0)?, &targets(At::P99, &[])?)?.is_empty());
        let strict = targets(At::P95, &["session lookup=9"])?;
        let said = missed(&report(0)?, &strict)?;
        assert_eq!(
            said,
            ["session lookup: 9.5 ms at P95, and the target is below 9 ms"]
        );
        assert!(missed(&report(0)?, &targets(At::P50, &["session lookup=9"])?)?.is_empty());
        Ok(())
    }

    #[test]
    fn failures_count_and_nothing_to_judge_is_no_success() -> Result<()> {
        let targets = targets(At::P95, &[])?;
        let said = missed(&report(1)?, &targets)?;
        assert_eq!(said, ["1 of 100 requests failed (1.00 %), and 0.1 % may"]);
        assert!(missed(&Report::default(), &targets).is_err());
        assert!("latency=3".parse::<Target>().is_err());
        Ok(())
    }
}
