//! A PostgreSQL in memory that knows the edge's statements and no other.
//!
//! [`Server`] holds the four tables, [`Session`] is one connection. Statements
//! are told by their text, the constants of [`edge::tiers::postgres`], and done
//! by hand in `statements`; `values` and `jsonb` are what the columns' types
//! accept and show. Codes and forms are those of PostgreSQL 15.
//!
//! Deliberately not known here: SQL, passwords, TLS, transactions of more than
//! one statement.

mod jsonb;
mod message;
mod session;
mod statements;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub use session::Session;
pub use tables::{Order, Product, Server};
