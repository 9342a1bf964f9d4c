//! L1: copies in the isolate's memory, by weight in bytes.
//!
//! mini-moka decides what stays; whether a copy may still be used is judged
//! against a `now` that is passed in, of a clock that never goes back. Nothing
//! here does I/O or knows who may fill: that is [`super::flights`].

use std::hash::{BuildHasherDefault, DefaultHasher};

use mini_moka::unsync::Cache;

use super::entry::Entry;
use crate::limits::L1_ENTRY_FRACTION;

type Variants = Vec<(String, Entry)>;
type Store = Cache<String, Variants, BuildHasherDefault<DefaultHasher>>;

/// The L1. A key has one value or several variants (a list with its limits),
/// which are invalidated together.
pub struct Memory {
    cache: Store,
    bytes_max: u64,
}

/// What an entry weighs beyond its bytes: map nodes and headers, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 160;

impl Memory {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            cache: store(bytes_max),
            bytes_max,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.cache = store(self.bytes_max);
    }

    /// A copy that may answer: fresh, or else only when the truth cannot be asked.
    pub fn copy(&mut self, key: &str, variant: &str, now_ms: u64) -> Option<Entry> {
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
        sum + ENTRY_OVERHEAD_BYTES + name.len() + entry.body.as_ref().map_or(0, |body| body.len())
    });
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
