//! Keys with their values and times, and what the server refuses at the moment.
//!
//! Does not know commands or bytes on a wire.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::Failure;

/// So many commands after each other, and what has expired is thrown away.
const SWEEP_EVERY: u64 = 4096;

#[derive(Debug, Clone)]
pub(super) enum Value {
    String(Vec<u8>),
    /// Fields in the order in which they came, as a listpack has them. The
    /// edge's hashes have few.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

#[derive(Debug)]
struct Entry {
    value: Value,
    expires_at_ms: Option<u64>,
}

impl Entry {
    /// A key is there in the millisecond in which it expires (`keyIsExpired`).
    fn is_live(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at_ms| now_ms <= at_ms)
    }
}

/// How long a key will be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    Missing,
    Forever,
    UntilMs(u64),
}

#[derive(Debug, Default)]
pub(super) struct Keyspace {
    /// Its order never shows.
    entries: HashMap<Vec<u8>, Entry, FxBuildHasher>,
    pub failure: Option<Failure>,
    /// The time of the command, which stands still while a script runs.
    pub now_ms: u64,
    /// The running script has written: from there on it may go on writing.
    pub script_wrote: bool,
    commands: u64,
}

impl Keyspace {
    /// A command begins.
    pub fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.script_wrote = false;
        self.commands = self.commands.wrapping_add(1);
        if self.commands.is_multiple_of(SWEEP_EVERY) {
            self.entries.retain(|_, entry| entry.is_live(now_ms));
        }
    }

    pub fn peek(&self, key: &[u8], now_ms: u64) -> Option<&Value> {
        let entry = self.entries.get(key)?;
        entry.is_live(now_ms).then_some(&entry.value)
    }

    pub fn value(&self, key: &[u8]) -> Option<&Value> {
        self.peek(key, self.now_ms)
    }

    pub fn value_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        let now_ms = self.now_ms;
        let entry = self.entries.get_mut(key)?;
        entry.is_live(now_ms).then_some(&mut entry.value)
    }

    pub fn put(&mut self, key: &[u8], value: Value, expires_at_ms: Option<u64>) {
        let entry = Entry {
            value,
            expires_at_ms,
        };
        match self.entries.get_mut(key) {
            Some(old) => *old = entry,
            None => {
                self.entries.insert(key.to_vec(), entry);
            }
        }
    }

    /// Whether the key was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let now_ms = self.now_ms;
        let removed = self.entries.remove(key);
        removed.is_some_and(|entry| entry.is_live(now_ms))
    }

    pub fn lifetime(&self, key: &[u8], now_ms: u64) -> Lifetime {
        match self.entries.get(key) {
            Some(entry) if entry.is_live(now_ms) => entry
                .expires_at_ms
                .map_or(Lifetime::Forever, Lifetime::UntilMs),
            _ => Lifetime::Missing,
        }
    }

    pub fn expire_at(&mut self, key: &[u8], at_ms: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.expires_at_ms = Some(at_ms);
        }
    }

    pub fn never_expire(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.expires_at_ms = None;
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Sorted, as the table's own order would not repeat.
    pub fn keys(&self, now_ms: u64) -> Vec<Vec<u8>> {
        let live = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_live(now_ms));
        let mut keys: Vec<Vec<u8>> = live.map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    }

    pub fn live_keys(&self) -> usize {
        let live = |entry: &&Entry| entry.is_live(self.now_ms);
        self.entries.values().filter(live).count()
    }
}
