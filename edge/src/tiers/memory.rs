//! L1: copies in the isolate's memory, by weight in bytes, with our own freshness.
//!
//! mini-moka decides what stays; whether a copy may still be used is judged
//! here against a `now` that is passed in. Nothing here does I/O, and nothing
//! here knows who may fill: that is [`super::flights`].

use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use mini_moka::unsync::Cache;

use crate::limits::{CLOCK_STEP_MS_MAX, L1_ENTRY_FRACTION};
use crate::mutation::{self, Mutation};

/// A value, or its remembered absence, with the time at which the truth was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// None: it was not there.
    pub body: Option<Bytes>,
    pub read_at_ms: u64,
    /// From here on it is fresh and a refresh is due.
    pub refresh_at_ms: u64,
    /// Up to here it may answer.
    pub fresh_until_ms: u64,
    /// Up to here it may answer when the truth cannot be asked.
    pub stale_until_ms: u64,
}

impl Entry {
    /// Age in ms; 0 when the clock went backwards.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.read_at_ms)
    }

    pub fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.fresh_until_ms || mutation::is(Mutation::StaleForEver)
    }

    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.refresh_at_ms
    }

    fn is_of_use(&self, now_ms: u64) -> bool {
        now_ms < self.fresh_until_ms.max(self.stale_until_ms)
            || mutation::is(Mutation::StaleForEver)
    }
}

type Variants = Vec<(String, Entry)>;
type Store = Cache<String, Variants, BuildHasherDefault<DefaultHasher>>;

/// The L1. A key has one value or several variants (a list with its limits),
/// which are invalidated together.
pub struct Memory {
    cache: Store,
    bytes_max: u64,
    latest_ms: u64,
}

/// What an entry weighs beyond its bytes: map nodes and headers, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 160;

impl Memory {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            cache: store(bytes_max),
            bytes_max,
            latest_ms: 0,
        }
    }

    /// The time by which copies age. A clock that went back a little stands
    /// still until it has caught up; one that went back far says nothing about
    /// the age of any copy, and all of them go.
    fn clock(&mut self, now_ms: u64) -> u64 {
        if now_ms.saturating_add(CLOCK_STEP_MS_MAX) < self.latest_ms {
            self.cache = store(self.bytes_max);
            self.latest_ms = now_ms;
        }
        self.latest_ms = self.latest_ms.max(now_ms);
        self.latest_ms
    }

    /// A copy that may answer: fresh, or else only when the truth cannot be asked.
    pub fn copy(&mut self, key: &str, variant: &str, now_ms: u64) -> Option<Entry> {
        let now_ms = self.clock(now_ms);
        let variants = self.cache.get(&key.to_owned())?;
        let (_, entry) = variants.iter().find(|(name, _)| name == variant)?;
        entry.is_of_use(now_ms).then(|| entry.clone())
    }

    /// Forgets a key with all its variants.
    pub fn forget(&mut self, key: &str) {
        self.cache.invalidate(&key.to_owned());
    }

    /// Keeps a copy; false: it is larger than a copy may be, and none is kept.
    pub fn keep(&mut self, key: &str, variant: &str, entry: Entry, now_ms: u64) -> bool {
        let now_ms = self.clock(now_ms);
        let key = key.to_owned();
        let mut variants = self.cache.get(&key).cloned().unwrap_or_default();
        variants.retain(|(name, old)| name != variant && old.is_of_use(now_ms));
        variants.push((variant.to_owned(), entry));
        let fits = u64::from(weight(&key, &variants)) <= self.bytes_max / L1_ENTRY_FRACTION;
        if fits {
            self.cache.insert(key, variants);
        } else {
            self.cache.invalidate(&key);
        }
        fits
    }
}

fn store(bytes_max: u64) -> Store {
    Cache::builder()
        .max_capacity(bytes_max)
        .weigher(|key: &String, variants: &Variants| weight(key, variants))
        .build_with_hasher(BuildHasherDefault::default())
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
            refresh_at_ms: read_at_ms + 3_000,
            fresh_until_ms: read_at_ms + 5_000,
            stale_until_ms: read_at_ms + 9_000,
        }
    }

    #[test]
    fn a_copy_is_fresh_then_of_use_then_gone() {
        let mut memory = Memory::new(1 << 20);
        assert!(memory.keep("k", "", entry("a", 1_000), 1_000));
        assert!(memory.copy("k", "", 5_999).unwrap().is_fresh(5_999));
        assert!(!memory.copy("k", "", 6_000).unwrap().is_fresh(6_000));
        assert!(memory.copy("k", "", 9_999).is_some());
        assert!(memory.copy("k", "", 10_000).is_none());
    }

    #[test]
    fn no_copy_lives_longer_by_a_clock_that_goes_back() {
        let mut memory = Memory::new(1 << 20);
        memory.keep("k", "", entry("a", 10_000), 10_000);
        assert!(memory.copy("k", "", 18_999).is_some());
        let little = 18_999 - CLOCK_STEP_MS_MAX;
        assert!(memory.copy("k", "", little).is_some());
        assert!(memory.copy("k", "", 19_000).is_none());
        memory.keep("k", "", entry("a", 20_000), 20_000);
        assert!(memory.copy("k", "", 19_999 - CLOCK_STEP_MS_MAX).is_none());
        assert!(memory.copy("k", "", 20_000).is_none());
    }

    #[test]
    fn variants_of_a_key_go_together() {
        let mut memory = Memory::new(1 << 20);
        for variant in ["1", "2"] {
            assert!(memory.keep("k", variant, entry("a", 0), 0));
        }
        assert!(memory.copy("k", "1", 1).is_some());
        memory.forget("k");
        assert!(memory.copy("k", "1", 1).is_none());
        assert!(memory.copy("k", "2", 1).is_none());
    }

    #[test]
    fn what_is_too_large_takes_the_older_copy_with_it() {
        let mut memory = Memory::new(8_000);
        assert!(memory.keep("k", "", entry("a", 0), 0));
        let mut large = entry("", 1);
        large.body = Some(Bytes::from(vec![0; 1_000]));
        assert!(!memory.keep("k", "", large, 1));
        assert!(memory.copy("k", "", 2).is_none());
    }

    #[test]
    fn weight_is_bounded() {
        let mut memory = Memory::new(100_000);
        for n in 0..5_000 {
            let mut entry = entry("", 0);
            entry.body = Some(Bytes::from(vec![0; 1_000]));
            memory.keep(&format!("key{n}"), "", entry, 0);
        }
        assert!(memory.cache.weighted_size() <= 100_000);
    }
}
