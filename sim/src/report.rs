//! The table at the end of a replay, and what has to be said about it.
//!
//! Judges at p95. Knows counts and targets. Does not know how they came about.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};

use crate::replay::{Outcome, Tally};
use crate::workload::Operation;

const HEADER: [&str; 11] = [
    "operation",
    "requests",
    "L1 %",
    "L2 %",
    "L3 %",
    "errors",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "target",
    "at p95",
];

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

/// The table, with colours when it goes to a terminal.
pub fn table(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADER.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for operation in Operation::ALL {
        if let Some(tally) = outcome.tallies.get(&operation) {
            table.add_row(row(operation, tally));
        }
    }
    for column in table.column_iter_mut().skip(1).take(HEADER.len() - 2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn row(operation: Operation, tally: &Tally) -> Vec<Cell> {
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
    cells.push(match tally.errors {
        0 => Cell::new("0"),
        errors => Cell::new(errors).fg(Color::Red),
    });
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
        "{sent} requests in {:.1} s over {} connections, as fast as the answers came: an hour of a shop's log in seconds. \
         The order and the popularity of keys are recorded, the kinds of requests are synthetic.\n",
        outcome.elapsed.as_secs_f64(),
        outcome.connections
    );
    if let Some(floor) = outcome.tallies.get(&Operation::Floor) {
        let _ = writeln!(
            notes,
            "Each time includes the local server in front of the Worker (wrangler's dev proxy, which caps near 500 requests/s): \
             a request that asks no tier at all takes {} ms (p50), {} ms (p95).",
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
        Ok(())
    }
}
