//! What was predicted beside what was measured: reports of the same traffic, one of a
//! load and one or more of replays, which differ in their seeds.
//!
//! Knows reports, and when a difference says anything. Runs neither.

use comfy_table::{Cell, Color};
use serde::{Deserialize, Serialize};

use crate::operation::Operation;
use crate::report::{QUANTILES, Report, Row};
use crate::tables;

/// Fewer requests of an operation are not judged: of less than these, fewer than
/// ten lie beyond the p99, and one of them alone moves it.
pub const JUDGED_FROM: u64 = 1_000;
pub const ALL: &str = "all requests";
/// A limit may end one of the two within a flow that the other sends to its end.
const COUNT_OFF_MAX: u64 = 10;
/// Of a normal distribution, 95 % lie within so many standard deviations.
const DEVIATIONS: f64 = 1.96;

/// What is still right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Tolerance {
    /// With --strict: how far the share of a tier may be off, in percentage points, beyond what
    /// another seed could be off, where there are several predictions
    #[arg(
        long = "tolerance-points",
        value_name = "POINTS",
        default_value_t = 0.5,
        value_parser = super::command::tolerance
    )]
    pub points: f64,
    /// With --strict: how far p50, p95 and p99 may be off, in percent of what was measured, beyond
    /// what another sample of as many requests could be off
    #[arg(
        long = "tolerance-percent",
        value_name = "PERCENT",
        default_value_t = 15.0,
        value_parser = super::command::tolerance
    )]
    pub percent: f64,
}

/// All operations that both sides have, and all requests together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub tolerance: Tolerance,
    pub lines: Vec<Line>,
    /// Operations that only one of the two has, or has many more of: not the same
    /// traffic, then.
    pub unmatched: Vec<String>,
    pub is_within: bool,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub operation: String,
    pub predicted_requests: u64,
    pub measured_requests: u64,
    /// Predicted less measured share of L1, L2 and L3, in percentage points;
    /// none where no tier was named.
    pub points: Option<[f64; 3]>,
    /// By how much these could be others, had chance been another one, as it is with
    /// every seed; none of one prediction.
    #[serde(default)]
    pub chance_points: Option<[f64; 3]>,
    /// Predicted less measured latency at p50, p95 and p99, in percent of what
    /// was measured.
    pub percent: [f64; 3],
    /// By how much the measured one could be another, had other requests of the same
    /// kind been sampled, in percent of it.
    pub sampling_percent: [f64; 3],
    /// False: there are too few to say.
    pub is_judged: bool,
    pub is_within: bool,
}

/// Holds predictions, of which the mean counts, against a measurement of the same
/// traffic.
pub fn compare(predicted: &[Report], measured: &Report, tolerance: Tolerance) -> Comparison {
    let named = |report: &Report, name: &str| {
        let mut rows = report.rows.iter();
        rows.find(|row| row.operation == name).cloned()
    };
    let mut lines = Vec::new();
    let mut unmatched = Vec::new();
    for operation in Operation::ALL.map(Operation::name) {
        let theirs = predicted.iter().map(|report| named(report, operation));
        match (
            theirs.collect::<Option<Vec<Row>>>(),
            named(measured, operation),
        ) {
            (Some(theirs), Some(ours)) => {
                let is_off = |counts: &[u64; 2]| {
                    counts[0].abs_diff(counts[1]) > COUNT_OFF_MAX.max(counts[1] / 100)
                };
                let mut counts = theirs.iter().map(|row| [row.requests, ours.requests]);
                if let Some([predicted, measured]) = counts.find(is_off) {
                    unmatched.push(format!("{operation} ({predicted} and {measured})"));
                }
                let rows: Vec<&Row> = theirs.iter().collect();
                lines.push(line((&rows, &theirs), (&[&ours], &ours), tolerance));
            }
            (_, ours) => {
                let has_it = |report: &Report| named(report, operation).is_some();
                if ours.is_some() || predicted.iter().any(has_it) {
                    unmatched.push(operation.to_owned());
                }
            }
        }
    }
    let all_of = |report: &Report| together(ALL, &report.requests().collect::<Vec<_>>());
    let theirs: Vec<&Row> = predicted.iter().flat_map(Report::requests).collect();
    let seeds: Vec<Row> = predicted.iter().map(all_of).collect();
    let ours: Vec<&Row> = measured.requests().collect();
    lines.push(line(
        (&theirs, &seeds),
        (&ours, &all_of(measured)),
        tolerance,
    ));
    let is_within = unmatched.is_empty() && lines.iter().all(|line| line.is_within);
    Comparison {
        tolerance,
        lines,
        unmatched,
        is_within,
    }
}

/// Each side with the rows that it was made of; of what was predicted, one is made for
/// each seed.
fn line(
    (theirs, seeds): (&[&Row], &[Row]),
    (sampled, measured): (&[&Row], &Row),
    tolerance: Tolerance,
) -> Line {
    let predicted = &together(&measured.operation, theirs);
    let predicted_requests = predicted.requests / seeds.len().max(1) as u64;
    let points = match (shares(predicted), shares(measured)) {
        (Some(predicted), Some(measured)) => Some(differences(predicted, measured)),
        (None, None) => None,
        // One names tiers and the other does not: as wrong as can be.
        (predicted, measured) => Some(differences(
            predicted.unwrap_or_default(),
            measured.unwrap_or_default(),
        )),
    };
    let error =
        |predicted: u64, measured: u64| (predicted as f64 / measured.max(1) as f64 - 1.0) * 100.0;
    let (theirs, ours) = (&predicted.latency, &measured.latency);
    let percent = [
        error(theirs.p50_us, ours.p50_us),
        error(theirs.p95_us, ours.p95_us),
        error(theirs.p99_us, ours.p99_us),
    ];
    let sampling_percent = QUANTILES.map(|quantile| sampling_percent(sampled, quantile));
    let is_judged = predicted_requests.min(measured.requests) >= JUDGED_FROM;
    let chance_points = points.and(chance_points(seeds));
    let are_near = |points: [f64; 3]| {
        let mut both = points.iter().zip(chance_points.unwrap_or_default());
        both.all(|(error, doubt)| error.abs() <= tolerance.points + doubt)
    };
    let are_right = || {
        let mut both = percent.iter().zip(sampling_percent);
        both.all(|(error, doubt)| error.abs() <= tolerance.percent + doubt)
    };
    Line {
        operation: measured.operation.clone(),
        predicted_requests,
        measured_requests: measured.requests,
        is_judged,
        is_within: !is_judged || points.is_none_or(are_near) && are_right(),
        points,
        chance_points,
        percent,
        sampling_percent,
    }
}

/// Half of the interval that holds the share of another run, which the measured one is,
/// in 95 of 100 runs, about the mean of these (normal distributions).
fn chance_points(seeds: &[Row]) -> Option<[f64; 3]> {
    let runs = seeds
        .iter()
        .map(shares)
        .collect::<Option<Vec<[f64; 3]>>>()?;
    let count = runs.len() as f64;
    let half = |share: fn(&[f64; 3]) -> f64| {
        let mean = runs.iter().map(share).sum::<f64>() / count;
        let squares: f64 = runs.iter().map(|run| (share(run) - mean).powi(2)).sum();
        DEVIATIONS * (squares / (count - 1.0) * (1.0 + 1.0 / count)).sqrt()
    };
    (runs.len() > 1).then(|| [half(|run| run[0]), half(|run| run[1]), half(|run| run[2])])
}

/// Half of the interval that holds a quantile in 95 of 100 samples, in percent of it:
/// between the ranks that are that far from its own (a binomial distribution).
fn sampling_percent(rows: &[&Row], quantile: f64) -> f64 {
    let requests: u64 = rows.iter().map(|row| row.requests).sum();
    let deviation = (quantile * (1.0 - quantile) / requests.max(1) as f64).sqrt();
    let at = |part: f64| merged_us(rows, part.clamp(0.0, 1.0)) as f64;
    let (least, most) = (
        at(quantile - DEVIATIONS * deviation),
        at(quantile + DEVIATIONS * deviation),
    );
    (most - least) * 50.0 / at(quantile).max(1.0)
}

fn differences(predicted: [f64; 3], measured: [f64; 3]) -> [f64; 3] {
    let [l1, l2, l3] = predicted;
    let [of_l1, of_l2, of_l3] = measured;
    [l1 - of_l1, l2 - of_l2, l3 - of_l3]
}

/// In percent of the answers that named a tier.
fn shares(row: &Row) -> Option<[f64; 3]> {
    let known = row.l1 + row.l2 + row.l3;
    let share = |part| part as f64 * 100.0 / known as f64;
    (known > 0).then(|| [row.l1, row.l2, row.l3].map(share))
}

/// One row of several.
fn together(name: &str, rows: &[&Row]) -> Row {
    if let [row] = rows {
        return Row {
            operation: name.to_owned(),
            ..(*row).clone()
        };
    }
    let sum = |count: fn(&Row) -> u64| rows.iter().map(|row| count(row)).sum();
    let [p50_us, p95_us, p99_us] = QUANTILES.map(|quantile| merged_us(rows, quantile));
    let latency = crate::report::Latency {
        p50_us,
        p95_us,
        p99_us,
        max_us: rows.iter().map(|row| row.latency.max_us).max().unwrap_or(0),
        curve: Vec::new(),
    };
    Row {
        operation: name.to_owned(),
        requests: sum(|row| row.requests),
        l1: sum(|row| row.l1),
        l2: sum(|row| row.l2),
        l3: sum(|row| row.l3),
        has_l3: true,
        errors: sum(|row| row.errors),
        absent: sum(|row| row.absent),
        latency,
        target_ms: None,
        is_met: Vec::new(),
    }
}

/// A quantile of several rows, from their curves.
fn merged_us(rows: &[&Row], quantile: f64) -> u64 {
    let all: f64 = rows.iter().map(|row| row.requests as f64).sum();
    let below = |us: u64| -> f64 {
        rows.iter()
            .map(|row| part_within(&row.latency.curve, us) * row.requests as f64)
            .sum()
    };
    let (mut low, mut high) = (
        0,
        rows.iter().map(|row| row.latency.max_us).max().unwrap_or(0),
    );
    while low < high {
        let middle = low.midpoint(high);
        if below(middle) < quantile * all {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Which part took no longer; between the points of a curve on a straight line.
fn part_within(curve: &[(u64, f64)], us: u64) -> f64 {
    let after = curve.partition_point(|(at, _)| *at <= us);
    let before = after.checked_sub(1).and_then(|place| curve.get(place));
    match (before, curve.get(after)) {
        (None, _) => 0.0,
        (Some((_, part)), None) => *part,
        (Some((from_us, from)), Some((to_us, to))) => {
            from + (to - from) * (us - from_us) as f64 / (to_us - from_us).max(1) as f64
        }
    }
}

impl Comparison {
    /// False: of each operation there are too few.
    pub fn is_judged(&self) -> bool {
        self.lines.iter().any(|line| line.is_judged)
    }

    /// For people: green is within the tolerance, red is not, grey is not judged.
    pub fn text(&self) -> String {
        let mut table = tables::begun([
            "predicted − measured",
            "requests",
            "L1 pp",
            "L2 pp",
            "L3 pp",
            "p50 %",
            "p95 %",
            "p99 %",
        ]);
        for line in &self.lines {
            table.add_row(self.cells(line));
        }
        tables::set_close(&mut table, 1..);
        let mut text = table.trim_fmt();
        text.push_str(&format!(
            "\nShares in percentage points, latencies in percent of what was measured; after ±, by how much \
             another\nrun of as many requests could differ (95 %), which is no fault of the prediction. \
             Operations with fewer than\n{JUDGED_FROM} requests are not judged. {} of ±{} points and ±{} % beyond that.\n",
            match (self.is_judged(), self.lines.iter().all(|line| line.is_within)) {
                (false, _) => "Here none is, by the tolerance",
                (true, true) => "All others lie within the tolerance",
                (true, false) => "NOT all others lie within the tolerance",
            },
            self.tolerance.points,
            self.tolerance.percent,
        ));
        if !self.unmatched.is_empty() {
            text.push_str(&format!(
                "NOT the same traffic, as the two differ in their numbers of: {}.\n",
                self.unmatched.join(", ")
            ));
        }
        text
    }

    fn cells(&self, line: &Line) -> Vec<Cell> {
        let colour = |error: f64, most: f64| match (line.is_judged, error.abs() <= most) {
            (false, _) => Color::DarkGrey,
            (true, true) => Color::Green,
            (true, false) => Color::Red,
        };
        let chance = line.chance_points.filter(|_| line.is_judged);
        let share = |(error, doubt): (f64, f64)| {
            let text = match chance {
                Some(_) => format!("{error:+.2} ±{doubt:.2}"),
                None => format!("{error:+.2}"),
            };
            Cell::new(text).fg(colour(error, self.tolerance.points + doubt))
        };
        let points = line.points.map_or_else(
            || vec![Cell::new("–"); 3],
            |points| {
                let both = points.into_iter().zip(chance.unwrap_or_default());
                both.map(share).collect()
            },
        );
        let both = line.percent.iter().zip(line.sampling_percent);
        let percent = both.map(|(error, doubt)| {
            let most = self.tolerance.percent + doubt;
            let text = match line.is_judged {
                true => format!("{error:+.1} ±{doubt:.0}"),
                // Of few requests the doubt itself is one.
                false => format!("{error:+.1}"),
            };
            Cell::new(text).fg(colour(*error, most))
        });
        [
            Cell::new(&line.operation),
            Cell::new(line.measured_requests),
        ]
        .into_iter()
        .chain(points)
        .chain(percent)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use anyhow::Result;

    use super::*;
    use crate::tally::Tallies;

    const TOLERANCE: Tolerance = Tolerance {
        points: 0.5,
        percent: 15.0,
    };

    /// Of each operation: how many by L1, by L2, and how long all of them took.
    fn report(rows: &[(Operation, u64, u64, u64)]) -> Result<Report> {
        let mut tallies = Tallies::default();
        for (operation, l1, l2, us) in rows {
            let tally = tallies.of(*operation)?;
            (tally.l1, tally.l2) = (*l1, *l2);
            (0..l1 + l2).for_each(|_| tally.time(*us));
        }
        Ok(Report {
            rows: Row::all_of(&tallies),
            ..Report::default()
        })
    }

    #[test]
    fn what_is_the_same_is_within_and_what_is_not_is_told_by_how_much() -> Result<()> {
        let measured = report(&[(Operation::Session, 500, 500, 1_000)])?;
        assert!(compare(slice::from_ref(&measured), &measured, TOLERANCE).is_within);
        let off = compare(
            &[report(&[(Operation::Session, 510, 490, 1_200)])?],
            &measured,
            TOLERANCE,
        );
        let session = &off.lines[0];
        let [l1, l2, l3] = session.points.unwrap_or_default();
        assert!((l1 - 1.0).abs() < 1e-9 && (l2 + 1.0).abs() < 1e-9 && l3 == 0.0);
        assert!((session.percent[0] - 20.0).abs() < 0.2, "{session:?}");
        assert!(!session.is_within && !off.is_within);
        assert!(off.text().contains("+1.00") && off.text().contains("NOT all"));
        Ok(())
    }

    #[test]
    fn of_several_predictions_the_mean_counts_and_their_spread_is_chance() -> Result<()> {
        let shares = |l1| report(&[(Operation::Session, l1, 1_000 - l1, 1_000)]);
        let measured = shares(516)?;
        let seeds = [shares(500)?, shares(510)?, shares(520)?];
        assert!(!compare(&seeds[..1], &measured, TOLERANCE).is_within);
        let all = compare(&seeds, &measured, TOLERANCE);
        let session = &all.lines[0];
        assert_eq!(session.predicted_requests, 1_000);
        let (points, chance) = (session.points.unwrap(), session.chance_points.unwrap());
        assert!((points[0] + 0.6).abs() < 1e-9 && points[2] == 0.0);
        // One point of deviation, seen in three runs and drawn once more.
        let expected = DEVIATIONS * (1.0 + 1.0 / 3.0_f64).sqrt();
        assert!(
            (chance[0] - expected).abs() < 1e-9 && chance[2] == 0.0,
            "{chance:?}"
        );
        assert!(
            all.is_within && all.text().contains("-0.60 ±2.26"),
            "{}",
            all.text()
        );
        Ok(())
    }

    #[test]
    fn few_requests_are_shown_and_not_judged() -> Result<()> {
        let many = (Operation::Session, 1_000, 1_000, 1_000);
        let few = |us| (Operation::Preferences, 10, 0, us);
        let comparison = compare(
            &[report(&[many, few(9_000)])?],
            &report(&[many, few(1_000)])?,
            TOLERANCE,
        );
        assert!(comparison.is_within, "{}", comparison.text());
        assert!(!comparison.lines[1].is_judged);
        Ok(())
    }

    #[test]
    fn what_another_sample_could_give_is_no_fault_of_a_prediction() -> Result<()> {
        let sampled = |scale: u64| -> Result<Report> {
            let mut tallies = Tallies::default();
            let tally = tallies.of(Operation::Session)?;
            tally.l1 = 1_000;
            (1..=1_000).for_each(|n| tally.time(n * scale));
            Ok(Report {
                rows: Row::all_of(&tallies),
                ..Report::default()
            })
        };
        // The median of 1000 evenly spread ones lies between the 469th and the 531st.
        let comparison = compare(&[sampled(117)?], &sampled(100)?, TOLERANCE);
        let [p50, _, p99] = comparison.lines[0].sampling_percent;
        assert!((p50 - 6.2).abs() < 0.5 && p99 < 1.5, "{p50} {p99}");
        let session = &comparison.lines[0];
        assert!(
            session.percent[0] > 15.0 && !session.is_within,
            "{session:?}"
        );
        let tails = Tolerance {
            percent: 16.5,
            ..TOLERANCE
        };
        assert!(compare(&[sampled(117)?], &sampled(100)?, tails).is_within);
        Ok(())
    }

    #[test]
    fn all_requests_together_have_the_quantiles_of_both_and_no_flows() -> Result<()> {
        let report = report(&[
            (Operation::Session, 900, 0, 1_000),
            (Operation::Preferences, 0, 100, 5_000),
            (Operation::VoiceQuery, 500, 0, 90_000),
        ])?;
        let rows: Vec<&Row> = report.requests().collect();
        let all = together(ALL, &rows);
        assert_eq!((all.requests, all.l1, all.l2), (1_000, 900, 100));
        assert!(all.latency.p50_us.abs_diff(1_000) < 10, "{all:?}");
        assert!(all.latency.p95_us.abs_diff(5_000) < 10, "{all:?}");
        Ok(())
    }

    #[test]
    fn an_operation_of_one_side_only_is_named() -> Result<()> {
        let measured = report(&[(Operation::Session, 1, 0, 1)])?;
        let predicted = report(&[(Operation::Products, 1, 0, 1)])?;
        let comparison = compare(&[predicted], &measured, TOLERANCE);
        assert_eq!(comparison.unmatched, ["session lookup", "products"]);
        assert!(!comparison.is_within);
        let more = report(&[(Operation::Session, 1_200, 0, 1)])?;
        let fewer = report(&[(Operation::Session, 1_100, 0, 1)])?;
        let comparison = compare(&[more], &fewer, TOLERANCE);
        assert_eq!(comparison.unmatched, ["session lookup (1200 and 1100)"]);
        assert!(comparison.text().contains("NOT the same traffic"));
        Ok(())
    }
}
