//! Counts what came back, by operation: who answered, how it went, how long it
//! took. Knows statuses and tiers; does not judge.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::cache_status::Tier;
use crate::operation::Operation;

const LATENCY_US_MAX: u64 = 60_000_000;
const NOT_FOUND: u16 = 404;

/// Whether that is no answer, or one that says that something is wrong.
pub fn is_error(status: Option<u16>) -> bool {
    !matches!(status, Some(200..=299 | 304 | NOT_FOUND))
}

/// How many by status; None: no answer at all.
type Failures = BTreeMap<Option<u16>, u64>;

fn add(all: &mut Failures, more: &Failures) {
    for (status, count) in more {
        *all.entry(*status).or_default() += count;
    }
}

/// Why the edge says so.
fn meaning(status: u16) -> &'static str {
    match status {
        503 => " (a store is not there, or has too much to do)",
        504 => " (a store is too slow, or too far away)",
        _ => "",
    }
}

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
    /// The errors.
    failures: Failures,
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
            failures: Failures::new(),
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
        add(&mut self.failures, &other.failures);
        self.latency_us.add(&other.latency_us)?;
        Ok(())
    }

    /// One more request took so long.
    pub fn time(&mut self, us: u64) {
        self.requests += 1;
        self.latency_us.saturating_record(us);
    }

    /// What came of it: a status (None: no answer at all), and the tier that
    /// answered. The tier that counts.
    pub fn count(
        &mut self,
        operation: Operation,
        status: Option<u16>,
        tier: Option<Tier>,
    ) -> Option<Tier> {
        if is_error(status) {
            self.errors += 1;
            *self.failures.entry(status).or_default() += 1;
            return None;
        }
        if status == Some(NOT_FOUND) && operation != Operation::Floor {
            self.absent += 1;
        }
        let tier = match tier? {
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
pub struct Tallies([Option<Box<Tally>>; Operation::ALL.len()]);

impl Tallies {
    /// # Errors
    /// Those of [`Tally::new`].
    pub fn of(&mut self, operation: Operation) -> Result<&mut Tally> {
        // There is one for each.
        let place = self
            .0
            .get_mut(operation as usize)
            .context("an operation too many")?;
        Ok(match place {
            Some(tally) => tally,
            None => place.insert(Box::new(Tally::new()?)),
        })
    }

    pub fn get(&self, operation: Operation) -> Option<&Tally> {
        self.0.get(operation as usize)?.as_deref()
    }

    /// In the order of [`Operation::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Operation, &Tally)> {
        let all = Operation::ALL.into_iter().zip(&self.0);
        all.filter_map(|(operation, tally)| Some((operation, tally.as_deref()?)))
    }

    /// # Errors
    /// Those of [`Tally::add`].
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (operation, tally) in other.iter() {
            self.of(operation)?.add(tally)?;
        }
        Ok(())
    }

    /// A flow took so long; it has failed when one of its requests has.
    ///
    /// # Errors
    /// Those of [`Tally::new`].
    pub fn flow(&mut self, us: u64, has_failed: bool) -> Result<()> {
        let flows = self.of(Operation::VoiceQuery)?;
        flows.time(us);
        flows.errors += u64::from(has_failed);
        Ok(())
    }

    /// How requests failed, in a sentence; None: none did.
    pub fn failures(&self) -> Option<String> {
        let mut failures = Failures::new();
        for (_, tally) in self.iter() {
            add(&mut failures, &tally.failures);
        }
        let said: Vec<String> = failures
            .iter()
            .map(|(status, count)| match status {
                Some(status) => format!("{count} with status {status}{}", meaning(*status)),
                None => format!("{count} without an answer"),
            })
            .collect();
        (!said.is_empty()).then(|| format!("Requests failed: {}.", said.join(", ")))
    }

    /// Over all requests; a flow is none, its requests are.
    pub fn sum(&self, count: fn(&Tally) -> u64) -> u64 {
        self.iter()
            .filter(|(operation, _)| *operation != Operation::VoiceQuery)
            .map(|(_, tally)| count(tally))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_no_cache_had_is_postgresqls_or_the_truth_in_valkey() -> Result<()> {
        let mut tally = Tally::new()?;
        let mut count = |operation, status| tally.count(operation, Some(status), Some(Tier::L3));
        assert_eq!(count(Operation::Products, 200), Some(Tier::L3));
        assert_eq!(count(Operation::Session, 404), Some(Tier::L2));
        assert_eq!((tally.l2, tally.l3, tally.absent), (1, 1, 1));
        Ok(())
    }

    #[test]
    fn a_flow_fails_with_one_of_its_requests_and_counts_as_none() -> Result<()> {
        let mut tallies = Tallies::default();
        let tally = tallies.of(Operation::Session)?;
        tally.time(5);
        tally.count(Operation::Session, Some(503), None);
        tallies.flow(9, true)?;
        tallies.flow(9, false)?;
        let flows = tallies.of(Operation::VoiceQuery)?;
        assert_eq!((flows.requests, flows.errors), (2, 1));
        assert_eq!(tallies.sum(|tally| tally.requests), 1);
        assert_eq!(tallies.sum(|tally| tally.errors), 1);
        Ok(())
    }

    #[test]
    fn errors_are_counted_whoever_made_them() -> Result<()> {
        let mut tally = Tally::new()?;
        tally.count(Operation::Session, None, None);
        tally.count(Operation::Session, Some(503), None);
        tally.count(Operation::Floor, Some(404), None);
        assert_eq!((tally.errors, tally.absent), (2, 0));
        let mut tallies = Tallies::default();
        assert_eq!(tallies.failures(), None);
        tallies.of(Operation::Session)?.add(&tally)?;
        let said = tallies.failures().unwrap_or_default();
        assert!(
            said.contains("1 without an answer, 1 with status 503 (a store"),
            "{said}"
        );
        Ok(())
    }
}
