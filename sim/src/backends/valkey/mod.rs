//! A Valkey in memory: strings, hashes, expiry, scripts.
//!
//! [`Server`] is the keyspace with its scripts, [`Session`] one connection. What
//! each command does is in `commands`, `expiry` and `hashes`, EVAL in `script`, the two
//! forms of a reply in `reply`. Words and forms are those of Valkey 8.1.
//!
//! Deliberately not known here: which keys and scripts the edge uses; lists,
//! sets, streams, clusters, users other than `default`, who needs no password.

mod commands;
mod expiry;
mod hashes;
mod keyspace;
mod reply;
mod script;
mod session;

use std::cell::RefCell;
use std::rc::Rc;

use keyspace::{Keyspace, Value};
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
    commands: u64,
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
            commands: 0,
            sessions: 0,
        }
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

    /// Commands that clients sent and that were known. What a script calls is
    /// not counted.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    fn next_session(&mut self) -> i64 {
        self.sessions = self.sessions.saturating_add(1);
        self.sessions
    }

    /// EVAL ("Scripting with Lua").
    fn evaluate(&mut self, arguments: &[&[u8]]) -> Reply {
        let scripts = match self.scripts.take() {
            Some(scripts) => Ok(scripts),
            None => Scripts::new(&self.keyspace),
        };
        match scripts {
            Ok(mut scripts) => {
                let reply = scripts.evaluate(&self.keyspace, arguments);
                self.scripts = Some(scripts);
                reply
            }
            Err(error) => Reply::error(format!("ERR Lua does not start: {error}")),
        }
    }
}
