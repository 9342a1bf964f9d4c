//! When stores are away, and who turns requests to them away for that.
//!
//! The breakers are the edge's own. They are told how an exchange ended when its
//! time has come, which is after others have begun.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use edge::limits::{POSTGRES_AT_ONCE_MAX, POSTGRES_AT_ONCE_MAX_ALONE, VALKEY_AT_ONCE_MAX};
use edge::settings::Settings;
use edge::tiers::gate::{Closed, Gate, Pass};

use super::super::faults::{Fault, What};
use super::START_US;

/// As [`Outages::of`] and [`Gates`] count stores.
pub(super) const VALKEY: usize = 0;
pub(super) const POSTGRES: usize = 1;
/// As [`Gates`] counts them: copies in Valkey, which have less time than it has.
pub(super) const COPIES: usize = 2;

/// From … to … each store is away.
#[derive(Default)]
pub(super) struct Outages([Vec<(u64, u64)>; 2]);

impl Outages {
    pub fn of(faults: &[Fault]) -> Self {
        let spans_of = |what| {
            let own = faults.iter().filter(|fault| fault.what == what);
            own.map(|fault| {
                let from_us = START_US + fault.from_ms * 1000;
                (from_us, from_us + fault.for_ms * 1000)
            })
            .collect()
        };
        Self([spans_of(What::Valkey), spans_of(What::Postgres)])
    }

    /// Whether who connects then is refused.
    pub fn refuse(&self, store: usize, now_us: u64) -> bool {
        let mut spans = self.0[store].iter();
        spans.any(|(from_us, to_us)| (*from_us..*to_us).contains(&now_us))
    }

    /// Whether a connection of that age is broken by then.
    pub fn broke(&self, store: usize, since_us: u64, now_us: u64) -> bool {
        let mut spans = self.0[store].iter();
        spans.any(|(from_us, _)| since_us < *from_us && *from_us <= now_us)
    }
}

/// The ways of one isolate, or gateway, to both stores.
pub(super) struct Gates {
    gates: [Gate; 3],
    /// How long PostgreSQL took last, or had when it was too slow.
    pub postgres_took_us: u64,
    /// Exchanges under way, the first to end first.
    endings: [BinaryHeap<Ending>; 3],
}

/// How an exchange ends.
struct Ending {
    at_us: u64,
    pass: Pass,
    /// Whether the store is there; None: it does not say that.
    is_good: Option<bool>,
}

impl Gates {
    pub fn of(settings: &Settings) -> Self {
        // None is ever cut off, so that none has to be given up.
        let gate = || Gate::new(settings.breaker_failures, u64::MAX);
        Self {
            gates: [gate(), gate(), gate()],
            postgres_took_us: 0,
            endings: Default::default(),
        }
    }

    fn settle(&mut self, store: usize, now_us: u64) {
        let endings = &mut self.endings[store];
        while endings.peek().is_some_and(|ending| ending.at_us <= now_us) {
            let Some(Ending {
                at_us,
                pass,
                is_good,
            }) = endings.pop()
            else {
                return;
            };
            match is_good {
                Some(true) => pass.succeeded(),
                Some(false) => pass.failed(at_us / 1000),
                None => false,
            };
        }
    }

    /// # Errors
    /// The store may not be asked now.
    pub fn enter(&mut self, store: usize, now_us: u64) -> Result<Pass, Closed> {
        self.settle(store, now_us);
        let at_once_max = if store == POSTGRES {
            self.settle(VALKEY, now_us);
            self.settle(COPIES, now_us);
            match [VALKEY, COPIES].map(|way| self.gates[way].is_broken()) {
                [false, false] => POSTGRES_AT_ONCE_MAX,
                _ => POSTGRES_AT_ONCE_MAX_ALONE,
            }
        } else {
            VALKEY_AT_ONCE_MAX
        };
        self.gates[store].enter(now_us / 1000, at_once_max)
    }

    /// Whatever the breaker says.
    pub fn probe(&mut self, store: usize, now_us: u64) -> Pass {
        self.settle(store, now_us);
        self.gates[store].probe(now_us / 1000)
    }

    pub fn leave(&mut self, store: usize, pass: Pass, at_us: u64, is_good: Option<bool>) {
        self.endings[store].push(Ending {
            at_us,
            pass,
            is_good,
        });
    }
}

impl PartialEq for Ending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Ending {}
impl PartialOrd for Ending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ending {
    /// The heap's greatest is the first to end.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_us.cmp(&self.at_us)
    }
}
