//! What one isolate keeps between requests: settings, L1 and counters.
//!
//! A value, never a static with I/O in it: many isolates can live in one
//! process, and nothing here belongs to a request.

use std::cell::{Cell, RefCell};

use crate::settings::Settings;
use crate::tiers::memory::Memory;

/// One isolate's state.
pub struct Isolate {
    pub settings: Settings,
    pub memory: RefCell<Memory>,
    pub metrics: Metrics,
}

impl Isolate {
    pub fn new(settings: Settings) -> Self {
        Self {
            memory: RefCell::new(Memory::new(settings.l1_bytes)),
            settings,
            metrics: Metrics::default(),
        }
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
