//! The edge's own L1, through the calls that its tiers make: look for a copy,
//! and keep one that was loaded.
//!
//! L1 counts bytes. All entries are made to weigh the same here, so that its
//! capacity is a number of entries as everywhere else. Copies never age.

use edge::tiers::entry::Entry;
use edge::tiers::memory::{L1Policy, Memory};

use super::{Cache, Id};

/// What an entry without a body weighs in L1 under a key of [`KEY_BYTES`].
pub const ENTRY_BYTES: u64 = 248;
const KEY_BYTES: usize = 8;
/// A variant of the whole value, as the tiers call it.
const WHOLE: &str = "";
const NOW_MS: u64 = 0;

pub struct EdgeL1 {
    memory: Memory,
    key: String,
}

impl EdgeL1 {
    /// Of fewer entries than [`edge::limits::L1_ENTRY_FRACTION`] it keeps none:
    /// each would be too large for it.
    pub fn new(policy: L1Policy, capacity: u32) -> Self {
        Self {
            memory: Memory::new(policy, u64::from(capacity) * ENTRY_BYTES),
            key: String::with_capacity(KEY_BYTES),
        }
    }
}

/// All keys have the same length.
pub(super) fn name(id: Id, key: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    key.clear();
    for shift in (0..KEY_BYTES).rev() {
        let digit = DIGITS.get((id >> (shift * 4)) as usize & 0xF);
        key.push(char::from(*digit.unwrap_or(&b'0')));
    }
}

fn copy() -> Entry {
    Entry {
        body: None,
        read_at_ms: NOW_MS,
        refresh_at_ms: u64::MAX,
        fresh_until_ms: u64::MAX,
        stale_until_ms: u64::MAX,
    }
}

impl Cache for EdgeL1 {
    fn access(&mut self, id: Id) -> bool {
        name(id, &mut self.key);
        let is_hit = self.memory.copy(&self.key, WHOLE, NOW_MS).is_some();
        if !is_hit {
            self.memory.keep(&self.key, WHOLE, copy(), NOW_MS);
        }
        is_hit
    }
}
