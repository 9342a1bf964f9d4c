//! Requests to the API, in the order of their times: who asked, where, when and
//! for what. What is replayed, fired, recorded and made.
//!
//! - [`ndjson`] is how they are written down: one JSON object a line.
//! - [`call`] is what a request looks like to HTTP; [`path`] is its path, and reads
//!   recorded ones.
//! - [`flows`] finds the voice queries in what was recorded; [`visits`] is what is
//!   sent at one moment: a request, or such a flow.
//! - [`mapped`] makes them of a recorded trace of keys.
//! - [`synth`] makes them of nothing but numbers.
//!
//! Knows nothing of tiers, nor of how a request is answered.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustc_hash::FxBuildHasher;

use crate::operation::{Effect, Operation};
use crate::trace::{self, Format, Oddities};

pub mod call;
pub mod flows;
pub mod mapped;
pub mod ndjson;
pub mod path;
pub mod synth;
pub mod visits;

/// What a replay may span, and what happens in it: each of its seconds is counted.
pub const LONGEST: Duration = Duration::from_hours(31 * 24);

/// A name's number in [`Names`].
pub type Number = u32;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// From wherever the recording counts; never less than that of the request before.
    pub time_ms: u64,
    pub operation: Operation,
    /// Of the thing that is asked for; among [`Traffic::keys`].
    pub key: Number,
    /// Of the value that is stored or answered; 0: not known.
    pub size_bytes: u32,
    /// Among [`Traffic::clients`].
    pub client: Number,
    /// Among [`Traffic::places`].
    pub place: Number,
    /// Requests with the same number follow one another: each is sent when the
    /// one before is answered, and together they are one voice query. 0: by itself.
    pub flow: Number,
}

/// Names, and the number of each in the order of their first use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    names: Vec<String>,
    numbers: HashMap<String, Number, FxBuildHasher>,
}

impl Names {
    pub fn number(&mut self, name: &str) -> Number {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as Number;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    pub fn name(&self, number: Number) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Requests, with the names that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    pub requests: Vec<Request>,
    pub keys: Names,
    pub clients: Names,
    pub places: Names,
    pub oddities: Oddities,
}

impl Traffic {
    /// Adds the next request; a time that goes back is counted and stands still.
    pub fn push(&mut self, mut request: Request) {
        let latest_ms = self.requests.last().map_or(0, |last| last.time_ms);
        if request.time_ms < latest_ms {
            self.oddities.unsorted += 1;
            request.time_ms = latest_ms;
        }
        self.requests.push(request);
    }

    /// Puts another one behind it, whose names and flows get other numbers.
    pub fn append(&mut self, other: &Self) {
        fn renumbered(ours: &mut Names, theirs: &Names) -> Vec<Number> {
            theirs.names.iter().map(|name| ours.number(name)).collect()
        }
        let keys = renumbered(&mut self.keys, &other.keys);
        let clients = renumbered(&mut self.clients, &other.clients);
        let places = renumbered(&mut self.places, &other.places);
        // One that has no name has none here either.
        let at =
            |numbers: &[Number], number| numbers.get(number as usize).copied().unwrap_or(number);
        let flows = self.requests.iter().map(|request| request.flow).max();
        for request in &other.requests {
            self.requests.push(Request {
                key: at(&keys, request.key),
                client: at(&clients, request.client),
                place: at(&places, request.place),
                flow: match request.flow {
                    0 => 0,
                    flow => flow.saturating_add(flows.unwrap_or_default()),
                },
                ..*request
            });
        }
        self.oddities.add(&other.oddities);
    }

    /// From the first request to the last.
    pub fn duration_ms(&self) -> u64 {
        let first_ms = self.requests.first().map_or(0, |first| first.time_ms);
        let last_ms = self.requests.last().map_or(0, |last| last.time_ms);
        last_ms - first_ms
    }

    /// # Errors
    /// It does not say when requests come, as a trace of keys need not.
    pub fn ensure_times(&self, path: &Path) -> Result<()> {
        ensure!(
            self.duration_ms() > 0 || self.requests.len() == 1,
            "all requests of {} are at the same time, as in a trace without times: say how many come per second with --rate",
            path.display()
        );
        Ok(())
    }

    /// The same at another pace: `speed` times as fast.
    pub fn at_speed(&mut self, speed: f64) {
        let first_ms = self.requests.first().map_or(0, |first| first.time_ms);
        for request in &mut self.requests {
            let since_ms = (request.time_ms - first_ms) as f64 / speed;
            request.time_ms = first_ms + since_ms as u64;
        }
    }

    /// The same at so many requests per second, whenever they were recorded. Those
    /// of a flow begin with its first.
    pub fn at_rate(&mut self, per_s: f64) {
        let mut began_ms: HashMap<Number, u64, FxBuildHasher> = HashMap::default();
        for (index, request) in self.requests.iter_mut().enumerate() {
            request.time_ms = (index as f64 * 1000.0 / per_s) as u64;
            if request.flow != 0 {
                let own_ms = request.time_ms;
                request.time_ms = *began_ms.entry(request.flow).or_insert(own_ms);
            }
        }
        // One of a flow that began before others comes before them.
        self.requests.sort_by_key(|request| request.time_ms);
    }

    /// In a sentence: how much, of whom, for how long.
    pub fn summary(&self) -> String {
        let requests = self.requests.len();
        let share = |part: usize| 100.0 * part as f64 / (requests as f64).max(1.0);
        let count = |is: fn(&Request) -> bool| self.requests.iter().filter(|one| is(one)).count();
        let duration = Duration::from_millis(self.duration_ms());
        let rate = requests as f64 / duration.as_secs_f64().max(1.0);
        format!(
            "{requests} requests for {} keys by {} clients in {} ({rate:.1}/s), {:.0} % of them writes, {:.0} % in voice queries",
            self.keys.len(),
            self.clients.len(),
            humantime::format_duration(Duration::from_secs(duration.as_secs())),
            share(count(|one| matches!(
                one.operation.effect(),
                Effect::Write | Effect::Delete
            ))),
            share(count(|one| one.flow > 0)),
        )
    }

    /// What the request asks for, by name.
    pub fn key(&self, request: &Request) -> &str {
        self.keys.name(request.key)
    }
}

/// Reads traffic, or a recorded trace of keys, which gets a meaning. Where no line
/// says that it is part of a flow, voice queries are found by their order.
///
/// # Errors
/// Those of [`ndjson::open`] and [`trace::open`].
pub fn open(path: &Path, format: Option<Format>) -> Result<Traffic> {
    if format.is_none() && ndjson::is_named(path) {
        let mut traffic = ndjson::open(path)?;
        if traffic.requests.iter().all(|request| request.flow == 0) {
            flows::mark(&mut traffic);
        }
        return Ok(traffic);
    }
    ensure!(
        format.or_else(|| Format::of_name(path)).is_some(),
        "the name {} does not tell what it is: traffic is named .ndjson or .ndjson.zst, and how a trace of keys is written is said with --format",
        path.display()
    );
    let trace = trace::open(path, format)?;
    let mut traffic = mapped::traffic(&trace.requests, usize::MAX);
    traffic.oddities = trace.oddities;
    Ok(traffic)
}

/// What is asked for: a key is a name of one kind of data.
pub type Thing = (Option<edge::policy::Kind>, Number);

impl Request {
    pub fn thing(&self) -> Thing {
        (self.operation.kind(), self.key)
    }

    /// One that nothing but its time, operation and key is known of.
    pub fn new(time_ms: u64, operation: Operation, key: Number) -> Self {
        Self {
            time_ms,
            operation,
            key,
            size_bytes: 0,
            client: 0,
            place: 0,
            flow: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(traffic: &Traffic) -> Vec<u64> {
        let requests = traffic.requests.iter();
        requests.map(|request| request.time_ms).collect()
    }

    #[test]
    fn traffic_can_be_replayed_at_another_pace() {
        let mut traffic = Traffic::default();
        for (time_ms, flow) in [(1_000, 0), (2_000, 7), (2_000, 0), (3_000, 7)] {
            traffic.push(Request {
                flow,
                ..Request::new(time_ms, Operation::Session, 0)
            });
        }
        traffic.at_speed(10.0);
        assert_eq!(times(&traffic), [1_000, 1_100, 1_100, 1_200]);
        traffic.at_rate(100.0);
        assert_eq!(times(&traffic), [0, 10, 10, 20]);
        assert_eq!(traffic.requests[2].flow, 7);
    }
}
