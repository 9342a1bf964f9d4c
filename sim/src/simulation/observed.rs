//! Counts what is answered in a replay, and makes the report of it.
//!
//! Knows operations, tiers and times. Does not know who simulates, nor how.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::bounds::Reads;
use super::faults::Fault;
use super::setup::{Level, Mode, Setup};
use crate::cache_status::Tier;
use crate::model::Model;
use crate::operation::Effect;
use crate::platform::Needs;
use crate::report::{Bucket, Connections, PlaceRow, Report, Row, Staleness, StoreLoad, Timeline};
use crate::tally::{Tallies, Tally};
use crate::traffic::{Request, Traffic};

/// Buckets of a timeline in a report: as many as a page can show.
const BUCKETS_MAX: u64 = 120;
const DAY_S: u64 = 24 * 3_600;
/// Lengths that an axis can be read by.
const ROUND_S: [u64; 15] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 21_600, DAY_S,
];
/// Of those that a model does not have, as many are named.
const PLACES_SAID_MAX: usize = 5;
const STALE_MS_MAX: u64 = 7 * DAY_S * 1000;

/// One answer.
pub struct Answer {
    /// Where it was given: the place's number in the model.
    pub place: usize,
    pub sent_us: u64,
    pub done_us: u64,
    /// None: there was none.
    pub status: Option<u16>,
    /// The tier that answered, where one did.
    pub tier: Option<Tier>,
    /// How long it had not been the truth any more; None: that cannot be judged.
    pub behind_us: Option<u64>,
}

/// Everything that was counted so far. Times are in µs since the first request.
pub struct Observed {
    tallies: Tallies,
    /// By place.
    places: Vec<OfPlace>,
    /// By the second.
    seconds: Vec<Bucket>,
    judged: u64,
    behind_ms: Histogram<u64>,
    pub reads: Reads,
    /// Of the platform.
    pub needs: Needs,
    /// Isolates that began.
    pub births: u64,
}

/// What was counted at one place.
struct OfPlace {
    requests: Tally,
    voice_queries: Tally,
}

impl OfPlace {
    fn new() -> Result<Self> {
        Ok(Self {
            requests: Tally::new()?,
            voice_queries: Tally::new()?,
        })
    }
}

impl Observed {
    /// # Errors
    /// The bounds of the histogram are wrong.
    pub fn new() -> Result<Self> {
        Ok(Self {
            tallies: Tallies::default(),
            places: Vec::new(),
            seconds: Vec::new(),
            judged: 0,
            behind_ms: Histogram::new_with_bounds(1, STALE_MS_MAX, 3)?,
            reads: Reads::default(),
            needs: Needs::default(),
            births: 0,
        })
    }

    fn of_place(&mut self, place: usize) -> Result<&mut OfPlace> {
        while self.places.len() <= place {
            self.places.push(OfPlace::new()?);
        }
        self.places.get_mut(place).context("a place too many")
    }

    fn second(&mut self, at_us: u64) -> Option<&mut Bucket> {
        let second = (at_us / 1_000_000) as usize;
        if second >= self.seconds.len() {
            self.seconds.resize(second + 1, Bucket::default());
        }
        self.seconds.get_mut(second)
    }

    /// # Errors
    /// A histogram cannot be made.
    pub fn answered(&mut self, request: &Request, answer: &Answer) -> Result<()> {
        let took_us = answer.done_us.saturating_sub(answer.sent_us);
        let all = &mut self.of_place(answer.place)?.requests;
        all.time(took_us);
        all.count(request.operation, answer.status, answer.tier);
        let tally = self.tallies.of(request.operation)?;
        tally.time(took_us);
        let errors = tally.errors;
        let tier = tally.count(request.operation, answer.status, answer.tier);
        let errors = tally.errors - errors;
        if let Some(bucket) = self.second(answer.sent_us) {
            bucket.requests += 1;
            bucket.errors += errors;
            match tier {
                Some(Tier::L1) => bucket.l1 += 1,
                Some(Tier::L2) => bucket.l2 += 1,
                Some(Tier::L3) => bucket.l3 += 1,
                None => {}
            }
        }
        if let Some(behind_us) = answer.behind_us
            && request.operation.effect() == Effect::Read
        {
            self.judged += 1;
            if behind_us > 0 {
                self.behind_ms.saturating_record(behind_us.div_ceil(1000));
            }
        }
        Ok(())
    }

    /// A whole voice query took so long.
    ///
    /// # Errors
    /// A histogram cannot be made.
    pub fn flow(&mut self, place: usize, us: u64, has_failed: bool) -> Result<()> {
        self.of_place(place)?.voice_queries.time(us);
        self.tallies.flow(us, has_failed)
    }

    /// So much more reached the stores at that time.
    pub fn reached(&mut self, at_us: u64, commands: u64, statements: u64) {
        if let Some(bucket) = self.second(at_us) {
            bucket.valkey_commands += commands;
            bucket.postgres_statements += statements;
        }
    }

    /// # Errors
    /// The reads are too many.
    pub fn report(
        self,
        traffic: &Traffic,
        setup: &Setup,
        valkey: Connections,
        postgres: Connections,
    ) -> Result<Report> {
        let rows = Row::all_of(&self.tallies);
        let l1: u64 = rows.iter().map(|row| row.l1).sum();
        let bounds = self.reads.bounds(&setup.settings, l1)?;
        let stores = vec![
            store("Valkey", "commands", &self.seconds, valkey, |bucket| {
                bucket.valkey_commands
            }),
            store(
                "PostgreSQL",
                "statements",
                &self.seconds,
                postgres,
                |bucket| bucket.postgres_statements,
            ),
        ];
        let mut notes = notes(traffic, setup);
        notes.extend(self.tallies.failures());
        if setup.level == Level::Fast {
            notes.extend(refusals(&stores, &setup.model));
        }
        Ok(Report {
            conditions: conditions(traffic, setup, self.births),
            places: places(&self.places, &setup.model),
            timeline: timeline(&self.seconds),
            stores,
            staleness: Staleness::of(self.judged, &self.behind_ms),
            bounds,
            limits: self.needs.near(),
            what_if: Vec::new(),
            notes,
            rows,
        })
    }
}

/// Those that had requests, where there are several.
fn places(tallies: &[OfPlace], model: &Model) -> Vec<PlaceRow> {
    let mut rows: Vec<PlaceRow> = tallies
        .iter()
        .zip(&model.places)
        .filter(|(tallies, _)| tallies.requests.requests > 0)
        .map(|(tallies, place)| {
            PlaceRow::of(&place.name, &tallies.requests, &tallies.voice_queries)
        })
        .collect();
    if rows.len() == 1 {
        rows.clear();
    }
    rows
}

fn store(
    name: &str,
    unit: &str,
    seconds: &[Bucket],
    connections: Connections,
    count: fn(&Bucket) -> u64,
) -> StoreLoad {
    // The first of the busiest.
    let peak = seconds
        .iter()
        .map(count)
        .enumerate()
        .rev()
        .max_by_key(|(_, count)| *count);
    let (second, peak_per_s) = peak.unwrap_or_default();
    StoreLoad {
        store: name.to_owned(),
        unit: unit.to_owned(),
        total: seconds.iter().map(count).sum(),
        peak_per_s,
        peak_at_ms: second as u64 * 1000,
        connections: connections.opened,
        connections_at_once_max: connections.at_once_max,
    }
}

fn timeline(seconds: &[Bucket]) -> Timeline {
    let least_s = (seconds.len() as u64).div_ceil(BUCKETS_MAX);
    let round = ROUND_S.into_iter().find(|round_s| *round_s >= least_s);
    let bucket_s = round.unwrap_or_else(|| least_s.next_multiple_of(DAY_S));
    let buckets = seconds.chunks(bucket_s as usize).map(|seconds| {
        seconds
            .iter()
            .fold(Bucket::default(), |sum, second| Bucket {
                requests: sum.requests + second.requests,
                l1: sum.l1 + second.l1,
                l2: sum.l2 + second.l2,
                l3: sum.l3 + second.l3,
                errors: sum.errors + second.errors,
                valkey_commands: sum.valkey_commands + second.valkey_commands,
                postgres_statements: sum.postgres_statements + second.postgres_statements,
            })
    });
    Timeline {
        bucket_ms: bucket_s * 1000,
        buckets: buckets.collect(),
    }
}

fn conditions(traffic: &Traffic, setup: &Setup, births: u64) -> Vec<(String, String)> {
    let places: Vec<&str> = setup
        .model
        .places
        .iter()
        .map(|place| place.name.as_str())
        .collect();
    let said = setup
        .said
        .iter()
        .map(|setting| (setting.name.clone(), setting.value.clone()));
    let faults = setup
        .faults
        .iter()
        .map(|fault| ("fault".to_owned(), fault.to_string()));
    let duration = std::time::Duration::from_millis(traffic.duration_ms());
    let level = match setup.level {
        Level::Full => "full".to_owned(),
        Level::Fast => format!("fast, L1 {}", setup.l1.name()),
    };
    [
        ("level", level),
        ("requests", traffic.requests.len().to_string()),
        ("over", humantime::format_duration(duration).to_string()),
        ("things", traffic.keys.len().to_string()),
        ("clients", traffic.clients.len().to_string()),
        ("back end", setup.mode.name().to_owned()),
        ("places", places.join(", ")),
        (
            "isolates of each place",
            setup.model.isolates.per_place.to_string(),
        ),
        ("isolates begun", births.to_string()),
        ("seed", setup.seed.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .chain(said)
    .chain(faults)
    .collect()
}

fn notes(traffic: &Traffic, setup: &Setup) -> Vec<String> {
    let mut notes = vec![
        "Times are those at the edge: the way between client and edge is not in them.".to_owned(),
    ];
    notes.extend(placeless(traffic, &setup.model));
    let is_whole = |request: &Request| request.time_ms.is_multiple_of(1000);
    if traffic.duration_ms() > 0 && traffic.requests.iter().all(is_whole) {
        notes.push(
            "All times are whole seconds: what came within a second comes at its beginning here, and waits for itself."
                .to_owned(),
        );
    }
    let late = |fault: &&Fault| fault.from_ms > traffic.duration_ms();
    for fault in setup.faults.iter().filter(late) {
        notes.push(format!(
            "The fault {fault} comes after the last request, and changes nothing."
        ));
    }
    if setup.mode != Mode::Gateway {
        notes.push("Each request opens its own connections to the stores.".to_owned());
    }
    notes
}

/// Which requests come from no place that the model has, so that theirs is chosen.
fn placeless(traffic: &Traffic, model: &Model) -> Option<String> {
    let is_there = |name: &str| model.places.iter().any(|place| place.name == name);
    let mut requests = vec![0_u64; traffic.places.len().max(1)];
    for request in &traffic.requests {
        if let Some(count) = requests.get_mut(request.place as usize) {
            *count += 1;
        }
    }
    let unknown: Vec<(&str, u64)> = (0..)
        .map(|number| traffic.places.name(number))
        .zip(requests)
        .filter(|(name, count)| *count > 0 && !is_there(name))
        .collect();
    let count: u64 = unknown.iter().map(|(_, count)| count).sum();
    if count == 0 {
        return None;
    }
    let names = unknown.iter().map(|(name, _)| *name);
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    let spread = "their clients are spread over the model's by weight";
    if names.is_empty() {
        return Some(format!("{count} of the requests name no place: {spread}."));
    }
    let first: Vec<&str> = names.iter().copied().take(PLACES_SAID_MAX).collect();
    let others = match names.len().saturating_sub(PLACES_SAID_MAX) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Some(format!(
        "{count} of the requests come from places that the model does not have ({}{others}): {spread}. Name theirs, with the way from there to the stores, in --model.",
        first.join(", ")
    ))
}

/// What the fast level leaves out and was needed here.
fn refusals(stores: &[StoreLoad], model: &Model) -> Vec<String> {
    let most = [model.valkey.connections_max, model.postgres.connections_max];
    stores
        .iter()
        .zip(most)
        .filter(|(store, most)| store.connections_at_once_max > u64::from(*most))
        .map(|(store, most)| {
            format!(
                "{} would have had to refuse connections, as it takes {most} at once: what comes of that is seen with --level full.",
                store.store
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::simulation::setup::Arguments;

    /// What is said of requests at these times from these places.
    fn said(requests: &[(u64, &str)]) -> Result<String> {
        let mut traffic = Traffic::default();
        for (time_ms, place) in requests {
            let place = traffic.places.number(place);
            traffic.push(Request {
                place,
                ..Request::new(*time_ms, Operation::Session, 0)
            });
        }
        let setup = Setup::with_model(Arguments::default(), Model::default())?;
        Ok(notes(&traffic, &setup).join("\n"))
    }

    #[test]
    fn what_was_recorded_too_coarsely_is_said() -> Result<()> {
        let all_known = said(&[(1, "FRA"), (2_000, "FRA")])?;
        assert!(!all_known.contains("place"), "{all_known}");
        assert!(!all_known.contains("whole seconds"), "{all_known}");
        let none = said(&[(0, ""), (2_000, "")])?;
        assert!(none.contains("2 of the requests name no place"), "{none}");
        assert!(none.contains("whole seconds"), "{none}");
        let unknown = said(&[(0, "FRA"), (1, "GRU"), (2, "GRU"), (3, "")])?;
        let expected = "3 of the requests come from places that the model does not have (GRU)";
        assert!(unknown.contains(expected), "{unknown}");
        Ok(())
    }

    #[test]
    fn a_timeline_has_few_buckets_of_a_round_length_and_loses_nothing() {
        for (seconds, bucket_s) in [(1, 1), (120, 1), (121, 2), (3_700, 60), (86_400, 900)] {
            let one = Bucket {
                requests: 1,
                ..Bucket::default()
            };
            let made = timeline(&vec![one; seconds]);
            assert_eq!(made.bucket_ms, bucket_s * 1000, "{seconds} s");
            assert!(made.buckets.len() as u64 <= BUCKETS_MAX);
            let requests: u64 = made.buckets.iter().map(|bucket| bucket.requests).sum();
            assert_eq!(requests, seconds as u64);
        }
    }
}
