//! `sim calibrate`: measures a real edge and its stores, and writes the model that
//! a simulation takes for them.
//!
//! - [`stores`] asks both stores as the edge does, over connections of our own:
//!   the way to them, their work, a log-in.
//! - [`cases`] sends requests that one known tier answers, and times them.
//! - [`fit`] finds what the edge itself adds to the way and the stores.
//!
//! Nothing is typed in that can be measured; what cannot be keeps its default,
//! and is named. This file knows how the measured parts make a model.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::CellAlignment;

use crate::dice::Dice;
use crate::load::target::Target;
use crate::model::{Busy, Isolates, Model, Place};
use crate::{say, steps, tables};

pub mod cases;
pub mod fit;
pub mod stores;

use cases::{BURST, Cases};
use fit::{Measured, Wait};
use stores::Stores;

/// workerd keeps its one isolate for as long as it runs.
const WORKERD: Isolates = Isolates {
    per_place: 1,
    idle_ms: 24 * 3_600_000,
    life_ms: 24 * 3_600_000,
};

/// What is measured, and how thoroughly.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The edge, such as http://127.0.0.1:8787: its built Wasm in workerd
    #[arg(long)]
    pub url: String,
    /// Its PostgreSQL, by the way that the edge takes; without, its time counts as the edge's own
    #[arg(long)]
    pub database_url: Option<String>,
    /// Its Valkey, likewise
    #[arg(long)]
    pub valkey_url: Option<String>,
    /// Where to write the model [default: the standard output]
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// Requests of each kind
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(20..))]
    pub samples: u32,
    /// Requests a second: few, so that none waits for another
    #[arg(
        long,
        value_name = "REQUESTS_PER_S",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub rate: u32,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Calibration {
    pub model: Model,
    lines: Vec<Line>,
    notes: Vec<String>,
}

/// One kind of request: measured, and as a simulation will have it.
#[derive(Debug, Clone)]
struct Line {
    name: &'static str,
    requests: u64,
    measured: Measured,
    /// What the edge adds, at p50.
    added_us: u64,
    simulated: Measured,
}

/// Measures it all; some minutes.
///
/// # Errors
/// A sentence: the edge or a store is not there, or does not answer from the
/// tier that a case is made for.
pub async fn calibrate(options: &Options) -> Result<Calibration> {
    let target = Target::open(&options.url, cases::CONNECTIONS).await?;
    let database_url = options.database_url.as_deref();
    let valkey_url = options.valkey_url.as_deref();
    let stores = steps::step(
        "The stores are measured",
        "over connections of our own",
        stores::measure(database_url, valkey_url, options.samples as usize),
    )
    .await?;
    say::aside(format_args!(
        "Storing keys and contexts of calibrate-… through {}, for an hour at most; rows are only read.",
        target.url()
    ));
    let cases = cases::measure(&target, options.samples as usize, options.rate).await?;
    Ok(assemble(&cases, &stores))
}

/// Makes the model of what was measured.
fn assemble(cases: &Cases, stores: &Stores) -> Calibration {
    let mut model = Model {
        isolates: WORKERD,
        places: vec![Place {
            name: "here".to_owned(),
            weight: 1,
            way: stores.way,
        }],
        valkey: stores.valkey.clone(),
        postgres: stores.postgres.clone(),
        // A gateway of workerd runs where the isolate does.
        gateway_way: stores.way,
        ..Model::default()
    };
    // What any answer costs is not more than the least that was measured.
    let floor = cases.none.shorter(&cases.l1);
    let mut lines = Vec::new();
    let wait = Wait {
        way: stores.way,
        valkey: &stores.valkey,
        postgres: &stores.postgres,
    };
    let mut added = |name, measured: &Measured, flights| {
        let (added, simulated) =
            fit::added(measured, |dice| floor.draw(dice) + wait.draw(flights, dice));
        let mut dice = Dice::seeded(0);
        let drawn: Measured = (0..TABLE_DRAWS).map(|_| added.draw(&mut dice)).collect();
        lines.push(Line {
            name,
            requests: measured.requests(),
            measured: measured.clone(),
            added_us: drawn.at(0.5),
            simulated,
        });
        added
    };
    model.edge.none_us = added("no tier", &cases.none, fit::Flights::None);
    model.edge.l1_us = added("from L1", &cases.l1, fit::Flights::None);
    model.edge.l2_us = added("from L2", &cases.l2, fit::Flights::Valkey);
    model.edge.l3_us = added("from L3", &cases.l3, fit::Flights::Both);
    model.edge.write_us = added("write to Valkey", &cases.write, fit::Flights::Valkey);
    model.edge.floor_us = floor;
    model.edge.busy = busy(cases);
    let mut notes = stores.notes.clone();
    let [none, l2, l3] = [&cases.bursts.none, &cases.bursts.l2, &cases.bursts.l3];
    let [none, l2, l3] = [none, l2, l3].map(|burst| ms(burst.at(0.5)));
    notes.push(format!(
        "{BURST} requests at once take {none} where no tier answers, {l2} from L2, {l3} from L3 (p50)."
    ));
    let Busy {
        request_us,
        valkey_us,
        postgres_us,
    } = model.edge.busy;
    notes.push(format!(
        "So the isolate is busy with a request for {}, and for {} and {} more when it asks Valkey and PostgreSQL.",
        ms(request_us),
        ms(valkey_us),
        ms(postgres_us),
    ));
    notes.push(
        "Not measured, as usual: edge.start_us, how many isolates there are elsewhere, and \
         hyperdrive_way."
            .to_owned(),
    );
    Calibration {
        model,
        lines,
        notes,
    }
}

/// For how long an isolate is busy: of requests that are sent at once, each waits for all
/// before it, half of them on the average. What it does for one from L3 asks both stores.
fn busy(cases: &Cases) -> Busy {
    let each_us = |burst: &Measured, alone: &Measured| {
        let more_us = burst.at(0.5).saturating_sub(alone.at(0.5));
        more_us * 2 / (BURST as u64 - 1)
    };
    let request_us = each_us(&cases.bursts.none, &cases.none).max(1);
    let l2_us = each_us(&cases.bursts.l2, &cases.l2).max(request_us);
    let l3_us = each_us(&cases.bursts.l3, &cases.l3).max(l2_us);
    Busy {
        request_us,
        valkey_us: l2_us - request_us,
        postgres_us: l3_us - l2_us,
    }
}

fn ms(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}

impl Calibration {
    /// Writes the model where it was asked for.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &std::path::Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.model)? + "\n";
        std::fs::write(path, text)
            .with_context(|| format!("cannot write the model to {}", path.display()))
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut table = tables::begun([
            "request",
            "requests",
            "p50 ms",
            "p99 ms",
            "of it the edge's",
            "simulated p50",
            "p99",
        ]);
        for line in &self.lines {
            let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
            table.add_row([
                line.name.to_owned(),
                line.requests.to_string(),
                ms(line.measured.at(0.5)),
                ms(line.measured.at(0.99)),
                ms(line.added_us),
                ms(line.simulated.at(0.5)),
                ms(line.simulated.at(0.99)),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
            if column.index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(formatter, "{}", table.trim_fmt())?;
        for note in &self.notes {
            writeln!(formatter, "{note}")?;
        }
        Ok(())
    }
}

/// Enough to know a median by.
const TABLE_DRAWS: usize = 1_000;
/// Between two requests of the same connection that are measured one by one.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::cases::Bursts;
    use super::*;
    use crate::model::{Times, Way};

    #[test]
    fn what_was_measured_makes_a_model_that_can_be_opened() -> Result<()> {
        let measured = |us: u64| (0..600).map(|more| us + more % 97).collect::<Measured>();
        let cases = Cases {
            none: measured(300),
            bursts: Bursts {
                none: measured(1_000),
                l2: measured(6_500),
                l3: measured(28_400),
            },
            l1: measured(400),
            l2: measured(3_000),
            l3: measured(20_000),
            write: measured(3_500),
        };
        let mut stores = Stores::unknown();
        stores.way = Way::of(500, 20);
        stores.valkey.service_us = Times::Always(100);
        let calibration = assemble(&cases, &stores);
        let file = tempfile::NamedTempFile::new()?;
        calibration.save(file.path())?;
        assert_eq!(Model::open(file.path())?, calibration.model);
        // Of 3 ms two round trips of 1 ms, 0.1 ms of work and 0.3 ms of floor are not the edge's.
        // Of eight at once half wait for three and a half others: 0.7 ms together, 3.5, and 8.4.
        let busy = Busy {
            request_us: 200,
            valkey_us: 800,
            postgres_us: 1_400,
        };
        assert_eq!(calibration.model.edge.busy, busy);
        let l2_us = calibration.lines[2].added_us;
        assert!(l2_us.abs_diff(600) < 60, "{l2_us}");
        assert!(calibration.to_string().contains("from L3"));
        Ok(())
    }
}
