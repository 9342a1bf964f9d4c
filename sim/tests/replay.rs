//! The replay in virtual time against what can be computed by hand, on a world
//! with one place and no chance in it.

// A test that fails stops.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use anyhow::{Context, Result};
use edge::settings::Backend;
use sim::model::{self, Busy, Isolates, Limits, Model, Place, Times, Way};
use sim::operation::Operation;
use sim::report::{Report, Row};
use sim::simulation;
use sim::simulation::setup::{Arguments, Level, Mode, Setup};
use sim::trace;
use sim::traffic::{Request, Traffic, mapped};

/// One way to the stores.
const WAY_US: u64 = 10_000;
const ROUND_TRIP_US: u64 = 2 * WAY_US;

/// Nothing takes time but the way, and what is named here.
fn model() -> Model {
    let store = |connect_round_trips, log_in_round_trips| model::Store {
        service_us: Times::Always(100),
        workers: 1,
        connections_max: 100,
        connect_round_trips,
        log_in_round_trips,
        log_in_us: Times::Always(if log_in_round_trips > 0 { 3_000 } else { 0 }),
    };
    Model {
        places: vec![Place {
            name: "HERE".to_owned(),
            weight: 1,
            way: Way::of(WAY_US, 0),
        }],
        isolates: Isolates {
            per_place: 1,
            ..Isolates::default()
        },
        edge: model::Edge {
            start_us: Times::Always(0),
            floor_us: Times::Always(200),
            busy: Busy {
                request_us: 200,
                valkey_us: 100,
                postgres_us: 300,
            },
            none_us: Times::Always(30),
            l1_us: Times::Always(50),
            l2_us: Times::Always(400),
            l3_us: Times::Always(1_000),
            write_us: Times::Always(500),
        },
        valkey: store(1, 0),
        postgres: store(1, 2),
        gateway_way: Way::of(0, 0),
        hyperdrive_way: Way::of(1_000, 0),
        limits: Limits::default(),
    }
}

fn setup(mode: Mode, faults: &[&str]) -> Result<Setup> {
    let faults = faults
        .iter()
        .map(|fault| fault.parse())
        .collect::<Result<_>>()?;
    let arguments = Arguments {
        mode,
        faults,
        ..Arguments::default()
    };
    Setup::with_model(arguments, model())
}

fn traffic(requests: &[(u64, Operation)]) -> Traffic {
    let mut traffic = Traffic::default();
    let key = traffic.keys.number("k");
    for (time_ms, operation) in requests {
        traffic.push(Request::new(*time_ms, *operation, key));
    }
    traffic
}

fn row(report: &Report, operation: Operation) -> Result<&Row> {
    let rows = &report.rows;
    let found = rows.iter().find(|row| row.operation == operation.name());
    found.with_context(|| format!("no row for {}", operation.name()))
}

fn latency_us(mode: Mode, requests: &[(u64, Operation)], of: Operation) -> Result<u64> {
    let report = simulation::replay(traffic(requests), setup(mode, &[])?)?;
    Ok(row(&report, of)?.latency.max_us)
}

/// A histogram has three digits.
fn assert_about(found_us: u64, expected_us: u64) {
    assert!(
        found_us.abs_diff(expected_us) * 1000 <= expected_us,
        "{found_us} µs, not {expected_us} µs"
    );
}

#[test]
fn a_latency_is_round_trips_and_work() -> Result<()> {
    use Operation::{Floor, Profile, Session, StoreSession};
    let floor_us = latency_us(Mode::Direct, &[(0, Floor)], Floor)?;
    assert_about(floor_us, 200 + 30);
    // TCP, and the log-in together with the commands.
    let session_us = latency_us(Mode::Direct, &[(0, Session)], Session)?;
    assert_about(session_us, 200 + 2 * ROUND_TRIP_US + 100 + 400);
    let written_us = latency_us(Mode::Direct, &[(0, StoreSession)], StoreSession)?;
    assert_about(written_us, 200 + 2 * ROUND_TRIP_US + 100 + 500);
    // Valkey first; then TCP, and three for log-in and statement.
    let profile_us = latency_us(Mode::Direct, &[(0, Profile)], Profile)?;
    let postgres_us = 4 * ROUND_TRIP_US + 3_000 + 100;
    assert_about(
        profile_us,
        200 + 2 * ROUND_TRIP_US + 100 + postgres_us + 1_000,
    );
    Ok(())
}

#[test]
fn a_request_waits_for_what_its_isolate_does_for_others() -> Result<()> {
    use Operation::{Floor, Profile};
    for level in [Level::Full, Level::Fast] {
        let floor_us = |at_ms: u64| -> Result<u64> {
            let arguments = Arguments {
                level,
                ..Arguments::default()
            };
            let mut model = model();
            (model.edge.busy.valkey_us, model.edge.busy.postgres_us) = (5_000, 7_000);
            let setup = Setup::with_model(arguments, model)?;
            let report = simulation::replay(traffic(&[(0, Profile), (at_ms, Floor)]), setup)?;
            Ok(row(&report, Floor)?.latency.max_us)
        };
        // It asks Valkey at 0.2 ms, and PostgreSQL two round trips and some work later.
        assert_about(floor_us(1)?, 4_200 + 230);
        assert_about(floor_us(30)?, 230);
        assert_about(floor_us(42)?, 5_300 + 230);
        // And Valkey again, to fill a copy, after four more.
        assert!(floor_us(125)? > 3_000, "{level:?}");
    }
    Ok(())
}

#[test]
fn a_gateway_does_one_thing_at_a_time() -> Result<()> {
    const REQUESTS: u32 = 200;
    let mut traffic = Traffic::default();
    for number in 0..REQUESTS {
        let key = traffic.keys.number(&format!("k{number}"));
        let client = traffic.clients.number(&format!("c{number}"));
        traffic.push(Request {
            client,
            ..Request::new(0, Operation::Session, key)
        });
    }
    let mut model = model();
    model.isolates.per_place = REQUESTS;
    model.edge.floor_us = Times::Always(1_000);
    model.edge.busy.request_us = 1_000;
    for level in [Level::Full, Level::Fast] {
        let slowest_ms = |shards: u32| -> Result<u64> {
            let arguments = Arguments {
                level,
                mode: Mode::Gateway,
                settings: vec![format!("GATEWAY_SHARDS={shards}").parse()?],
                ..Arguments::default()
            };
            let setup = Setup::with_model(arguments, model.clone())?;
            let report = simulation::replay(traffic.clone(), setup)?;
            Ok(row(&report, Operation::Session)?.latency.max_us / 1_000)
        };
        let (one, eight) = (slowest_ms(1)?, slowest_ms(8)?);
        assert!((200..300).contains(&one), "{level:?}: {one} ms");
        assert!(eight < 120, "{level:?}: {eight} ms");
    }
    Ok(())
}

#[test]
fn who_is_too_far_away_for_copies_is_near_enough_for_sessions() -> Result<()> {
    // Four round trips to Valkey are more than a copy may take, and less than a session may.
    let mut model = model();
    model.places[0].way = Way::of(50_000, 0);
    model.valkey.connect_round_trips = 3;
    let requests: Vec<(u64, Operation)> = (0..60)
        .map(|n| n * 1_000)
        .flat_map(|at_ms| {
            [
                (at_ms, Operation::Profile),
                (at_ms + 350, Operation::Session),
            ]
        })
        .filter(|(at_ms, operation)| *operation == Operation::Profile || at_ms / 1_000 % 6 == 4)
        .collect();
    for level in [Level::Full, Level::Fast] {
        let arguments = Arguments {
            level,
            settings: vec!["L1_MAX_AGE_MS=0".parse()?],
            ..Arguments::default()
        };
        let setup = Setup::with_model(arguments, model.clone())?;
        let report = simulation::replay(traffic(&requests), setup)?;
        assert_eq!(row(&report, Operation::Session)?.errors, 0, "{report}");
        let profile = row(&report, Operation::Profile)?;
        assert_eq!(profile.errors, 0, "{report}");
        // After some tries PostgreSQL is asked at once: four round trips.
        assert!(profile.latency.p50_us < 420_000, "{report}");
        assert!(profile.latency.max_us > 700_000, "{report}");
    }
    Ok(())
}

#[test]
fn hyperdrive_logs_in_nearby() -> Result<()> {
    let profile_us = latency_us(
        Mode::Hyperdrive,
        &[(0, Operation::Profile)],
        Operation::Profile,
    )?;
    let near_us = 2 * 1_000;
    // TCP and log-in nearby, and the statement goes on from there.
    let postgres_us = 4 * near_us + ROUND_TRIP_US + 3_000 + 100;
    let expected_us = 200 + 2 * ROUND_TRIP_US + 100 + postgres_us + 1_000;
    assert_about(profile_us, expected_us);
    Ok(())
}

#[test]
fn a_gateway_that_has_its_connections_costs_one_round_trip() -> Result<()> {
    let mut traffic = Traffic::default();
    for user in 0..3 {
        let key = traffic.keys.number(&format!("u{user}"));
        traffic.push(Request::new(user * 10_000, Operation::Profile, key));
    }
    let mut setup = setup(Mode::Gateway, &[])?;
    // One of them, so that it has its connections.
    setup.settings.backend = Backend::Gateway { shards: 1 };
    let report = simulation::replay(traffic, setup)?;
    let row = row(&report, Operation::Profile)?;
    assert_eq!(row.l3, 3);
    // Both have the request.
    assert_about(
        row.latency.p50_us,
        2 * 200 + ROUND_TRIP_US + 2 * 100 + 1_000,
    );
    Ok(())
}

#[test]
fn where_no_copy_may_answer_valkey_is_not_asked() -> Result<()> {
    for level in [Level::Full, Level::Fast] {
        let settings = ["COPY_MAX_AGE_MS=0", "POLICY_PROFILE=stale-if-error=0"]
            .map(str::parse)
            .into_iter()
            .collect::<Result<_>>()?;
        let arguments = Arguments {
            level,
            settings,
            ..Arguments::default()
        };
        let setup = Setup::with_model(arguments, model())?;
        let report = simulation::replay(traffic(&[(0, Operation::Profile)]), setup)?;
        let row = row(&report, Operation::Profile)?;
        assert_eq!((row.l3, report.stores[0].total), (1, 0));
        let postgres_us = 4 * ROUND_TRIP_US + 3_000 + 100;
        assert_about(row.latency.max_us, 200 + postgres_us + 1_000);
    }
    Ok(())
}

#[test]
fn an_isolate_answers_again_until_its_copy_is_old() -> Result<()> {
    let requests = [0, 1_000, 20_000].map(|time_ms| (time_ms, Operation::Session));
    let report = simulation::replay(traffic(&requests), setup(Mode::Direct, &[])?)?;
    let row = row(&report, Operation::Session)?;
    assert_eq!((row.l1, row.l2), (1, 2));
    let [valkey, postgres] = &report.stores[..] else {
        anyhow::bail!("two stores, not {}", report.stores.len());
    };
    assert_eq!((valkey.connections, postgres.connections), (2, 0));
    Ok(())
}

#[test]
fn what_another_isolate_wrote_is_seen_within_the_bound_and_counted_until_then() -> Result<()> {
    let mut traffic = traffic(&[]);
    let key = traffic.keys.number("k");
    let (reader, writer) = (traffic.clients.number("a"), traffic.clients.number("b"));
    for (time_ms, operation, client) in [
        (0, Operation::Session, reader),
        (1_000, Operation::StoreSession, writer),
        (2_000, Operation::Session, reader),
        (8_000, Operation::Session, reader),
    ] {
        traffic.push(Request {
            client,
            ..Request::new(time_ms, operation, key)
        });
    }
    let mut setup = setup(Mode::Direct, &[])?;
    setup.model.isolates.per_place = 64;
    let staleness = simulation::replay(traffic, setup)?.staleness;
    assert_eq!((staleness.answers, staleness.stale), (3, 1));
    // Acknowledged after two round trips and the work.
    let acked_ms = 1_000 + (200 + 2 * ROUND_TRIP_US + 100 + 500).div_ceil(1000);
    assert_eq!(staleness.max_ms, 2_000 - acked_ms + 1);
    Ok(())
}

#[test]
fn who_is_too_far_away_for_copies_still_makes_them_old() -> Result<()> {
    let mut traffic = traffic(&[]);
    let key = traffic.keys.number("k");
    let (near, far) = (
        traffic.places.number("HERE"),
        traffic.places.number("THERE"),
    );
    for (time_ms, operation, place) in [
        (0, Operation::Profile, near),
        (10_000, Operation::SaveProfile, far),
        (18_000, Operation::Profile, near),
    ] {
        traffic.push(Request {
            place,
            ..Request::new(time_ms, operation, key)
        });
    }
    let mut model = model();
    model.valkey.connect_round_trips = 3;
    model.places.push(Place {
        name: "THERE".to_owned(),
        weight: 1,
        way: Way::of(55_000, 0),
    });
    for level in [Level::Full, Level::Fast] {
        let arguments = Arguments {
            level,
            ..Arguments::default()
        };
        let setup = Setup::with_model(arguments, model.clone())?;
        let staleness = simulation::replay(traffic.clone(), setup)?.staleness;
        assert_eq!((staleness.answers, staleness.stale), (2, 0));
    }
    Ok(())
}

#[test]
fn an_outage_is_an_error_for_what_only_that_store_knows() -> Result<()> {
    use Operation::{Floor, Profile, Session};
    let requests = [(0, Floor), (10_000, Session), (10_000, Profile)];
    for (fault, of) in [("valkey@5s+10s", Session), ("postgres@5s+10s", Profile)] {
        let report = simulation::replay(traffic(&requests), setup(Mode::Direct, &[fault])?)?;
        for operation in [Session, Profile] {
            assert_eq!(
                row(&report, operation)?.errors,
                u64::from(operation == of),
                "{fault}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_fault_that_comes_too_late_is_said() -> Result<()> {
    let requests = [(0, Operation::Session), (1_000, Operation::Session)];
    let says = |fault: &str| {
        let report = simulation::replay(traffic(&requests), setup(Mode::Direct, &[fault])?)?;
        Ok::<_, anyhow::Error>(report.notes.iter().any(|note| note.contains(fault)))
    };
    assert!(says("valkey@2s+1s")? && !says("valkey@1s+1s")?);
    Ok(())
}

#[test]
fn kept_connections_do_not_outlive_an_outage() -> Result<()> {
    let requests = [0, 10_000, 20_000].map(|time_ms| (time_ms, Operation::Generic));
    let report = simulation::replay(
        traffic(&requests),
        setup(Mode::Gateway, &["valkey@5s+10s"])?,
    )?;
    let row = row(&report, Operation::Generic)?;
    assert_eq!((row.errors, row.l2), (1, 2));
    Ok(())
}

#[test]
fn a_cold_start_forgets_copies_and_keeps_the_truth() -> Result<()> {
    let requests = [0, 1_000, 3_000].map(|time_ms| (time_ms, Operation::Profile));
    let report = simulation::replay(traffic(&requests), setup(Mode::Direct, &["cold@2s"])?)?;
    let row = row(&report, Operation::Profile)?;
    assert_eq!((row.l1, row.l2, row.l3), (1, 0, 2));
    Ok(())
}

#[test]
fn more_connections_than_postgresql_has_are_refused() -> Result<()> {
    let mut traffic = Traffic::default();
    for user in 0..20 {
        let key = traffic.keys.number(&format!("u{user}"));
        traffic.push(Request::new(0, Operation::Profile, key));
    }
    let mut setup = setup(Mode::Direct, &[])?;
    setup.model.postgres.connections_max = 15;
    let report = simulation::replay(traffic, setup)?;
    let row = row(&report, Operation::Profile)?;
    assert_eq!((row.l3, row.errors), (15, 5));
    assert_eq!(report.stores[1].connections_at_once_max, 20);
    Ok(())
}

#[test]
fn every_operation_succeeds() -> Result<()> {
    let requests = Operation::ALL
        .into_iter()
        .filter(|operation| *operation != Operation::VoiceQuery)
        .zip(0..)
        .map(|(operation, second)| (second * 1_000, operation));
    let requests: Vec<_> = requests.collect();
    let report = simulation::replay(traffic(&requests), setup(Mode::Direct, &[])?)?;
    assert_eq!(report.rows.len(), requests.len());
    for row in &report.rows {
        assert_eq!((row.errors, row.absent), (0, 0), "{}", row.operation);
    }
    Ok(())
}

#[test]
fn a_voice_query_is_as_long_as_its_requests_one_after_the_other() -> Result<()> {
    let mut traffic = Traffic::default();
    let key = traffic.keys.number("k");
    for operation in [Operation::Session, Operation::Conversation] {
        traffic.push(Request {
            flow: 1,
            ..Request::new(5_000, operation, key)
        });
    }
    let report = simulation::replay(traffic, setup(Mode::Direct, &[])?)?;
    let each_us = 200 + 2 * ROUND_TRIP_US + 100 + 400;
    assert_about(
        row(&report, Operation::VoiceQuery)?.latency.max_us,
        2 * each_us,
    );
    assert_about(
        row(&report, Operation::Conversation)?.latency.max_us,
        each_us,
    );
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_one_another() -> Result<()> {
    let traffic = || Ok::<_, anyhow::Error>(mapped::traffic(&trace::excerpt()?, 300));
    let report = |seed| {
        let setup = Setup::of(Arguments {
            seed,
            mode: Mode::Gateway,
            ..Arguments::default()
        })?;
        Ok::<_, anyhow::Error>(serde_json::to_string(&simulation::replay(
            traffic()?,
            setup,
        )?)?)
    };
    assert_eq!(report(1)?, report(1)?);
    assert_ne!(report(1)?, report(2)?);
    let read: Report = serde_json::from_str(&report(1)?)?;
    assert_eq!(serde_json::to_string(&read)?, report(1)?);
    Ok(())
}
