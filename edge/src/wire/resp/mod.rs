//! RESP, the protocol of Valkey, from the client's side.
//!
//! [`Command`] encodes what we ask, [`Reply`] is what comes back, and
//! [`Connection`] is the state machine between them: it logs in, sends one
//! flight of commands at a time and hands back one reply per command, in order.
//! It speaks RESP3 and copes with servers that only know RESP2.
//!
//! What is deliberately not known here: sockets, TLS, time, and what any command
//! means. No reply is judged: an error reply is a reply, and the tiers decide
//! what it means. Only the log-in is understood, for no caller can do that.
//!
//! The sections named in these files are those of the protocol's description at
//! <https://valkey.io/topics/protocol>.

mod connection;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use connection::{Connection, Login};
pub use encode::Command;

/// What the server answered to one command.
///
/// Both protocol versions give the same values: the three kinds of null are one
/// ("Nulls": "clients should handle all these representations in the same way").
/// Only the aggregates differ, as RESP2 sends an array for a map or a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A status such as `OK`.
    Simple(String),
    /// The server refused, or failed at, the command.
    Error(ServerError),
    Integer(i64),
    /// A value. It is a part of the buffer into which it was read, and keeps
    /// the whole of it alive: who holds a small one for long copies it.
    Bulk(Bytes),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Double(f64),
    Boolean(bool),
    /// An integer beyond 64 bits, as it was written.
    BigNumber(String),
    /// A text without the mark (`txt:`, `mkd:`) of how to show it.
    Verbatim(Bytes),
}

impl Reply {
    /// Bytes that this value owns apart from itself and from the input's buffer.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Simple(text) | Self::BigNumber(text) => text.len(),
            Self::Error(error) => error.code.len().saturating_add(error.message.len()),
            _ => 0,
        }
    }
}

/// An error reply ("Simple errors", "Bulk errors").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The first word, for programs: `WRONGTYPE`, `LOADING`, `NOAUTH`, `OOM`.
    pub code: String,
    /// The rest, for people. It may repeat arguments of the command. A reply's
    /// is cut short, and withheld where it could give the password away.
    pub message: String,
}

impl ServerError {
    /// Splits an error at its first space.
    ///
    /// An error that repeats an argument may cut it anywhere, also within a
    /// character, so that what is not UTF-8 is replaced rather than refused.
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let (code, message) = text.split_once([' ', '\n']).unwrap_or((&text, ""));
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&self.code);
        }
        write!(f, "{} {}", self.code, self.message)
    }
}

impl std::error::Error for ServerError {}
