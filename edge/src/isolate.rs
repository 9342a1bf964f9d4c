//! What one isolate keeps between requests: settings, L1 and counters.
//!
//! A value, never a static with I/O in it: many isolates can live in one
//! process, and nothing here belongs to a request.

use std::cell::{Cell, RefCell};

use crate::limits::CANCEL_DEADLINE_MS;
use crate::settings::Settings;
use crate::tiers::Reads;
use crate::tiers::flights::Flights;
use crate::tiers::gate::Gate;
use crate::tiers::memory::Memory;

/// One isolate's state.
pub struct Isolate {
    pub settings: Settings,
    pub memory: RefCell<Memory>,
    pub flights: RefCell<Flights>,
    pub valkey: Gate,
    pub postgres: Gate,
    pub metrics: Metrics,
    dice: Cell<u64>,
}

impl Isolate {
    pub fn new(settings: Settings) -> Self {
        let gate =
            |deadline_ms| Gate::new(settings.breaker_failures, deadline_ms + CANCEL_DEADLINE_MS);
        Self {
            memory: RefCell::new(Memory::new(settings.l1_bytes)),
            flights: RefCell::default(),
            valkey: gate(settings.valkey_deadline_ms),
            postgres: gate(settings.postgres_deadline_ms),
            settings,
            metrics: Metrics::default(),
            dice: Cell::new(0),
        }
    }

    /// That of a gateway: copies are kept by those that ask it.
    pub fn of_gateway(settings: &Settings) -> Self {
        let mut settings = settings.clone();
        settings.l1_bytes = 0;
        Self::new(settings)
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

    /// Keys were read by another in our place.
    pub fn reads(&self, reads: Reads) {
        self.hits.set(self.hits.get().saturating_add(reads.hits));
        self.misses
            .set(self.misses.get().saturating_add(reads.misses));
    }

    /// A key was read: it was there, or it was not.
    pub fn read(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.set(counter.get().saturating_add(1));
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
