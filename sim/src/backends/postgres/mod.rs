//! A PostgreSQL in memory that knows the edge's statements and no other.
//!
//! [`Server`] holds the four tables, [`Session`] is one connection. Statements
//! are told by their text, the constants of [`edge::tiers::postgres`], and done
//! by hand in `reads` and `writes`; `values`, `numeric` and `jsonb` are what the
//! columns' types accept and show. Codes and forms are those of PostgreSQL 15.
//!
//! Deliberately not known here: SQL, passwords, TLS, transactions of more than
//! one statement.

mod jsonb;
mod message;
mod numeric;
mod reads;
mod refusal;
mod session;
mod startup;
mod statements;
mod tables;
#[cfg(test)]
mod tests;
mod values;
mod writes;

pub use session::Session;
pub use tables::{Order, Product, Profile, Return, Server};

/// A way in which a server is there and does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It recovers after a start, and lets nobody in.
    StartingUp,
    /// `max_connections` is reached: nobody more is let in.
    Full,
    /// It has become a standby, and refuses writes.
    ReadOnly,
}
