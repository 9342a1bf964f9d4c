//! L1: copies in the isolate's memory, by weight in bytes, with our own freshness.
//!
//! mini-moka decides what stays; whether a copy may still be used is judged
//! here against a `now` that is passed in. Nothing here does I/O.
//!
//! Invariant: a load that was overtaken by a write, or by a load that began
//! later, never fills. Each load and write takes a [`Ticket`]; an invalidation
//! or a fill tears up the tickets that are out for the key.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use mini_moka::unsync::Cache;

use crate::limits::L1_ENTRY_FRACTION;

/// A value, or its remembered absence, with the time at which the truth was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// None: it was not there.
    pub body: Option<Bytes>,
    pub read_at_ms: u64,
    pub fresh_until_ms: u64,
}

impl Entry {
    /// Age in ms; 0 when the clock went backwards.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.read_at_ms)
    }
}

/// The right to fill, as long as nobody overtakes.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub struct Ticket(u64);

/// What became of a fill.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Filled {
    Stored,
    /// Larger than an entry may be; nothing is kept.
    TooLarge,
    /// By a write, or by a load that began later.
    Overtaken,
}

type Variants = Vec<(String, Entry)>;

/// The L1. A key has one value or several variants (a list with its limits),
/// which are invalidated together.
pub struct Memory {
    cache: Cache<String, Variants, BuildHasherDefault<DefaultHasher>>,
    tickets: HashMap<u64, String>,
    next_ticket: u64,
    entry_bytes_max: u64,
}

/// What an entry weighs beyond its bytes: map nodes and headers, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 160;

impl Memory {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(bytes_max)
                .weigher(|key: &String, variants: &Variants| weight(key, variants))
                .build_with_hasher(BuildHasherDefault::default()),
            tickets: HashMap::new(),
            next_ticket: 0,
            entry_bytes_max: bytes_max / L1_ENTRY_FRACTION,
        }
    }

    /// A copy that may be used now.
    pub fn fresh(&mut self, key: &str, variant: &str, now_ms: u64) -> Option<Entry> {
        let variants = self.cache.get(&key.to_owned())?;
        let (_, entry) = variants.iter().find(|(name, _)| name == variant)?;
        // A clock that went backwards must not make a copy young again.
        (now_ms < entry.fresh_until_ms && now_ms >= entry.read_at_ms).then(|| entry.clone())
    }

    /// Begins a load or a write.
    pub fn ticket(&mut self, key: &str) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, key.to_owned());
        Ticket(self.next_ticket)
    }

    /// Forgets a key, and with it what loads in flight will bring.
    pub fn invalidate(&mut self, key: &str) {
        self.cache.invalidate(&key.to_owned());
        self.tickets.retain(|_, of| of != key);
    }

    /// Ends a load or a write without a value.
    pub fn give_back(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket.0);
    }

    /// Ends a load or a write with a value.
    pub fn fill(&mut self, ticket: Ticket, variant: &str, entry: Entry) -> Filled {
        let Some(key) = self.tickets.remove(&ticket.0) else {
            return Filled::Overtaken;
        };
        // Loads that began earlier would bring back an older value.
        self.tickets.retain(|id, of| *id > ticket.0 || *of != key);
        let mut variants = self.cache.get(&key).cloned().unwrap_or_default();
        variants.retain(|(name, old)| name != variant && old.fresh_until_ms > entry.read_at_ms);
        variants.push((variant.to_owned(), entry));
        if u64::from(weight(&key, &variants)) <= self.entry_bytes_max {
            self.cache.insert(key, variants);
            Filled::Stored
        } else {
            self.cache.invalidate(&key);
            Filled::TooLarge
        }
    }
}

fn weight(key: &str, variants: &Variants) -> u32 {
    let bytes = variants.iter().fold(key.len(), |sum, (name, entry)| {
        sum + ENTRY_OVERHEAD_BYTES + name.len() + entry.body.as_ref().map_or(0, Bytes::len)
    });
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &'static str, read_at_ms: u64) -> Entry {
        Entry {
            body: Some(Bytes::from(text)),
            read_at_ms,
            fresh_until_ms: read_at_ms + 5_000,
        }
    }

    fn body(memory: &mut Memory, now_ms: u64) -> Option<Bytes> {
        memory.fresh("k", "", now_ms).and_then(|entry| entry.body)
    }

    #[test]
    fn a_copy_dies_at_its_age_and_under_a_clock_that_goes_backwards() {
        let mut memory = Memory::new(1 << 20);
        let ticket = memory.ticket("k");
        assert_eq!(memory.fill(ticket, "", entry("a", 1_000)), Filled::Stored);
        assert!(body(&mut memory, 5_999).is_some());
        assert!(body(&mut memory, 6_000).is_none());
        assert!(body(&mut memory, 999).is_none());
    }

    #[test]
    fn a_load_that_a_write_overtook_does_not_fill() {
        let mut memory = Memory::new(1 << 20);
        let load = memory.ticket("k");
        memory.invalidate("k");
        assert_eq!(memory.fill(load, "", entry("old", 0)), Filled::Overtaken);
        assert!(body(&mut memory, 1).is_none());
    }

    #[test]
    fn a_load_that_a_later_load_overtook_does_not_fill() {
        let mut memory = Memory::new(1 << 20);
        let early = memory.ticket("k");
        let late = memory.ticket("k");
        assert_eq!(memory.fill(late, "", entry("new", 0)), Filled::Stored);
        assert_eq!(memory.fill(early, "", entry("old", 0)), Filled::Overtaken);
        assert_eq!(body(&mut memory, 1).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn variants_of_a_key_go_together() {
        let mut memory = Memory::new(1 << 20);
        for variant in ["1", "2"] {
            let ticket = memory.ticket("k");
            assert_eq!(memory.fill(ticket, variant, entry("a", 0)), Filled::Stored);
        }
        assert!(memory.fresh("k", "1", 1).is_some());
        memory.invalidate("k");
        assert!(memory.fresh("k", "1", 1).is_none());
        assert!(memory.fresh("k", "2", 1).is_none());
    }

    #[test]
    fn weight_is_bounded() {
        let mut memory = Memory::new(100_000);
        for n in 0..5_000 {
            let ticket = memory.ticket(&format!("key{n}"));
            memory.fill(
                ticket,
                "",
                Entry {
                    body: Some(Bytes::from(vec![0; 1_000])),
                    read_at_ms: 0,
                    fresh_until_ms: 9,
                },
            );
        }
        assert!(memory.cache.weighted_size() <= 100_000);
        assert!(memory.tickets.is_empty());
    }
}
