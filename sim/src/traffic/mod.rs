//! Requests to the API, in the order of their times: who asked, where, when and
//! for what. What is replayed, fired, recorded and made.
//!
//! - [`ndjson`] is how they are written down: one JSON object a line.
//! - [`call`] is what a request looks like to HTTP.
//! - [`mapped`] makes them of a recorded trace of keys.
//!
//! Knows nothing of tiers, nor of how a request is answered.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use rustc_hash::FxBuildHasher;

use crate::operation::Operation;
use crate::trace::{self, Format, Oddities};

pub mod call;
pub mod mapped;
pub mod ndjson;

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

    /// From the first request to the last.
    pub fn duration_ms(&self) -> u64 {
        let first_ms = self.requests.first().map_or(0, |first| first.time_ms);
        let last_ms = self.requests.last().map_or(0, |last| last.time_ms);
        last_ms - first_ms
    }

    /// What the request asks for, by name.
    pub fn key(&self, request: &Request) -> &str {
        self.keys.name(request.key)
    }
}

/// Reads traffic, or a recorded trace of keys, which gets a meaning.
///
/// # Errors
/// Those of [`ndjson::open`] and [`trace::open`].
pub fn open(path: &Path, format: Option<Format>) -> Result<Traffic> {
    if format.is_none() && ndjson::is_named(path) {
        return ndjson::open(path);
    }
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
