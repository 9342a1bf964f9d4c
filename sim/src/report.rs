//! The table at the end of a replay, and what has to be said about it.
//!
//! Judges at p95. Knows counts and targets. Does not know how they came about.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Color};

use crate::replay::{Outcome, Tally};
use crate::tables;
use crate::workload::Operation;

const BEFORE_ERRORS: [&str; 5] = ["operation", "requests", "L1 %", "L2 %", "L3 %"];
const AFTER_ERRORS: [&str; 5] = ["p50 ms", "p95 ms", "p99 ms", "target", "at p95"];
/// Spaces on the left and right of a cell; two between columns fit 100 characters.
const PADDING: (u16, u16) = (0, 2);

/// Whether a target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    NoTarget,
}

/// Judges one operation.
pub fn verdict(operation: Operation, tally: &Tally) -> Verdict {
    match operation.target_ms() {
        None => Verdict::NoTarget,
        Some(_) if tally.requests == 0 => Verdict::NoTarget,
        Some(target) if tally.latency_us.value_at_quantile(0.95) < u64::from(target) * 1000 => {
            Verdict::Met
        }
        Some(_) => Verdict::Missed,
    }
}

/// The table, with colours when it goes to a terminal. It has a column for
/// errors only when there are any.
pub fn table(outcome: &Outcome) -> String {
    let with_errors = outcome.tallies.values().any(|tally| tally.errors > 0);
    let errors = with_errors.then_some("errors");
    let header = BEFORE_ERRORS.into_iter().chain(errors).chain(AFTER_ERRORS);
    let mut table = tables::begun(header);
    for operation in Operation::ALL {
        if let Some(tally) = outcome.tallies.get(&operation) {
            table.add_row(row(operation, tally, with_errors));
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding(PADDING);
        // The first is a name and the last a verdict.
        if (1..BEFORE_ERRORS.len() + AFTER_ERRORS.len() - 1).contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn row(operation: Operation, tally: &Tally, with_errors: bool) -> Vec<Cell> {
    let known = tally.l1 + tally.l2 + tally.l3;
    let l3 = if operation.has_l3() {
        share(tally.l3, known)
    } else {
        "–".to_owned()
    };
    let latency = |quantile| milliseconds(tally.latency_us.value_at_quantile(quantile));
    let mut cells: Vec<Cell> = [
        operation.name().to_owned(),
        tally.requests.to_string(),
        share(tally.l1, known),
        share(tally.l2, known),
        l3,
    ]
    .map(Cell::new)
    .to_vec();
    if with_errors {
        cells.push(match tally.errors {
            0 => Cell::new("0"),
            errors => Cell::new(errors).fg(Color::Red),
        });
    }
    cells.extend([0.5, 0.95, 0.99].map(|quantile| Cell::new(latency(quantile))));
    cells.push(Cell::new(
        operation
            .target_ms()
            .map_or_else(|| "–".to_owned(), |ms| format!("< {ms} ms")),
    ));
    cells.push(match verdict(operation, tally) {
        Verdict::Met => Cell::new("met").fg(Color::Green),
        Verdict::Missed => Cell::new("missed").fg(Color::Red),
        Verdict::NoTarget => Cell::new("–"),
    });
    cells
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    // In tenths of a percent, rounded to the nearest.
    let tenths = (part * 2000 + whole) / (whole * 2);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn milliseconds(us: u64) -> String {
    // In tenths, rounded up: a latency must not look better than it was.
    let tenths = us.div_ceil(100);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What a reader has to know to read the table right.
pub fn notes(outcome: &Outcome) -> String {
    let sent: u64 = outcome
        .tallies
        .iter()
        .filter(|(operation, _)| **operation != Operation::VoiceQuery)
        .map(|(_, tally)| tally.requests)
        .sum();
    let absent: u64 = outcome.tallies.values().map(|tally| tally.absent).sum();
    let mut notes = format!(
        "{sent} requests in {:.1} s over {} connections, as fast as the answers came: an hour of a\n\
         shop's log in seconds. The order and the popularity of keys are recorded, the kinds of\n\
         requests are synthetic.\n",
        outcome.elapsed.as_secs_f64(),
        outcome.connections
    );
    if let Some(floor) = outcome.tallies.get(&Operation::Floor) {
        let _ = writeln!(
            notes,
            "Each time includes the local server in front of the Worker (wrangler's dev proxy, which\n\
             caps near 500 requests/s): the row \"{}\" asks no tier and takes {} ms (p50), {} ms (p95).",
            Operation::Floor.name(),
            milliseconds(floor.latency_us.value_at_quantile(0.5)),
            milliseconds(floor.latency_us.value_at_quantile(0.95))
        );
    }
    if absent > 0 {
        let _ = writeln!(
            notes,
            "{absent} answers were 404: what they asked for is not in the stores."
        );
    }
    if let Some(error) = &outcome.first_error {
        let _ = writeln!(notes, "The first error: {error}");
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::Result;

    use super::*;
    use crate::replay::Tallies;

    fn tally(latencies_ms: &[u64]) -> Result<Tally> {
        let mut tally = Tally::new()?;
        for ms in latencies_ms {
            tally.requests += 1;
            tally.latency_us.record(ms * 1000)?;
        }
        Ok(tally)
    }

    #[test]
    fn a_target_holds_when_95_of_100_are_below_it() -> Result<()> {
        let mut latencies = vec![1; 95];
        latencies.extend([500; 5]);
        assert_eq!(
            verdict(Operation::Session, &tally(&latencies)?),
            Verdict::Met
        );
        latencies.extend([500; 1]);
        assert_eq!(
            verdict(Operation::Session, &tally(&latencies)?),
            Verdict::Missed
        );
        assert_eq!(
            verdict(Operation::Orders, &tally(&latencies)?),
            Verdict::NoTarget
        );
        assert_eq!(verdict(Operation::Session, &tally(&[])?), Verdict::NoTarget);
        Ok(())
    }

    #[test]
    fn shares_are_rounded_to_the_nearest_and_latencies_up() {
        assert_eq!(share(1, 3), "33.3");
        assert_eq!(share(2, 3), "66.7");
        assert_eq!(share(3, 3), "100.0");
        assert_eq!(share(0, 0), "–");
        assert_eq!(milliseconds(9_901), "10.0");
        assert_eq!(milliseconds(0), "0.0");
    }

    #[test]
    fn the_table_has_a_row_for_each_operation_that_was_sent() -> Result<()> {
        let mut tallies = Tallies::new();
        let mut products = tally(&[3, 4])?;
        (products.l1, products.l3) = (1, 1);
        tallies.insert(Operation::Products, products);
        let outcome = Outcome {
            tallies,
            elapsed: Duration::from_secs(1),
            connections: 4,
            first_error: None,
        };
        let table = table(&outcome);
        assert!(
            table.contains("products") && !table.contains("session lookup"),
            "{table}"
        );
        assert!(table.contains("50.0") && table.contains("met"), "{table}");
        assert!(!table.contains("errors"), "{table}");
        Ok(())
    }
}
