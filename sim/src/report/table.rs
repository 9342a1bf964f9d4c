//! The table at the end of a replay, and what has to be said about it.
//!
//! Knows what stands where, and computes no number.

use std::fmt::{self, Write as _};

use comfy_table::{Cell, CellAlignment, Color};

use super::figures::{NONE, amount, count, milliseconds, share};
use super::{Latency, PlaceRow, Report, Row, Staleness, WhatIf};
use crate::load::closed::Outcome;
use crate::operation::Operation;
use crate::tables;

const BEFORE_ERRORS: [&str; 5] = ["operation", "requests", "L1 %", "L2 %", "L3 %"];
/// Of a table of places, here and on the page.
pub const PLACES: [&str; 10] = [
    "place",
    "requests",
    "L1 %",
    "L2 %",
    "L3 %",
    "errors",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "voice p95 ms",
];
const AFTER_ERRORS: [&str; 5] = ["p50 ms", "p95 ms", "p99 ms", "target", "at p95"];

/// The table, with colours when it goes to a terminal. It has a column for
/// errors only when there are any.
pub fn table(rows: &[Row]) -> String {
    let with_errors = rows.iter().any(|row| row.errors > 0);
    let errors = with_errors.then_some("errors");
    let header = BEFORE_ERRORS.into_iter().chain(errors).chain(AFTER_ERRORS);
    let mut table = tables::begun(header);
    for row in rows {
        table.add_row(cells(row, with_errors));
    }
    // The first is a name and the last a verdict.
    let numbers = 1..BEFORE_ERRORS.len() + AFTER_ERRORS.len() - 1;
    tables::set_close(&mut table, numbers);
    table.trim_fmt()
}

fn cells(row: &Row, with_errors: bool) -> Vec<Cell> {
    let known = row.known();
    let l3 = if row.has_l3 {
        share(row.l3, known)
    } else {
        NONE.to_owned()
    };
    let mut cells: Vec<Cell> = [
        row.operation.clone(),
        count(row.requests),
        share(row.l1, known),
        share(row.l2, known),
        l3,
    ]
    .map(Cell::new)
    .to_vec();
    if with_errors {
        cells.push(match row.errors {
            0 => Cell::new("0"),
            errors => Cell::new(count(errors)).fg(Color::Red),
        });
    }
    let Latency {
        p50_us,
        p95_us,
        p99_us,
        ..
    } = row.latency;
    cells.extend([p50_us, p95_us, p99_us].map(|us| Cell::new(milliseconds(us))));
    cells.push(Cell::new(
        row.target_ms
            .map_or_else(|| NONE.to_owned(), |ms| format!("< {ms} ms")),
    ));
    cells.push(match row.verdict() {
        Some(true) => Cell::new("met").fg(Color::Green),
        Some(false) => Cell::new("missed").fg(Color::Red),
        None => Cell::new(NONE),
    });
    cells
}

/// The whole report on a terminal.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", table(&self.rows))?;
        if !self.places.is_empty() {
            writeln!(formatter, "{}\n", places(&self.places))?;
        }
        for store in &self.stores {
            writeln!(
                formatter,
                "{}: {} {}, {} in the busiest second (from {} s on); {} connections, at most {} at once.",
                store.store,
                store.total,
                store.unit,
                store.peak_per_s,
                store.peak_at_ms / 1000,
                store.connections,
                store.connections_at_once_max,
            )?;
        }
        let Staleness {
            answers,
            stale,
            p50_ms,
            p99_ms,
            max_ms,
            ..
        } = self.staleness;
        write!(
            formatter,
            "Staleness: of {answers} answers that could be judged, {stale} ({} %) were behind a write",
            share(stale, answers)
        )?;
        match stale {
            0 => writeln!(formatter, ".")?,
            _ => writeln!(
                formatter,
                ": by {p50_ms} ms (p50), {p99_ms} ms (p99), {max_ms} ms at most."
            )?,
        }
        if !self.bounds.is_empty() {
            let bounds = self
                .bounds
                .iter()
                .map(|bound| format!("{} {:.1} %", bound.name, bound.hit_ratio * 100.0));
            writeln!(
                formatter,
                "L1 of all reads: {}.",
                bounds.collect::<Vec<_>>().join("; ")
            )?;
        }
        for limit in &self.limits {
            let amount = |number| amount(number, &limit.unit);
            write!(
                formatter,
                "Limit of the platform: {}: {} at most, of {} allowed",
                limit.name,
                amount(limit.most),
                amount(limit.allowed)
            )?;
            match limit.over {
                0 => writeln!(formatter, ".")?,
                over => writeln!(formatter, "; {} needed more.", count(over))?,
            }
        }
        if !self.what_if.is_empty() {
            writeln!(formatter, "\n{}\n", what_if(&self.what_if))?;
        }
        for (name, value) in &self.conditions {
            writeln!(formatter, "  {name}: {value}")?;
        }
        for note in &self.notes {
            writeln!(formatter, "{note}")?;
        }
        Ok(())
    }
}

/// All requests of each place.
fn places(rows: &[PlaceRow]) -> String {
    let mut table = tables::begun(PLACES);
    for row in rows {
        let known = row.known();
        let voice = row.voice_p95_us;
        table.add_row([
            row.place.clone(),
            count(row.requests),
            share(row.l1, known),
            share(row.l2, known),
            share(row.l3, known),
            count(row.errors),
            milliseconds(row.p50_us),
            milliseconds(row.p95_us),
            milliseconds(row.p99_us),
            voice.map_or_else(|| NONE.to_owned(), milliseconds),
        ]);
    }
    tables::set_close(&mut table, 1..);
    table.trim_fmt()
}

/// The same traffic under other settings.
fn what_if(lines: &[WhatIf]) -> String {
    let names: Vec<&str> = lines.first().map_or_else(Vec::new, |line| {
        line.settings
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
    });
    let numbers = [
        "L1 %",
        "missed",
        "worst",
        "voice p95 ms",
        "errors",
        "PostgreSQL/s",
        "Valkey/s",
        "stale %",
        "front",
    ];
    let mut table = tables::begun(names.iter().copied().chain(numbers));
    for line in lines {
        let settings = line.settings.iter().map(|(_, value)| value.clone());
        let numbers = [
            format!("{:.1}", line.l1_share * 100.0),
            line.targets_missed.to_string(),
            format!("{:.2} ×", line.worst),
            format!("{:.1}", line.voice_p95_us as f64 / 1000.0),
            line.errors.to_string(),
            line.postgres_peak_per_s.to_string(),
            line.valkey_peak_per_s.to_string(),
            format!("{:.1}", line.stale_share * 100.0),
            if line.is_on_front { "yes" } else { "" }.to_owned(),
        ];
        table.add_row(settings.chain(numbers));
    }
    for column in table.column_iter_mut() {
        if column.index >= names.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{}\nworst: p95 of the operation that is furthest from its target, as a multiple of it.",
        table.trim_fmt()
    )
}

/// What a reader has to know to read the table right.
pub fn notes(outcome: &Outcome) -> String {
    let sent = outcome.tallies.sum(|tally| tally.requests);
    let absent = outcome.tallies.sum(|tally| tally.absent);
    let mut notes = format!(
        "{sent} requests in {:.1} s over {} connections, as fast as the answers came: an hour of a\n\
         shop's log in seconds. The order and the popularity of keys are recorded, the kinds of\n\
         requests are synthetic.\n",
        outcome.elapsed.as_secs_f64(),
        outcome.connections
    );
    if let Some(floor) = outcome.tallies.get(Operation::Floor) {
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
    use anyhow::Result;

    use super::*;
    use crate::tally::Tallies;

    #[test]
    fn the_table_has_a_row_for_each_operation_that_was_sent() -> Result<()> {
        let mut tallies = Tallies::default();
        let products = tallies.of(Operation::Products)?;
        for ms in [3, 4] {
            products.time(ms * 1000);
        }
        (products.l1, products.l3) = (1, 1);
        let table = table(&Row::all_of(&tallies));
        assert!(
            table.contains("products") && !table.contains("session lookup"),
            "{table}"
        );
        assert!(table.contains("50.0") && table.contains("met"), "{table}");
        assert!(!table.contains("errors"), "{table}");
        Ok(())
    }
}
