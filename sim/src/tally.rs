//! Counts what came back, by operation: who answered, how it went, how long it
//! took. Knows statuses and `Cache-Status`; does not judge.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::cache_status::{Tier, tier};
use crate::operation::Operation;

const LATENCY_US_MAX: u64 = 60_000_000;
const NOT_FOUND: u16 = 404;

/// Counts of one operation.
#[derive(Debug, Clone)]
pub struct Tally {
    pub requests: u64,
    pub l1: u64,
    pub l2: u64,
    pub l3: u64,
    /// No answer, or a status that says that something is wrong.
    pub errors: u64,
    /// A 404: an answer, but not what a filled store should give.
    pub absent: u64,
    pub latency_us: Histogram<u64>,
}

impl Tally {
    /// # Errors
    /// The bounds of the histogram are wrong.
    pub fn new() -> Result<Self> {
        Ok(Self {
            requests: 0,
            l1: 0,
            l2: 0,
            l3: 0,
            errors: 0,
            absent: 0,
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
        })
    }

    /// # Errors
    /// The bounds of the histograms differ.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.l1 += other.l1;
        self.l2 += other.l2;
        self.l3 += other.l3;
        self.errors += other.errors;
        self.absent += other.absent;
        self.latency_us.add(&other.latency_us)?;
        Ok(())
    }

    /// One more request, or flow, took so long.
    pub fn time(&mut self, us: u64) {
        self.requests += 1;
        self.latency_us.saturating_record(us);
    }

    /// What came of it; None: no answer at all. The tier that answered.
    pub fn count(&mut self, operation: Operation, answer: Option<(u16, &str)>) -> Option<Tier> {
        let Some((status, cache_status)) = answer else {
            self.errors += 1;
            return None;
        };
        match status {
            NOT_FOUND if operation == Operation::Floor => {}
            NOT_FOUND => self.absent += 1,
            200..=299 | 304 => {}
            _ => self.errors += 1,
        }
        let tier = match tier(cache_status)? {
            // No cache had it and Valkey is the truth: then Valkey said so.
            Tier::L3 if !operation.has_l3() => Tier::L2,
            tier => tier,
        };
        match tier {
            Tier::L1 => self.l1 += 1,
            Tier::L2 => self.l2 += 1,
            Tier::L3 => self.l3 += 1,
        }
        Some(tier)
    }
}

/// Counts of all operations.
#[derive(Debug, Clone, Default)]
pub struct Tallies(BTreeMap<Operation, Tally>);

impl Tallies {
    /// # Errors
    /// Those of [`Tally::new`].
    pub fn of(&mut self, operation: Operation) -> Result<&mut Tally> {
        Ok(match self.0.entry(operation) {
            Entry::Occupied(tally) => tally.into_mut(),
            Entry::Vacant(place) => place.insert(Tally::new()?),
        })
    }

    pub fn get(&self, operation: Operation) -> Option<&Tally> {
        self.0.get(&operation)
    }

    /// In the order of [`Operation::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Operation, &Tally)> {
        self.0.iter().map(|(operation, tally)| (*operation, tally))
    }

    /// # Errors
    /// Those of [`Tally::add`].
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (operation, tally) in &other.0 {
            self.of(*operation)?.add(tally)?;
        }
        Ok(())
    }

    /// Requests that were sent; a flow is none.
    pub fn requests(&self) -> u64 {
        self.iter()
            .filter(|(operation, _)| *operation != Operation::VoiceQuery)
            .map(|(_, tally)| tally.requests)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_no_cache_had_is_postgresqls_or_the_truth_in_valkey() -> Result<()> {
        let mut tally = Tally::new()?;
        let missed = |status| Some((status, "L2; fwd=miss; stored, L1; fwd=miss"));
        assert_eq!(
            tally.count(Operation::Products, missed(200)),
            Some(Tier::L3)
        );
        assert_eq!((tally.l2, tally.l3), (0, 1));
        assert_eq!(tally.count(Operation::Session, missed(404)), Some(Tier::L2));
        assert_eq!((tally.l2, tally.l3, tally.absent), (1, 1, 1));
        Ok(())
    }

    #[test]
    fn errors_are_counted_whoever_made_them() -> Result<()> {
        let mut tally = Tally::new()?;
        tally.count(Operation::Session, None);
        tally.count(Operation::Session, Some((503, "")));
        tally.count(Operation::Floor, Some((404, "")));
        assert_eq!((tally.errors, tally.absent), (2, 0));
        Ok(())
    }
}
