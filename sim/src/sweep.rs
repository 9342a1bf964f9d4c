//! The same traffic under many settings: which would be better, and for what.
//!
//! Makes a grid, replays each of its points, finds those that no other beats in
//! everything, and recommends one. Knows reports; does not know how a replay is
//! done.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::model::Model;
use crate::operation::Operation;
use crate::report::{Report, Row, WhatIf};
use crate::simulation;
use crate::simulation::faults::Fault;
use crate::simulation::setup::{self, Level, Mode, Setting, Setup};
use crate::traffic::Traffic;

/// Another seed changes costs by less than this part, most of the time.
const NOISE: f64 = 0.05;
/// More than anybody reads, and hours of replays.
const POINTS_MAX: usize = 1_000;

/// A setting with the values to try: `NAME=a,b,c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    pub name: String,
    pub values: Vec<String>,
}

impl FromStr for Axis {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Setting { name, value } = text.parse()?;
        // A policy has commas of its own: then values are separated by semicolons.
        let separator = if value.contains(';') { ';' } else { ',' };
        Ok(Self {
            name,
            values: value
                .split(separator)
                .map(|value| value.trim().to_owned())
                .collect(),
        })
    }
}

/// As the command line has it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Values of a setting to try, such as L1_MAX_AGE_MS=1000,5000; may be repeated
    /// (with ; between values that have commas)
    /// [default: L1_MAX_AGE_MS=1000,5000 and COPY_MAX_AGE_MS=10000,30000,120000]
    #[arg(long = "set", value_name = "NAME=VALUES")]
    pub axes: Vec<Axis>,
    /// Who talks to the stores; several with commas between them
    #[arg(long, value_delimiter = ',', default_values = ["direct", "gateway"])]
    pub modes: Vec<Mode>,
    /// Isolates of each place to try [default: as the model says]
    #[arg(long, value_delimiter = ',')]
    pub isolates: Vec<u32>,
    /// What to take the world to be, as `sim calibrate` writes it [default: four places in Europe, America and Asia]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// What breaks: see `sim replay`
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<Fault>,
    /// How much of the edge is run
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
    /// Another one draws other delays, places and isolates
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One point of the grid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Point {
    mode: Mode,
    isolates: Option<u32>,
    settings: Vec<Setting>,
}

/// The report of the first point, with all of them as its what-if lines.
///
/// # Errors
/// The grid is too large, a setting cannot be, or the traffic is too long.
pub fn sweep(traffic: Traffic, arguments: &Arguments) -> Result<Report> {
    let model = Model::said(arguments.model.as_deref())?;
    let points = points(arguments)?;
    let setups: Vec<Setup> = points
        .iter()
        .map(|point| {
            let arguments = setup::Arguments {
                mode: point.mode,
                settings: point.settings.clone(),
                model: None,
                isolates: point.isolates,
                faults: arguments.faults.clone(),
                level: arguments.level,
                l1: None,
                l1_entries: None,
                seed: arguments.seed,
            };
            Setup::with_model(arguments, model.clone())
        })
        .collect::<Result<_>>()?;
    let reports = simulation::replay_all(traffic, &setups)?;
    let mut lines: Vec<WhatIf> = points
        .iter()
        .zip(&reports)
        .map(|(point, report)| line(point, report))
        .collect();
    mark_front(&mut lines);
    let mut report = reports
        .into_iter()
        .next()
        .context("the grid has no points")?;
    let first = lines.first().map_or_else(String::new, named);
    report.notes.insert(
        0,
        format!("All but the comparison is of its first line: {first}."),
    );
    report.notes.extend(recommendation(&lines));
    report.what_if = lines;
    Ok(report)
}

fn points(arguments: &Arguments) -> Result<Vec<Point>> {
    let usual = [
        "L1_MAX_AGE_MS=5000,1000",
        "COPY_MAX_AGE_MS=30000,10000,120000",
    ];
    let axes = if arguments.axes.is_empty() {
        usual
            .iter()
            .map(|axis| axis.parse())
            .collect::<Result<_>>()?
    } else {
        arguments.axes.clone()
    };
    let mut isolates: Vec<Option<u32>> = arguments.isolates.iter().copied().map(Some).collect();
    if isolates.is_empty() {
        isolates.push(None);
    }
    let mut points: Vec<Point> = Vec::new();
    for &mode in &arguments.modes {
        points.extend(isolates.iter().map(|&isolates| Point {
            mode,
            isolates,
            settings: Vec::new(),
        }));
    }
    for Axis { name, values } in &axes {
        let with = |point: &Point, value: &String| {
            let mut point = point.clone();
            point.settings.push(Setting {
                name: name.clone(),
                value: value.clone(),
            });
            point
        };
        points = points
            .iter()
            .flat_map(|point| values.iter().map(move |value| with(point, value)))
            .collect();
        ensure!(
            points.len() <= POINTS_MAX,
            "the grid has more than {POINTS_MAX} points: try fewer values at a time"
        );
    }
    Ok(points)
}

fn line(point: &Point, report: &Report) -> WhatIf {
    let mut settings = vec![("mode".to_owned(), point.mode.name().to_owned())];
    if let Some(isolates) = point.isolates {
        settings.push(("isolates".to_owned(), isolates.to_string()));
    }
    let said = point.settings.iter();
    settings.extend(said.map(|setting| (setting.name.clone(), setting.value.clone())));
    let sum = |count: fn(&Row) -> u64| report.requests().map(count).sum::<u64>();
    let answered = sum(|row| row.l1 + row.l2 + row.l3);
    let ratios = report.rows.iter().filter_map(|row| {
        let target_ms = row.target_ms.filter(|_| row.requests > 0)?;
        Some(row.latency.p95_us as f64 / (f64::from(target_ms) * 1000.0))
    });
    let voice = Operation::VoiceQuery.name();
    let voice = report.rows.iter().find(|row| row.operation == voice);
    let peak = |store: &str| {
        let load = report.stores.iter().find(|load| load.store == store);
        load.map_or(0, |load| load.peak_per_s)
    };
    let staleness = &report.staleness;
    WhatIf {
        settings,
        l1_share: part(sum(|row| row.l1), answered),
        targets_missed: report
            .rows
            .iter()
            .filter(|row| row.verdict() == Some(false))
            .count() as u64,
        worst: ratios.fold(0.0, f64::max),
        voice_p95_us: voice.map_or(0, |row| row.latency.p95_us),
        errors: sum(|row| row.errors),
        postgres_peak_per_s: peak("PostgreSQL"),
        valkey_peak_per_s: peak("Valkey"),
        stale_share: part(staleness.stale, staleness.answers),
        stale_max_ms: staleness.max_ms,
        is_on_front: false,
    }
}

fn part(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// What is to be small: latency, load, staleness.
fn costs(line: &WhatIf) -> [f64; 4] {
    [
        line.worst,
        line.errors as f64,
        line.postgres_peak_per_s as f64,
        line.stale_share,
    ]
}

fn mark_front(lines: &mut [WhatIf]) {
    let all: Vec<[f64; 4]> = lines.iter().map(costs).collect();
    for (line, own) in lines.iter_mut().zip(&all) {
        line.is_on_front = !all.iter().any(|other| {
            let mut pairs = other.iter().zip(own);
            other != own && pairs.all(|(theirs, ours)| theirs <= ours)
        });
    }
}

fn named(line: &WhatIf) -> String {
    let said: Vec<String> = line
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    said.join(" ")
}

/// Whether one is better than another by more than another seed would make it.
fn is_clearly_better(one: &WhatIf, other: &WhatIf) -> bool {
    let less = |ours: f64, theirs: f64| ours < theirs * (1.0 - NOISE);
    one.targets_missed < other.targets_missed
        || less(one.errors as f64, other.errors as f64)
        || less(
            one.postgres_peak_per_s as f64,
            other.postgres_peak_per_s as f64,
        )
        || less(one.worst, other.worst)
        || less(one.stale_share, other.stale_share)
}

/// One sentence, and what to paste.
fn recommendation(lines: &[WhatIf]) -> Option<String> {
    let front = lines.iter().filter(|line| line.is_on_front);
    let best = front.min_by(|one, other| {
        let first = (one.targets_missed, one.errors).cmp(&(other.targets_missed, other.errors));
        first
            .then(one.postgres_peak_per_s.cmp(&other.postgres_peak_per_s))
            .then(one.worst.total_cmp(&other.worst))
            .then(one.stale_share.total_cmp(&other.stale_share))
    })?;
    let first = lines.first()?;
    if !is_clearly_better(best, first) {
        return Some(format!(
            "Of {} combinations none is clearly better than the first ({}).",
            lines.len(),
            named(first)
        ));
    }
    let outcome = match best.targets_missed {
        0 => "meets all targets at p95".to_owned(),
        1 => "misses one target at p95, fewer than or as few as any other".to_owned(),
        missed => format!("misses {missed} targets at p95, fewer than or as few as any other"),
    };
    let vars: Vec<String> = best
        .settings
        .iter()
        .filter_map(|(name, value)| match (name.as_str(), value.as_str()) {
            ("mode", "hyperdrive") => {
                Some("# and a [[hyperdrive]] binding named HYPERDRIVE".to_owned())
            }
            ("mode", mode) => Some(format!("BACKEND = \"{mode}\"")),
            // Not a setting: the platform decides.
            ("isolates", _) => None,
            _ => Some(format!("{name} = \"{value}\"")),
        })
        .collect();
    let isolates = best.settings.iter().find(|(name, _)| name == "isolates");
    let given = isolates.map_or_else(String::new, |(_, count)| {
        format!(" with {count} isolates a place")
    });
    Some(format!(
        "Of {} combinations this one{given} {outcome}, with {} statements/s for PostgreSQL at the peak (the first: {}) and {:.1} % stale answers (the first: {:.1} %), {:.1} s old at most; for wrangler.toml:\n\n[vars]\n{}\n",
        lines.len(),
        best.postgres_peak_per_s,
        first.postgres_peak_per_s,
        best.stale_share * 100.0,
        first.stale_share * 100.0,
        best.stale_max_ms as f64 / 1000.0,
        vars.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what_if(worst: f64, postgres: u64, stale: f64) -> WhatIf {
        WhatIf {
            settings: vec![("mode".to_owned(), "direct".to_owned())],
            l1_share: 0.5,
            targets_missed: u64::from(worst >= 1.0),
            worst,
            voice_p95_us: 0,
            errors: 0,
            postgres_peak_per_s: postgres,
            valkey_peak_per_s: 0,
            stale_share: stale,
            stale_max_ms: 0,
            is_on_front: false,
        }
    }

    #[test]
    fn on_the_front_is_what_no_other_beats_in_everything() {
        let mut lines = [
            what_if(0.5, 10, 0.1),
            what_if(0.4, 20, 0.1),
            what_if(0.5, 20, 0.1),
            what_if(0.5, 10, 0.1),
        ];
        mark_front(&mut lines);
        assert_eq!(
            lines.map(|line| line.is_on_front),
            [true, true, false, true]
        );
    }

    #[test]
    fn targets_come_first_then_the_load() {
        let mut lines = [
            what_if(1.5, 1, 0.0),
            what_if(0.9, 20, 0.0),
            what_if(0.8, 30, 0.0),
        ];
        mark_front(&mut lines);
        let said = recommendation(&lines).unwrap_or_default();
        assert!(said.contains("meets all targets"), "{said}");
        assert!(said.contains("with 20 statements/s"), "{said}");
        assert!(said.contains("BACKEND = \"direct\""), "{said}");
    }

    #[test]
    fn what_is_no_better_than_by_chance_is_not_recommended() {
        let mut lines = [what_if(0.50, 100, 0.1), what_if(0.49, 99, 0.1)];
        mark_front(&mut lines);
        let said = recommendation(&lines).unwrap_or_default();
        assert!(said.contains("none is clearly better"), "{said}");
        assert!(!said.contains("[vars]"), "{said}");
        let mut lines = [what_if(0.50, 100, 0.1), what_if(0.49, 80, 0.1)];
        mark_front(&mut lines);
        let said = recommendation(&lines).unwrap_or_default();
        assert!(said.contains("(the first: 100)"), "{said}");
    }

    #[test]
    fn a_grid_has_all_combinations_and_a_limit() -> Result<()> {
        let arguments = |axes: &[&str]| {
            Ok::<_, anyhow::Error>(Arguments {
                axes: axes
                    .iter()
                    .map(|axis| axis.parse())
                    .collect::<Result<_>>()?,
                modes: vec![Mode::Direct, Mode::Gateway],
                isolates: vec![1, 8],
                model: None,
                faults: Vec::new(),
                level: Level::Fast,
                seed: 1,
            })
        };
        assert_eq!(points(&arguments(&[])?)?.len(), 2 * 2 * 6);
        let policies = arguments(&["POLICY_PROFILE=max-age=5, stale-if-error=60;max-age=9"])?;
        assert_eq!(points(&policies)?.len(), 2 * 2 * 2);
        let many = format!("L1_MAX_AGE_MS={}", "1,".repeat(300));
        assert!(points(&arguments(&[&many])?).is_err());
        Ok(())
    }
}
