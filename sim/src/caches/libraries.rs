//! The caches of Rust libraries, driven as the policies are: a fixed hasher, so
//! that a run can be repeated, and every maintenance done at once, so that no
//! clock decides when.

use std::hash::{BuildHasherDefault, DefaultHasher};

use super::{Cache, Id};

pub(super) type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// `moka`: W-TinyLFU for many threads.
pub struct Moka(moka::sync::Cache<Id, (), FixedHasher>);

impl Moka {
    pub fn new(capacity: u32) -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(u64::from(capacity))
                .build_with_hasher(FixedHasher::default()),
        )
    }
}

impl Cache for Moka {
    fn access(&mut self, id: Id) -> bool {
        let is_hit = self.0.get(&id).is_some();
        if !is_hit {
            self.0.insert(id, ());
        }
        // Otherwise it is done when 300 ms have passed, by the wall clock.
        self.0.run_pending_tasks();
        is_hit
    }
}

/// `mini-moka`, as it is: TinyLFU without a window, for one thread.
pub struct MiniMoka(mini_moka::unsync::Cache<Id, (), FixedHasher>);

impl MiniMoka {
    pub fn new(capacity: u32) -> Self {
        Self(
            mini_moka::unsync::Cache::builder()
                .max_capacity(u64::from(capacity))
                .build_with_hasher(FixedHasher::default()),
        )
    }
}

impl Cache for MiniMoka {
    fn access(&mut self, id: Id) -> bool {
        let is_hit = self.0.get(&id).is_some();
        if !is_hit {
            self.0.insert(id, ());
        }
        is_hit
    }
}

/// `quick_cache`: a kind of CLOCK-Pro, with S3-FIFO's memory of what left.
pub struct QuickCache(quick_cache::unsync::Cache<Id, (), quick_cache::UnitWeighter, FixedHasher>);

impl QuickCache {
    pub fn new(capacity: u32) -> Self {
        Self(quick_cache::unsync::Cache::with(
            capacity as usize,
            u64::from(capacity),
            quick_cache::UnitWeighter,
            FixedHasher::default(),
            quick_cache::unsync::DefaultLifecycle::default(),
        ))
    }
}

impl Cache for QuickCache {
    fn access(&mut self, id: Id) -> bool {
        let is_hit = self.0.get(&id).is_some();
        if !is_hit {
            self.0.insert(id, ());
        }
        is_hit
    }
}
