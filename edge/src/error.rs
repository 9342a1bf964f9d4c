//! What can go wrong, by who is at fault, and the sentence a caller reads.
//!
//! Sentences for callers name no host, SQL or constraint; what the operator
//! needs beyond them goes to the log.

use std::fmt;

use bytes::Bytes;

use crate::wire::WireError;

/// A store behind the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Postgres,
    Valkey,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Valkey => "Valkey",
        })
    }
}

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A setting is missing or malformed; the sentence names it.
    Settings(String),
    /// No connection, or it broke.
    Unreachable(String),
    /// The deadline passed before the store said anything.
    TimedOut,
    /// A deadline passed, which does not say that the store is away: it works for us, as
    /// when it waits for a lock, or had less time than it may take.
    Busy,
    /// The store was not there lately, and is left alone for a moment (circuit breaker).
    Broken,
    /// As many requests as may be are with the store already.
    Full,
    /// The store broke its protocol, or does not let us in.
    Wire(WireError),
    /// The store is there and says that it cannot serve now.
    Unavailable(String),
}

/// Why a request has no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The caller's: 400.
    BadRequest(String),
    /// 403.
    Forbidden(&'static str),
    /// 404.
    NotFound,
    /// 405, with the methods that are allowed.
    MethodNotAllowed(&'static str),
    /// 409: a reference to something that is not there.
    Conflict(&'static str),
    /// 413.
    TooLarge,
    /// One of several answers, which together would be too large: 413 where it
    /// stands alone.
    TooMuch,
    /// 415.
    UnsupportedMediaType,
    /// 422: an idempotency key of another content.
    Unprocessable(&'static str),
    /// A store's: 503, or 504 when it was too slow.
    Store(Store, Fault),
    /// No error, but the end of the way all the same: the gateway has answered,
    /// with this status and body.
    Answered(u16, Bytes),
}

impl Error {
    pub fn bad(what: impl Into<String>) -> Self {
        Self::BadRequest(what.into())
    }

    /// The status code (RFC 9110, section 15).
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Forbidden(_) => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::Conflict(_) => 409,
            Self::TooLarge | Self::TooMuch => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unprocessable(_) => 422,
            Self::Store(_, Fault::TimedOut | Fault::Busy) => 504,
            Self::Store(..) => 503,
            Self::Answered(status, _) => *status,
        }
    }

    /// Whether the caller should wait a moment before it tries again.
    pub fn is_for_a_moment(&self) -> bool {
        matches!(self, Self::Store(_, Fault::Broken | Fault::Full))
    }

    /// Whether a store is at fault, and not its settings.
    pub fn is_of_store(&self) -> bool {
        matches!(self, Self::Store(_, fault) if !matches!(fault, Fault::Settings(_)))
    }

    /// Whether the store is not there, as far as one exchange can tell.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Store(_, Fault::Unreachable(_) | Fault::TimedOut | Fault::Wire(_))
        )
    }

    /// Whether a write may have happened all the same.
    pub fn is_ambiguous(&self) -> bool {
        self.is_outage() || matches!(self, Self::Store(_, Fault::Busy))
    }

    /// Whether its store was not even asked.
    pub fn is_turned_away(&self) -> bool {
        matches!(self, Self::Store(_, Fault::Broken | Fault::Full))
    }

    /// What the operator should read, when it is more than the caller does.
    pub fn for_operator(&self) -> Option<String> {
        let Self::Store(store, fault) = self else {
            return None;
        };
        Some(match fault {
            Fault::Settings(what) => what.clone(),
            Fault::Unreachable(why) => format!("{store} cannot be reached: {why}"),
            Fault::TimedOut => format!("{store} did not answer within the deadline"),
            Fault::Busy => format!("{store} did not finish within the deadline"),
            Fault::Wire(why) => format!("{store}: {why}"),
            Fault::Unavailable(why) => format!("{store} cannot serve now: {why}"),
            Fault::Full => format!("{store} has as many requests of this isolate as it may"),
            // Its beginning is worth a line, not each request that it turns away.
            Fault::Broken => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(what) => f.write_str(what),
            Self::Forbidden(what) | Self::Conflict(what) | Self::Unprocessable(what) => {
                f.write_str(what)
            }
            Self::NotFound => f.write_str("not found"),
            Self::MethodNotAllowed(allow) => write!(f, "method not allowed; use {allow}"),
            Self::TooLarge => f.write_str("the body is larger than 10 MiB"),
            Self::TooMuch => {
                f.write_str("the values of the batch are larger than 24 MiB: ask for fewer at once")
            }
            Self::UnsupportedMediaType => {
                f.write_str("send the body with Content-Type: application/json")
            }
            Self::Store(_, Fault::Settings(what)) => f.write_str(what),
            Self::Store(store, Fault::TimedOut | Fault::Busy) => {
                write!(f, "{store} is too slow right now; try again")
            }
            Self::Store(store, _) => write!(f, "{store} is not available right now; try again"),
            Self::Answered(_, body) => f.write_str(&String::from_utf8_lossy(body)),
        }
    }
}

impl std::error::Error for Error {}
