//! A Valkey in memory: strings, hashes, expiry, scripts.
//!
//! [`Server`] is the keyspace with its scripts, [`Session`] one connection. Which
//! commands there are is in `commands`, what they do there and in `strings`,
//! `hashes` and `expiry`, EVAL in `script` and `lua`, the two forms of a reply
//! in `reply`. Words and forms are those of Valkey 8.1. Only `twins` knows the edge's
//! own scripts, to run them faster.
//!
//! Deliberately not known here: which keys the edge uses; lists,
//! sets, streams, clusters, users other than `default`.

mod commands;
mod expiry;
mod hashes;
mod keyspace;
mod lua;
mod reply;
mod script;
mod session;
mod strings;
#[cfg(test)]
mod tests;
mod twins;

use std::cell::RefCell;
use std::rc::Rc;

use commands::Counts;
use keyspace::{Keyspace, Lifetime, Value};
use reply::Reply;
use script::Scripts;
pub use session::Session;

/// A way in which a server is there and does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It reads its data after a start, and answers nothing but a log-in.
    Loading,
    /// It has become a replica, and refuses writes.
    ReadOnly,
    /// `maxmemory` is reached, and it refuses what could need more.
    OutOfMemory,
}

/// The server: what all its connections see.
pub struct Server {
    /// Shared with the Lua functions that scripts call; never borrowed while a
    /// script runs.
    keyspace: Rc<RefCell<Keyspace>>,
    /// Made when the first script comes.
    scripts: Option<Scripts>,
    /// Of the user `default`.
    password: Option<Vec<u8>>,
    counts: Counts,
    sessions: i64,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    pub fn new() -> Self {
        Self {
            keyspace: Rc::default(),
            scripts: None,
            password: None,
            counts: Counts::none(),
            sessions: 0,
        }
    }

    /// From the next connection on it asks for this password, or for none.
    pub fn require_password(&mut self, password: Option<&str>) {
        self.password = password.map(|password| password.as_bytes().to_vec());
    }

    /// From now on it fails in this way; with `None` it is well again.
    pub fn fail(&mut self, failure: Option<Failure>) {
        self.keyspace.borrow_mut().failure = failure;
    }

    /// The string at a key, without the wire.
    pub fn get(&self, key: &str, now_ms: u64) -> Option<Vec<u8>> {
        match self.keyspace.borrow().peek(key.as_bytes(), now_ms)? {
            Value::String(bytes) => Some(bytes.clone()),
            Value::Hash(_) => None,
        }
    }

    /// Stores a string, without the wire.
    pub fn set(&mut self, key: &str, value: &[u8], ttl_ms: Option<u64>, now_ms: u64) {
        let expires_at_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
        let value = Value::String(value.to_vec());
        let mut keyspace = self.keyspace.borrow_mut();
        keyspace.put(key.as_bytes(), value, expires_at_ms);
    }

    /// A field of the hash at a key, without the wire.
    pub fn hash_field(&self, key: &str, field: &str, now_ms: u64) -> Option<Vec<u8>> {
        match self.keyspace.borrow().peek(key.as_bytes(), now_ms)? {
            Value::String(_) => None,
            Value::Hash(fields) => fields
                .iter()
                .find(|(name, _)| name == field.as_bytes())
                .map(|(_, value)| value.clone()),
        }
    }

    /// For how long a key will be there, without the wire: `None` when it is
    /// not there or never ends.
    pub fn ttl_ms(&self, key: &str, now_ms: u64) -> Option<u64> {
        match self.keyspace.borrow().lifetime(key.as_bytes(), now_ms) {
            Lifetime::UntilMs(at_ms) => Some(at_ms.saturating_sub(now_ms)),
            Lifetime::Missing | Lifetime::Forever => None,
        }
    }

    /// Removes a key, without the wire; whether it was there.
    pub fn delete(&mut self, key: &str, now_ms: u64) -> bool {
        let mut keyspace = self.keyspace.borrow_mut();
        let was_there = keyspace.peek(key.as_bytes(), now_ms).is_some();
        keyspace.remove(key.as_bytes());
        was_there
    }

    /// The keys that are there, sorted, without the wire.
    pub fn keys(&self, now_ms: u64) -> Vec<Vec<u8>> {
        self.keyspace.borrow().keys(now_ms)
    }

    /// Loses everything, as a server without persistence does when it starts
    /// again.
    pub fn clear(&mut self) {
        self.keyspace.borrow_mut().clear();
        self.scripts = None;
    }

    /// Commands that clients sent and that were known, with or without success.
    /// What a script calls is not counted.
    pub fn commands(&self) -> u64 {
        self.counts.total()
    }

    /// The same by name, in lower case; only those that came.
    pub fn commands_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.by_name()
    }

    fn next_session(&mut self) -> i64 {
        self.sessions = self.sessions.saturating_add(1);
        self.sessions
    }

    /// The scripts, with the interpreter that runs them.
    fn scripts(&mut self) -> Result<&mut Scripts, Reply> {
        if self.scripts.is_none() {
            let scripts = Scripts::new(&self.keyspace)
                .map_err(|error| Reply::error(format!("ERR Lua does not start: {error}")))?;
            self.scripts = Some(scripts);
        }
        self.scripts
            .as_mut()
            .ok_or_else(|| Reply::error("ERR Lua does not start"))
    }
}
