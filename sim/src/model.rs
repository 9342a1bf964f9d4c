//! What a simulation takes the world to be: how far things are, how long they
//! take, and where the edge runs.
//!
//! Knows numbers and how they are written in a file. `sim calibrate` measures
//! the times, and a model without a file has those of a usual deployment. Knows
//! no cache, and nothing of the edge's own settings.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dice::Dice;
use crate::traffic::LONGEST;

/// For a duration of the model: longer than the edge waits for anything.
const US_MAX: u64 = 60_000_000;
/// For how long an isolate lives: no replay is longer.
const LIFE_MS_MAX: u64 = LONGEST.as_millis() as u64;
/// For what there is many times, each with a place in memory; and for round trips,
/// each of which is drawn.
const WORKERS_MAX: u32 = 10_000;
const ISOLATES_MAX: u32 = 10_000;
const ROUND_TRIPS_MAX: u32 = 100;

/// Everything that is assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Where the edge runs. Traffic that names no place is spread over these.
    pub places: Vec<Place>,
    pub isolates: Isolates,
    pub edge: Edge,
    pub valkey: Store,
    pub postgres: Store,
    /// Between gateways and the stores.
    pub gateway_way: Way,
    /// Between an isolate and Hyperdrive, which keeps the log-ins.
    pub hyperdrive_way: Way,
    pub limits: Limits,
}

/// What the platform lets one request, or one isolate, have. Those of Workers on the
/// paid plan (<https://developers.cloudflare.com/workers/platform/limits/>); on the
/// free one a request has 50 subrequests and 10 ms of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections that a request is opening at the same time: further ones wait.
    pub connecting: u32,
    /// Connections that a request opens, and calls of a gateway.
    pub subrequests: u32,
    /// CPU time of a request. An isolate's start has a limit of its own.
    pub cpu_us: u64,
    /// Of an isolate: its L1, and the bodies of the requests in it.
    pub memory_bytes: u64,
}

/// A point of presence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// As traffic names it.
    pub name: String,
    /// Its part of the clients, as a weight.
    pub weight: u32,
    /// To the region of the stores.
    pub way: Way,
}

/// How long bytes are under way, one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Way {
    /// At least.
    pub latency_us: u64,
    /// More, at most: evenly spread.
    pub jitter_us: u64,
    /// How many of a thousand are held up, by up to `tail_us`.
    pub tail_per_mille: u32,
    pub tail_us: u64,
}

/// The isolates of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolates {
    /// How many serve at the same time; a client stays with one of them, as its
    /// connection does.
    pub per_place: u32,
    /// One that nobody asks for so long is evicted.
    pub idle_ms: u64,
    /// One is evicted after so long at most.
    pub life_ms: u64,
}

/// What the edge itself needs for a request, beyond what it waits for, in µs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Until a new isolate takes its first request.
    pub start_us: Times,
    /// Of any request.
    pub floor_us: Times,
    pub busy: Busy,
    /// More, of one that no tier answered; and so on.
    pub none_us: Times,
    pub l1_us: Times,
    pub l2_us: Times,
    pub l3_us: Times,
    /// More, of one that writes.
    pub write_us: Times,
}

/// For how long an isolate is busy, in µs, so that others wait for it: it does one thing
/// at a time. The rest of a request's time is the way to it, and waits in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Busy {
    /// With any request. To call a gateway is as much again, and so is the call there.
    pub request_us: u64,
    /// More, with each connection to Valkey.
    pub valkey_us: u64,
    /// More, with each connection to PostgreSQL.
    pub postgres_us: u64,
}

/// A store, and what a connection to it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// For what comes in one piece: a flight of commands, a statement.
    pub service_us: Times,
    /// How many of these are done at the same time.
    pub workers: u32,
    /// More are refused.
    pub connections_max: u32,
    /// Round trips before the first byte of the protocol: 1 for TCP, 2 more for
    /// TLS 1.3 with the answer to SSLRequest, 1 more without.
    pub connect_round_trips: u32,
    /// Round trips of a log-in before the one that brings the first answer: 2 with SCRAM,
    /// and none at Valkey, whose HELLO comes with the first commands.
    pub log_in_round_trips: u32,
    /// What the server needs for a log-in; at Valkey it is a part of the service.
    pub log_in_us: Times,
}

/// Durations in µs, by equal steps from the shortest to the longest: one number,
/// or quantiles that were measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a time is a whole number of µs, or a list of its quantiles from the shortest to the longest"
)]
pub enum Times {
    Always(u64),
    Quantiles(Vec<u64>),
}

impl Times {
    pub fn draw(&self, dice: &mut Dice) -> u64 {
        const STEPS: u64 = 1 << 16;
        match self {
            Self::Always(us) => *us,
            Self::Quantiles(quantiles) => {
                let spans = quantiles.len().saturating_sub(1) as u64;
                let place = dice.roll() % (spans * STEPS).max(1);
                let at = |index: u64| quantiles.get(index as usize).copied();
                let from = at(place / STEPS).unwrap_or_default();
                let to = at(place / STEPS + 1).unwrap_or(from);
                from + to.saturating_sub(from) * (place % STEPS) / STEPS
            }
        }
    }

    /// What it takes at least.
    pub fn least(&self) -> u64 {
        match self {
            Self::Always(us) => *us,
            Self::Quantiles(quantiles) => quantiles.first().copied().unwrap_or_default(),
        }
    }

    fn is_sound(&self) -> bool {
        let quantiles = match self {
            Self::Always(us) => std::slice::from_ref(us),
            Self::Quantiles(quantiles) => quantiles,
        };
        quantiles.is_sorted() && quantiles.last().is_some_and(|us| *us <= US_MAX)
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::Always(0)
    }
}

impl Way {
    pub const fn of(latency_us: u64, jitter_us: u64) -> Self {
        Self {
            latency_us,
            jitter_us,
            tail_per_mille: 0,
            tail_us: 0,
        }
    }

    /// How long something that leaves now is under way, in µs.
    pub fn draw(&self, dice: &mut Dice) -> u64 {
        let mut us = self.latency_us;
        if self.jitter_us > 0 {
            us += dice.roll() % (self.jitter_us + 1);
        }
        if self.tail_per_mille > 0 && dice.below(1000) < self.tail_per_mille {
            us += dice.roll() % (self.tail_us + 1);
        }
        us
    }
}

impl Default for Isolates {
    fn default() -> Self {
        Self {
            per_place: 4,
            idle_ms: 60_000,
            life_ms: 3_600_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connecting: 6,
            subrequests: 10_000,
            cpu_us: 30_000_000,
            memory_bytes: 128 * 1024 * 1024,
        }
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            start_us: Times::Always(10_000),
            floor_us: Times::Always(300),
            busy: Busy {
                request_us: 250,
                valkey_us: 400,
                postgres_us: 600,
            },
            none_us: Times::Always(0),
            l1_us: Times::Always(100),
            l2_us: Times::Always(400),
            l3_us: Times::Always(1_000),
            write_us: Times::Always(500),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            service_us: Times::Always(50),
            workers: 1,
            connections_max: 10_000,
            connect_round_trips: 3,
            log_in_round_trips: 0,
            log_in_us: Times::Always(0),
        }
    }
}

impl Default for Model {
    /// Four places at usual distances from a region in Europe.
    fn default() -> Self {
        let place = |name: &str, weight, latency_us, jitter_us| Place {
            name: name.to_owned(),
            weight,
            way: Way {
                tail_per_mille: 5,
                tail_us: 40_000,
                ..Way::of(latency_us, jitter_us)
            },
        };
        Self {
            places: vec![
                place("FRA", 4, 1_000, 500),
                place("LHR", 3, 7_000, 1_000),
                place("IAD", 2, 45_000, 3_000),
                place("SIN", 1, 80_000, 5_000),
            ],
            isolates: Isolates::default(),
            edge: Edge::default(),
            valkey: Store::default(),
            postgres: Store {
                service_us: Times::Always(600),
                workers: 4,
                connections_max: 100,
                connect_round_trips: 4,
                log_in_round_trips: 2,
                log_in_us: Times::Always(5_000),
            },
            gateway_way: Way::of(500, 300),
            hyperdrive_way: Way::of(1_000, 500),
            limits: Limits::default(),
        }
    }
}

impl Model {
    /// That of a file, or the default.
    ///
    /// # Errors
    /// Those of [`Model::open`].
    pub fn said(path: Option<&Path>) -> Result<Self> {
        path.map_or_else(|| Ok(Self::default()), Self::open)
    }

    /// # Errors
    /// The file cannot be read, or says something that cannot be.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("cannot open the model {name}"))?;
        serde_json::from_reader(BufReader::new(file))
            .map_err(anyhow::Error::from)
            .and_then(Self::from_json)
            .with_context(|| format!("{name} is no model"))
    }

    /// The default, with what is said otherwise.
    fn from_json(said: Value) -> Result<Self> {
        let mut model = serde_json::to_value(Self::default())?;
        overlay(&mut model, said);
        let model: Self = serde_path_to_error::deserialize(model)?;
        model.check()?;
        Ok(model)
    }

    /// # Errors
    /// Which of its numbers cannot be.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.places.iter().any(|place| place.weight > 0),
            "\"places\" must name at least one place with a weight above 0"
        );
        let Isolates {
            per_place,
            idle_ms,
            life_ms,
        } = self.isolates;
        ensure!(
            (1..=ISOLATES_MAX).contains(&per_place),
            "\"isolates.per_place\" must be from 1 to {ISOLATES_MAX}"
        );
        ensure!(
            idle_ms.max(life_ms) <= LIFE_MS_MAX,
            "\"isolates.idle_ms\" and \"isolates.life_ms\" may be {LIFE_MS_MAX} at most"
        );
        ensure!(
            self.limits.connecting > 0,
            "\"limits.connecting\" must be at least 1"
        );
        let Edge {
            start_us,
            floor_us,
            busy,
            none_us,
            l1_us,
            l2_us,
            l3_us,
            write_us,
        } = &self.edge;
        let Busy {
            request_us,
            valkey_us,
            postgres_us,
        } = *busy;
        ensure!(
            request_us.max(valkey_us).max(postgres_us) <= US_MAX,
            "the times of \"edge.busy\" may be {US_MAX} at most"
        );
        let times = [
            ("edge.start_us", start_us),
            ("edge.floor_us", floor_us),
            ("edge.none_us", none_us),
            ("edge.l1_us", l1_us),
            ("edge.l2_us", l2_us),
            ("edge.l3_us", l3_us),
            ("edge.write_us", write_us),
            ("valkey.service_us", &self.valkey.service_us),
            ("valkey.log_in_us", &self.valkey.log_in_us),
            ("postgres.service_us", &self.postgres.service_us),
            ("postgres.log_in_us", &self.postgres.log_in_us),
        ];
        for (name, times) in times {
            ensure!(
                times.is_sound(),
                "\"{name}\" must be a number up to {US_MAX}, or a list of such numbers that never go down"
            );
        }
        let ways = self.places.iter().map(|place| (&*place.name, place.way));
        let others = [
            ("gateway_way", self.gateway_way),
            ("hyperdrive_way", self.hyperdrive_way),
        ];
        for (name, way) in ways.chain(others) {
            let longest_us = way.latency_us.max(way.jitter_us).max(way.tail_us);
            ensure!(
                longest_us <= US_MAX,
                "the way of \"{name}\" takes {longest_us} µs, and may take {US_MAX} at most"
            );
        }
        let Store {
            log_in_round_trips,
            log_in_us,
            ..
        } = &self.valkey;
        ensure!(
            (*log_in_round_trips, log_in_us) == (0, &Times::Always(0)),
            "a log-in to Valkey comes with its first commands: \"valkey.log_in_us\" and \
             \"valkey.log_in_round_trips\" must be 0"
        );
        for (name, store) in [("valkey", &self.valkey), ("postgres", &self.postgres)] {
            ensure!(
                (1..=WORKERS_MAX).contains(&store.workers),
                "\"{name}.workers\" must be from 1 to {WORKERS_MAX}"
            );
            let round_trips = store.connect_round_trips.max(store.log_in_round_trips);
            ensure!(
                round_trips <= ROUND_TRIPS_MAX,
                "\"{name}\" has {round_trips} round trips, and may have {ROUND_TRIPS_MAX} at most"
            );
        }
        Ok(())
    }
}

/// Fields replace fields; what is no object replaces the whole.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                overlay(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_drawn_between_their_quantiles() {
        let mut dice = Dice::seeded(1);
        let times = Times::Quantiles(vec![100, 200, 1_000]);
        let mut drawn: Vec<u64> = (0..10_000).map(|_| times.draw(&mut dice)).collect();
        drawn.sort_unstable();
        assert!((100..110).contains(&drawn[0]) && drawn[9_999] <= 1_000);
        assert!(drawn[5_000].abs_diff(200) < 10, "{}", drawn[5_000]);
        assert_eq!(Times::Quantiles(vec![7]).draw(&mut dice), 7);
        assert_eq!(Times::Always(5).draw(&mut dice), 5);
    }

    #[test]
    fn a_file_may_name_only_what_differs_and_nothing_unknown() -> Result<()> {
        let model = Model::from_json(json!({"postgres": {"service_us": [1, 2, 3]}}))?;
        let expected = Store {
            service_us: Times::Quantiles(vec![1, 2, 3]),
            ..Model::default().postgres
        };
        assert_eq!(model.postgres, expected);
        for (wrong, word) in [
            (json!({"valky": {}}), "valky"),
            (json!({"edge": {"l1_us": [3, 2]}}), "edge.l1_us"),
            (json!({"edge": {"l1_us": -4}}), "edge.l1_us: a time is"),
            (json!({"isolates": {"per_place": 0}}), "isolates.per_place"),
            (json!({"isolates": {"life_ms": u64::MAX}}), "life_ms"),
            (
                json!({"gateway_way": {"jitter_us": u64::MAX}}),
                "gateway_way",
            ),
            (json!({"edge": {"l1_us": u64::MAX}}), "edge.l1_us"),
            (json!({"edge": {"l1_us": []}}), "edge.l1_us"),
            (
                json!({"edge": {"busy": {"valkey_us": u64::MAX}}}),
                "edge.busy",
            ),
            (
                json!({"postgres": {"workers": u32::MAX}}),
                "postgres.workers",
            ),
            (
                json!({"valkey": {"connect_round_trips": u32::MAX}}),
                "round trips",
            ),
            (json!({"limits": {"connecting": 0}}), "limits.connecting"),
            (json!({"valkey": {"log_in_us": 5}}), "valkey.log_in_us"),
        ] {
            let error = Model::from_json(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        Ok(())
    }

    #[test]
    fn the_default_can_be_written_and_read() -> Result<()> {
        let text = serde_json::to_string(&Model::default())?;
        assert_eq!(serde_json::from_str::<Model>(&text)?, Model::default());
        Model::default().check()
    }
}
