//! What one isolate keeps between requests: settings, L1, counters, and the keys
//! of PostgreSQL's log-in.
//!
//! A value, never a static with I/O in it: many isolates can live in one
//! process, and nothing here belongs to a request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::clock::{Clock, Reading};
use crate::limits::CANCEL_DEADLINE_MS;
use crate::settings::Settings;
use crate::tiers::Reads;
use crate::tiers::flights::Flights;
use crate::tiers::gate::Gate;
use crate::tiers::memory::Memory;
use crate::wire::pg::RememberedKeys;

/// One isolate's state.
pub struct Isolate {
    pub settings: Settings,
    pub memory: RefCell<Memory>,
    pub flights: RefCell<Flights>,
    pub valkey: Gate,
    /// To copies in Valkey, which have less time than it has.
    pub copies: Gate,
    pub postgres: Gate,
    /// How long PostgreSQL took last, or had when it was too slow.
    pub postgres_took_ms: Cell<u64>,
    pub remembered_keys: Rc<RememberedKeys>,
    pub metrics: Metrics,
    dice: Cell<u64>,
    clock: Cell<Clock>,
}

impl Isolate {
    pub fn new(settings: Settings) -> Self {
        let gate =
            |deadline_ms| Gate::new(settings.breaker_failures, deadline_ms + CANCEL_DEADLINE_MS);
        Self {
            memory: RefCell::new(Memory::new(settings.l1_policy, settings.l1_bytes)),
            flights: RefCell::default(),
            valkey: gate(settings.valkey_deadline_ms),
            copies: gate(settings.valkey_deadline_ms),
            postgres: gate(settings.postgres_deadline_ms),
            postgres_took_ms: Cell::default(),
            remembered_keys: Rc::default(),
            settings,
            metrics: Metrics::default(),
            dice: Cell::new(0),
            clock: Cell::default(),
        }
    }

    /// That of a gateway: copies are kept by those that ask it.
    pub fn of_gateway(settings: &Settings) -> Self {
        let mut settings = settings.clone();
        settings.l1_bytes = 0;
        Self::new(settings)
    }

    /// The isolate's time when the host's clock shows `host_ms`. When that went
    /// back far, nobody knows the age of any copy, nor of what is under way to
    /// become one.
    pub fn now_ms(&self, host_ms: u64) -> u64 {
        let mut clock = self.clock.get();
        let Reading { now_ms, is_lost } = clock.read(host_ms);
        self.clock.set(clock);
        if is_lost {
            self.memory.borrow_mut().clear();
            self.flights.borrow_mut().overtake_all();
        }
        now_ms
    }

    /// A number from..=to, for jitter and not for secrets: a platform's own
    /// randomness costs a call, and is asked once for a `seed`.
    pub fn draw(&self, seed: impl FnOnce() -> [u8; 16], (from, to): (u64, u64)) -> u64 {
        let mut state = self.dice.get();
        if state == 0 {
            let seed = seed();
            state = seed
                .first_chunk()
                .map_or(1, |bytes| u64::from_le_bytes(*bytes))
                .max(1);
        }
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.dice.set(state);
        from + (state >> 11) % (to.saturating_sub(from) + 1)
    }
}

/// Counters since the isolate began.
#[derive(Default)]
pub struct Metrics {
    requests: Cell<u64>,
    duration_ms: Cell<u64>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Metrics {
    /// A request on the Valkey routes was answered.
    pub fn request(&self, duration_ms: u64) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.duration_ms
            .set(self.duration_ms.get().saturating_add(duration_ms));
    }

    /// Keys were read, here or by another in our place.
    pub fn read(&self, Reads { hits, misses }: Reads) {
        self.hits.set(self.hits.get().saturating_add(hits));
        self.misses.set(self.misses.get().saturating_add(misses));
    }

    /// The body of the metrics route: fractions 0…1 and ms.
    pub fn json(&self) -> String {
        let (hits, misses) = (self.hits.get(), self.misses.get());
        let fraction = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        let hit_rate = fraction(hits, hits + misses);
        serde_json::json!({
            "hitRate": hit_rate,
            "missRate": if hits + misses == 0 { 0.0 } else { 1.0 - hit_rate },
            "averageLatency": fraction(self.duration_ms.get(), self.requests.get()),
            "totalRequests": self.requests.get(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::entry::Entry;

    #[test]
    fn no_copy_and_no_load_outlives_a_clock_that_went_back_far() {
        let isolate = Isolate::new(Settings::read(&|_| None));
        let now_ms = isolate.now_ms(5_000_000);
        let entry = Entry {
            body: None,
            read_at_ms: now_ms,
            refresh_at_ms: now_ms + 3_000,
            fresh_until_ms: now_ms + 5_000,
            stale_until_ms: now_ms + 5_000,
        };
        isolate.memory.borrow_mut().keep("k", "", entry, now_ms);
        let load = isolate.flights.borrow_mut().ticket("k", "");
        let has_copy = |host_ms| {
            let now_ms = isolate.now_ms(host_ms);
            isolate.memory.borrow_mut().copy("k", "", now_ms).is_some()
        };
        assert!(has_copy(4_999_500));
        assert!(!has_copy(1_000_000));
        assert!(!isolate.flights.borrow_mut().land(load, "k", ""));
    }

    #[test]
    fn a_breaker_does_not_stay_open_because_the_clock_went_back() {
        let isolate = Isolate::new(Settings::read(&|_| None));
        let enter = |host_ms| isolate.valkey.enter(isolate.now_ms(host_ms), 9);
        for _ in 0..isolate.settings.breaker_failures {
            let pass = enter(9_000_000).unwrap();
            pass.failed(isolate.now_ms(9_000_000));
        }
        assert!(enter(9_000_000).is_err());
        assert!(enter(1_000_000).is_err());
        assert!(enter(1_000_000 + crate::limits::BREAKER_PAUSE_MS_MIN).is_ok());
    }
}
