//! The fast level against the full one, on the same traffic: they must agree
//! where nothing fails.

// A test that fails stops.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use anyhow::Result;
use sim::caches::{Policy, Requests, clairvoyant};
use sim::model::{self, Model, Times, Way};
use sim::operation::Operation;
use sim::report::{Report, Row};
use sim::simulation;
use sim::simulation::faults::Fault;
use sim::simulation::setup::{Arguments, Level, Mode, Setup};
use sim::trace;
use sim::traffic::{Request, Traffic, mapped};

const MODES: [Mode; 3] = [Mode::Direct, Mode::Gateway, Mode::Hyperdrive];

/// Recorded keys, faster than recorded, so that copies in memory count.
fn traffic(speed: u64) -> Result<Traffic> {
    let mut traffic = mapped::traffic(&trace::excerpt()?, 2_000);
    for request in &mut traffic.requests {
        request.time_ms /= speed;
    }
    Ok(traffic)
}

/// Near the data, so that no deadline passes.
fn near(per_place: u32) -> Model {
    let mut model = Model::default();
    model.places.truncate(2);
    model.isolates.per_place = per_place;
    model
}

fn report(level: Level, mode: Mode, speed: u64, per_place: u32) -> Result<Report> {
    let arguments = Arguments {
        level,
        mode,
        ..Arguments::default()
    };
    replayed(arguments, near(per_place), speed)
}

fn replayed(arguments: Arguments, model: Model, speed: u64) -> Result<Report> {
    let setup = Setup::with_model(arguments, model)?;
    simulation::replay(traffic(speed)?, setup)
}

/// Parts of all answers, in percent.
fn shares(row: &Row) -> [f64; 3] {
    let all = (row.l1 + row.l2 + row.l3).max(1) as f64;
    [row.l1, row.l2, row.l3].map(|count| count as f64 * 100.0 / all)
}

/// What differs by more than chance and what the fast level leaves out.
fn differences(full: &Report, fast: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    for (one, other) in full.rows.iter().zip(&fast.rows) {
        assert_eq!(
            (&one.operation, one.requests),
            (&other.operation, other.requests)
        );
        // Less than so many say little; an unknown path is asked for together with
        // something else, and waits for it or not by chance.
        if one.requests < 200 || one.operation == Operation::Floor.name() {
            continue;
        }
        let pairs = shares(one).into_iter().zip(shares(other));
        if pairs
            .into_iter()
            .any(|(one, other)| (one - other).abs() > 2.0)
        {
            wrong.push(format!(
                "{}: shares {:.1?} and {:.1?}",
                one.operation,
                shares(one),
                shares(other)
            ));
        }
        for (name, one_us, other_us) in [
            ("p50", one.latency.p50_us, other.latency.p50_us),
            ("p95", one.latency.p95_us, other.latency.p95_us),
        ] {
            let off = (other_us as f64 / one_us as f64 - 1.0).abs();
            // Half a ms is another request in the isolate's queue.
            if off > 0.10 && one_us.abs_diff(other_us) > 500 {
                wrong.push(format!(
                    "{} {name}: {one_us} and {other_us} µs",
                    one.operation
                ));
            }
        }
    }
    for (one, other) in full.stores.iter().zip(&fast.stores) {
        let off = (other.total as f64 / one.total as f64 - 1.0).abs();
        if off > 0.05 {
            wrong.push(format!(
                "{}: {} and {} {}",
                one.store, one.total, other.total, one.unit
            ));
        }
    }
    wrong
}

#[test]
fn an_l1_in_the_simulation_hits_as_often_as_the_bare_cache() -> Result<()> {
    let keys = trace::excerpt()?;
    let all = Requests::of_trace(&keys)?;
    let next_uses = clairvoyant::next_uses(&all.ids, all.distinct);
    let mut traffic = Traffic::default();
    for request in &keys {
        let key = traffic.keys.number(&request.key.to_string());
        traffic.push(Request::new(0, Operation::Generic, key));
    }
    // Everything happens at the same moment, so that nothing ages.
    let nothing = model::Store {
        service_us: Times::Always(0),
        connect_round_trips: 0,
        ..model::Store::default()
    };
    let mut model = near(1);
    model.places.truncate(1);
    model.places[0].way = Way::default();
    let zero = || Times::Always(0);
    model.edge = model::Edge {
        start_us: zero(),
        floor_us: zero(),
        busy: model::Busy {
            request_us: 0,
            valkey_us: 0,
            postgres_us: 0,
        },
        none_us: zero(),
        l1_us: zero(),
        l2_us: zero(),
        l3_us: zero(),
        write_us: zero(),
    };
    model.valkey = nothing;
    for policy in Policy::ALL {
        let setup = Setup::with_model(
            Arguments {
                level: Level::Fast,
                l1: Some(policy),
                l1_entries: (policy != Policy::Unbounded).then_some(300),
                ..Arguments::default()
            },
            model.clone(),
        )?;
        let report = simulation::replay(traffic.clone(), setup)?;
        let bare = policy.hits(300, &all, &next_uses);
        assert_eq!(report.rows[0].l1, bare, "{}", policy.name());
    }
    Ok(())
}

#[test]
fn both_levels_agree() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in MODES {
        for (speed, per_place) in [(1, 4), (30, 1), (30, 4)] {
            let full = report(Level::Full, mode, speed, per_place)?;
            let fast = report(Level::Fast, mode, speed, per_place)?;
            let differences = differences(&full, &fast);
            let what = |difference| format!("{} × {speed}, {per_place}: {difference}", mode.name());
            wrong.extend(differences.into_iter().map(what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Answers of all operations, and errors, in percent of all requests.
fn outcomes(report: &Report) -> [f64; 4] {
    let rows = || {
        let is_request = |row: &&Row| row.operation != Operation::VoiceQuery.name();
        report.rows.iter().filter(is_request)
    };
    let all: u64 = rows().map(|row| row.requests).sum();
    let sums = [
        rows().map(|row| row.l1).sum::<u64>(),
        rows().map(|row| row.l2).sum(),
        rows().map(|row| row.l3).sum(),
        rows().map(|row| row.errors).sum(),
    ];
    sums.map(|sum| sum as f64 * 100.0 / all as f64)
}

/// With which statuses requests failed, as is said.
fn statuses(report: &Report) -> Vec<&str> {
    let mut notes = report.notes.iter();
    let said = notes.find(|note| note.starts_with("Requests failed"));
    let parts = said.map_or("", String::as_str).split("status ").skip(1);
    parts.map(|part| part.split(' ').next().unwrap()).collect()
}

/// Both levels with these faults; what of their outcomes and loads lies apart.
fn apart(mode: Mode, faults: &[&str], model: &Model) -> Result<Vec<String>> {
    let faults: Vec<Fault> = faults
        .iter()
        .map(|fault| fault.parse())
        .collect::<Result<_>>()?;
    let at = |level| {
        let arguments = Arguments {
            level,
            mode,
            faults: faults.clone(),
            ..Arguments::default()
        };
        replayed(arguments, model.clone(), 30)
    };
    let (full, fast) = (at(Level::Full)?, at(Level::Fast)?);
    let what = format!("{} {faults:?}", mode.name());
    let (one, other) = (outcomes(&full), outcomes(&fast));
    println!("{what}: L1, L2, L3, errors {one:.2?} and {other:.2?} %");
    let mut wrong = Vec::new();
    if statuses(&full) != statuses(&fast) {
        wrong.push(format!(
            "{what}: {:?} and {:?}",
            statuses(&full),
            statuses(&fast)
        ));
    }
    if one
        .iter()
        .zip(other)
        .any(|(one, other)| (one - other).abs() > 1.0)
    {
        wrong.push(format!("{what}: {one:.2?} and {other:.2?} %"));
    }
    for (one, other) in full.stores.iter().zip(&fast.stores) {
        let off = other.total as f64 / one.total as f64 - 1.0;
        println!("  {}: {} and {}", one.store, one.total, other.total);
        if off.abs() > 0.05 {
            wrong.push(format!(
                "{what}, {}: {} and {}",
                one.store, one.total, other.total
            ));
        }
    }
    Ok(wrong)
}

#[test]
fn both_levels_agree_on_a_short_outage() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in MODES {
        for fault in ["valkey@10s+5s", "postgres@10s+5s", "cold@10s"] {
            wrong.extend(apart(mode, &[fault], &near(4))?);
        }
    }
    // One outage within another ends with the later of both.
    let overlapping = ["valkey@10s+5s", "valkey@11s+1s"];
    wrong.extend(apart(Mode::Gateway, &overlapping, &near(4))?);
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn both_levels_agree_far_from_the_data_where_deadlines_pass() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in MODES {
        wrong.extend(apart(mode, &[], &Model::default())?);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn a_store_refuses_more_connections_than_it_has_room_for() -> Result<()> {
    for store in ["Valkey", "PostgreSQL"] {
        let mut model = near(4);
        let of_store = match store {
            "Valkey" => &mut model.valkey,
            _ => &mut model.postgres,
        };
        of_store.connections_max = 1;
        let at = |level| {
            let arguments = Arguments {
                level,
                ..Arguments::default()
            };
            replayed(arguments, model.clone(), 30)
        };
        let (full, fast) = (at(Level::Full)?, at(Level::Fast)?);
        assert!(outcomes(&full)[3] > 0.1, "{store}: {:?}", outcomes(&full));
        // It cannot say who would have been refused, but that somebody would.
        let said = format!("{store} would have had to refuse");
        assert!(
            fast.notes.iter().any(|note| note.contains(&said)),
            "{:?}",
            fast.notes
        );
        assert!(!full.notes.iter().any(|note| note.contains(&said)));
    }
    Ok(())
}

#[test]
fn both_levels_need_as_much_of_the_platform() -> Result<()> {
    let model = Model {
        limits: model::Limits {
            connecting: 1,
            subrequests: 1,
            cpu_us: 450,
            memory_bytes: 64 * 1024,
        },
        ..near(4)
    };
    for mode in [Mode::Direct, Mode::Gateway] {
        let at = |level| {
            let arguments = Arguments {
                level,
                mode,
                ..Arguments::default()
            };
            replayed(arguments, model.clone(), 30)
        };
        let (full, fast) = (at(Level::Full)?, at(Level::Fast)?);
        println!("{:?}\n{:?}", full.limits, fast.limits);
        assert_eq!(full.limits.len(), 4);
        for (one, other) in full.limits.iter().zip(&fast.limits) {
            assert_eq!((&one.name, one.allowed), (&other.name, other.allowed));
            // What is in an isolate is more of a guess.
            let off_max = if one.unit == "bytes" { 0.25 } else { 0.05 };
            let near = |one: u64, other: u64| one.abs_diff(other) as f64 <= off_max * one as f64;
            assert!(near(one.most, other.most), "{one:?} {other:?}");
            assert!(near(one.over, other.over), "{one:?} {other:?}");
        }
    }
    Ok(())
}
