//! What other L1s would have made of the same reads: least recently used, the
//! clairvoyant optimum, and one with room for everything.
//!
//! Knows which isolate was asked for what, when, and how much it holds. A copy
//! is written again when it is older than its kind's max-age in an isolate.

use anyhow::Result;
use edge::settings::Settings;

use crate::caches::clairvoyant::next_uses;
use crate::caches::lifetime::Lifetime;
use crate::caches::{Cache, Clairvoyant, Lru, Requests, Unbounded};
use crate::report::Bound;
use crate::traffic::Thing;

/// What L1 adds to the bytes of a body and its key, roughly.
const OVERHEAD_BYTES: u64 = 200;

/// All reads of a replay.
#[derive(Debug, Default)]
pub struct Reads {
    reads: Vec<Read>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    isolate: u64,
    thing: Thing,
    at_ms: u64,
}

impl Reads {
    /// An isolate was asked for a thing, and answered with so many bytes.
    pub fn push(&mut self, isolate: u64, thing: Thing, at_ms: u64, bytes: usize) {
        self.reads.push(Read {
            isolate,
            thing,
            at_ms,
        });
        self.bytes += bytes as u64 + OVERHEAD_BYTES;
    }

    /// Beside what was answered by L1 in truth.
    ///
    /// # Errors
    /// There are too many reads.
    pub fn bounds(mut self, settings: &Settings, l1: u64) -> Result<Vec<Bound>> {
        let Some(mean_bytes) = self.bytes.checked_div(self.reads.len() as u64) else {
            return Ok(Vec::new());
        };
        let capacity = settings.l1_bytes / mean_bytes.max(1);
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX - 1);
        self.reads.sort_by_key(|read| (read.isolate, read.at_ms));
        let (mut lru, mut clairvoyant, mut unbounded) = (0, 0, 0);
        for reads in self.reads.chunk_by(|one, next| one.isolate == next.isolate) {
            let keys = reads.iter().map(|read| number(read.thing));
            let Requests { ids, distinct, .. } = Requests::of_keys(keys)?;
            let next_uses = next_uses(&ids, distinct);
            let mut best = Clairvoyant::new(capacity, &next_uses);
            let mut least_recent = Lifetime::new(Lru::new(capacity, distinct), distinct);
            let mut all_there = Lifetime::new(Unbounded::new(distinct), distinct);
            for (&id, read) in ids.iter().zip(reads) {
                let policy = read.thing.0.map(|kind| settings.policies.of(kind));
                let ttl_ms = policy.map_or(0, |policy| policy.isolate_ms);
                clairvoyant += u64::from(best.access(id));
                lru += u64::from(least_recent.access(id, read.at_ms, ttl_ms));
                unbounded += u64::from(all_there.access(id, read.at_ms, ttl_ms));
            }
        }
        let all = self.reads.len() as f64;
        let bound = |name: &str, hits: u64| Bound {
            name: name.to_owned(),
            hit_ratio: hits as f64 / all,
        };
        Ok(vec![
            bound("the edge's L1", l1),
            bound("LRU of as many bytes, never refreshed", lru),
            bound("unbounded, never refreshed", unbounded),
            bound("clairvoyant of as many bytes, nothing ages", clairvoyant),
        ])
    }
}

/// The kind is part of what is asked for.
fn number((kind, key): Thing) -> u64 {
    let kind = kind.map_or(0, |kind| 1 + kind as u64);
    kind << 32 | u64::from(key)
}
