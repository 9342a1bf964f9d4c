//! L1: copies in the isolate's memory, by weight in bytes.
//!
//! A policy decides what stays; whether a copy may still be used is judged
//! against a `now` that is passed in, of a clock that never goes back. Nothing
//! here does I/O or knows who may fill: that is [`super::flights`].
//!
//! How many of the requests of the recorded traces miss, with room for so many entries
//! (`cargo run --release -p sim -- policies TRACE --sizes 100,500,1000,5000`). The
//! window's and the lead's sizes were chosen by these traces.
//!
//! | trace | entries | LRU | S3-FIFO | `moka` | `adaptive` | clairvoyant |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | weblog-424-norobots | 100 | .7099 | .6620 | .7002 | .6580 | .4891 |
//! | weblog-424-norobots | 500 | .4624 | .3964 | .4690 | .3941 | .2835 |
//! | weblog-424-norobots | 1000 | .3474 | .2902 | .3484 | .2915 | .2108 |
//! | weblog-424-norobots | 5000 | .1526 | .1464 | .1503 | .1497 | .1328 |
//! | weblog-424 | 100 | .8305 | .7924 | .8384 | .7831 | .6514 |
//! | weblog-424 | 500 | .6945 | .6152 | .7090 | .6159 | .5044 |
//! | weblog-424 | 1000 | .6230 | .5389 | .6328 | .5437 | .4406 |
//! | weblog-424 | 5000 | .4449 | .3984 | .4460 | .4066 | .3173 |
//! | web12 | 100 | .6378 | .6379 | .7129 | .6289 | .4500 |
//! | web12 | 500 | .4422 | .3920 | .4649 | .3883 | .2819 |
//! | web12 | 1000 | .3527 | .3098 | .3660 | .3095 | .2225 |
//! | web12 | 5000 | .1930 | .1847 | .1945 | .1853 | .1439 |
//! | orm-night | 100 | .5482 | .6662 | .7241 | .5328 | .4404 |
//! | orm-night | 500 | .3905 | .4126 | .4141 | .3785 | .3003 |
//! | orm-night | 1000 | .3268 | .3336 | .3775 | .3213 | .2424 |
//! | orm-night | 5000 | .1215 | .0945 | .1268 | .0960 | .0585 |
//! | tw52_1m | 100 | .5285 | .5220 | .5823 | .5024 | .3869 |
//! | tw52_1m | 500 | .4020 | .3803 | .4320 | .3761 | .2917 |
//! | tw52_1m | 1000 | .3587 | .3278 | .3867 | .3185 | .2563 |
//! | tw52_1m | 5000 | .2668 | .2325 | .2820 | .2288 | .1816 |

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use mini_moka::unsync::Cache;

use self::adaptive::{Adaptive, Hashed};
use super::entry::Entry;
use crate::limits::L1_ENTRY_FRACTION;

mod adaptive;
mod lists;
mod sketch;

/// What decides which copies stay in a full L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum L1Policy {
    /// At any time the better one of LRU and W-TinyLFU.
    #[default]
    Adaptive,
    /// mini-moka as it is.
    Moka,
}

/// A key with its variants. Keepers know the hash of a key: that two have the
/// same is not expected, but somebody could search for it.
#[derive(Debug, Clone)]
struct Copies {
    key: Box<str>,
    variants: Vec<(Box<str>, Entry)>,
}

type Moka = Cache<u64, Copies, BuildHasherDefault<Hashed>>;

// There are few, and the larger one is the usual one.
#[allow(clippy::large_enum_variant)]
enum Store {
    Adaptive(Adaptive<Copies>),
    Moka(Moka),
}

/// The L1. A key has one value or several variants (a list with its limits),
/// which are invalidated together.
pub struct Memory {
    store: Store,
    policy: L1Policy,
    bytes_max: u64,
}

/// What an entry weighs beyond its bytes, roughly: map nodes, headers, and its
/// share of what is known of things that are not kept.
const ENTRY_OVERHEAD_BYTES: usize = 240;

impl Memory {
    pub fn new(policy: L1Policy, bytes_max: u64) -> Self {
        Self {
            store: Store::new(policy, bytes_max),
            policy,
            bytes_max,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.store = Store::new(self.policy, self.bytes_max);
    }

    /// What all copies weigh.
    pub fn weight(&self) -> u64 {
        match &self.store {
            Store::Adaptive(adaptive) => adaptive.weight(),
            Store::Moka(moka) => moka.weighted_size(),
        }
    }

    /// A copy that may answer: fresh, or else only when the truth cannot be asked.
    pub fn copy(&mut self, key: &str, variant: &str, now_ms: u64) -> Option<Entry> {
        let hash = hash(key);
        let copies = match &mut self.store {
            Store::Adaptive(adaptive) => adaptive.value(hash),
            Store::Moka(moka) => moka.get(&hash),
        };
        let entry = copies?.entry(key, variant)?;
        let entry = entry.is_of_use(now_ms).then(|| entry.clone())?;
        if let Store::Adaptive(adaptive) = &mut self.store
            && entry.is_fresh(now_ms)
        {
            adaptive.touch(hash);
        }
        Some(entry)
    }

    /// Forgets a key with all its variants.
    pub fn forget(&mut self, key: &str) {
        self.remove(hash(key));
    }

    /// Keeps a copy; false: it is larger than a copy may be, and none is kept.
    pub fn keep(&mut self, key: &str, variant: &str, entry: Entry, now_ms: u64) -> bool {
        let hash = hash(key);
        let old = match &mut self.store {
            Store::Adaptive(adaptive) => adaptive.value(hash),
            Store::Moka(moka) => moka.get(&hash),
        };
        let mut copies = match old.filter(|old| *old.key == *key) {
            Some(old) => old.clone(),
            None => Copies::of(key),
        };
        let variants = &mut copies.variants;
        variants.retain(|(name, old)| **name != *variant && old.is_of_use(now_ms));
        let until_ms = entry.fresh_until_ms;
        variants.push((variant.into(), entry));
        let weight = copies.weight();
        let fits = u64::from(weight) <= self.bytes_max / L1_ENTRY_FRACTION;
        if !fits {
            self.remove(hash);
            return false;
        }
        match &mut self.store {
            Store::Adaptive(adaptive) => adaptive.insert(hash, copies, weight, (now_ms, until_ms)),
            Store::Moka(moka) => moka.insert(hash, copies),
        }
        true
    }

    fn remove(&mut self, hash: u64) {
        match &mut self.store {
            Store::Adaptive(adaptive) => adaptive.remove(hash),
            Store::Moka(moka) => moka.invalidate(&hash),
        }
    }
}

/// Fixed, so that a replay can be repeated; SipHash, so that keys that fall
/// together have at least to be searched for. Who does that makes look-ups slow
/// and nothing wrong.
fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

impl Store {
    fn new(policy: L1Policy, bytes_max: u64) -> Self {
        match policy {
            L1Policy::Adaptive => Self::Adaptive(Adaptive::new(bytes_max)),
            L1Policy::Moka => Self::Moka(
                Cache::builder()
                    .max_capacity(bytes_max)
                    .weigher(|_: &u64, copies: &Copies| copies.weight())
                    .build_with_hasher(BuildHasherDefault::default()),
            ),
        }
    }
}

impl Copies {
    fn of(key: &str) -> Self {
        Self {
            key: key.into(),
            variants: Vec::with_capacity(1),
        }
    }

    fn entry(&self, key: &str, variant: &str) -> Option<&Entry> {
        let mut variants = self.variants.iter().filter(|_| *self.key == *key);
        let (_, entry) = variants.find(|(name, _)| **name == *variant)?;
        Some(entry)
    }

    fn weight(&self) -> u32 {
        let bytes = self
            .variants
            .iter()
            .fold(self.key.len(), |sum, (name, entry)| {
                let body_bytes = entry.body.as_ref().map_or(0, |body| body.len());
                sum + ENTRY_OVERHEAD_BYTES + name.len() + body_bytes
            });
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const POLICIES: [L1Policy; 2] = [L1Policy::Adaptive, L1Policy::Moka];

    impl Memory {
        /// mini-moka makes room for an update at the next call.
        fn settled_weight(&mut self) -> u64 {
            if let Store::Moka(moka) = &mut self.store {
                moka.get(&0);
            }
            self.weight()
        }
    }

    fn memories(bytes_max: u64) -> [Memory; 2] {
        POLICIES.map(|policy| Memory::new(policy, bytes_max))
    }

    fn entry(body: impl Into<Bytes>, read_at_ms: u64) -> Entry {
        Entry {
            body: Some(body.into()),
            read_at_ms,
            refresh_at_ms: read_at_ms + 3_000,
            fresh_until_ms: read_at_ms + 5_000,
            stale_until_ms: read_at_ms + 9_000,
        }
    }

    #[test]
    fn a_copy_is_fresh_then_of_use_then_gone() {
        for mut memory in memories(1 << 20) {
            assert!(memory.keep("k", "", entry("a", 1_000), 1_000));
            assert!(memory.copy("k", "", 5_999).unwrap().is_fresh(5_999));
            assert!(!memory.copy("k", "", 6_000).unwrap().is_fresh(6_000));
            assert!(memory.copy("k", "", 9_999).is_some());
            assert!(memory.copy("k", "", 10_000).is_none());
        }
    }

    #[test]
    fn variants_of_a_key_go_together() {
        for mut memory in memories(1 << 20) {
            for variant in ["1", "2"] {
                assert!(memory.keep("k", variant, entry("a", 0), 0));
            }
            assert!(memory.copy("k", "1", 1).is_some());
            memory.forget("k");
            assert!(memory.copy("k", "1", 1).is_none());
            assert!(memory.copy("k", "2", 1).is_none());
        }
    }

    #[test]
    fn what_is_too_large_takes_the_older_copy_with_it() {
        for mut memory in memories(8_000) {
            assert!(memory.keep("k", "", entry("a", 0), 0));
            assert!(!memory.keep("k", "", entry(vec![0; 1_000], 1), 1));
            assert!(memory.copy("k", "", 2).is_none());
        }
    }

    #[test]
    fn one_key_is_not_taken_for_another_of_the_same_hash() {
        let mut copies = Copies::of("k");
        copies.variants.push(("".into(), entry("a", 0)));
        assert!(copies.entry("k", "").is_some());
        assert!(copies.entry("l", "").is_none());
    }

    #[test]
    fn weight_is_bounded() {
        for mut memory in memories(100_000) {
            for n in 0..5_000 {
                memory.keep(&format!("key{n}"), "", entry(vec![0; 1_000], 0), 0);
            }
            assert!((90_000..=100_000).contains(&memory.settled_weight()));
        }
    }

    #[derive(Debug, Clone)]
    enum Call {
        Copy(u8, u8),
        Keep(u8, u8, usize),
        Forget(u8),
        Clear,
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let key = prop_oneof![0..4_u8, 0..30_u8];
        let variant = prop_oneof![3 => Just(0_u8), 1 => 1..4_u8];
        let call = prop_oneof![
            40 => (key.clone(), variant.clone()).prop_map(|(key, variant)| Call::Copy(key, variant)),
            40 => (key.clone(), variant, 0..1_200_usize)
                .prop_map(|(key, variant, bytes)| Call::Keep(key, variant, bytes)),
            10 => key.prop_map(Call::Forget),
            1 => Just(Call::Clear),
        ];
        vec(call, 0..300)
    }

    proptest! {
        #[test]
        fn a_copy_is_what_was_kept_last_and_not_forgotten(calls in calls()) {
            for mut memory in memories(8_000) {
                let mut last = HashMap::new();
                for (number, call) in calls.iter().enumerate() {
                    let now_ms = number as u64;
                    match *call {
                        Call::Copy(key, variant) => {
                            let found = memory.copy(&key.to_string(), &variant.to_string(), now_ms);
                            let found = found.map(|entry| entry.read_at_ms);
                            let kept = last.get(&(key, variant)).copied();
                            prop_assert!(found.is_none() || found == kept);
                        }
                        Call::Keep(key, variant, bytes) => {
                            let entry = entry(vec![0; bytes], now_ms);
                            memory.keep(&key.to_string(), &variant.to_string(), entry, now_ms);
                            last.insert((key, variant), now_ms);
                        }
                        Call::Forget(key) => {
                            memory.forget(&key.to_string());
                            last.retain(|(other, _), _| *other != key);
                        }
                        Call::Clear => {
                            memory.clear();
                            last.clear();
                        }
                    }
                    prop_assert!(memory.settled_weight() <= 8_000);
                }
            }
        }
    }
}
