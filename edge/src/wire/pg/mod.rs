//! The frontend's side of PostgreSQL's protocol 3.0, as a state machine.
//!
//! Made for a connection that is opened, asked a few things and closed again:
//! everything that may leave together leaves in one flight.
//!
//! It deliberately does not know which statements there are, what a row means,
//! how long to wait, or how a socket or TLS is made. It keeps no named
//! statement and no cursor, and it has no way to send SQL as a simple query.
//!
//! # Round trips
//!
//! Until the answer to a statement that was submitted at once ("Start-up" and
//! "SASL Authentication" in the chapter "Frontend/Backend Protocol"). Clear text
//! only goes over TLS.
//!
//! | the server's method       | log-in + statement | with TCP | with TCP, TLS 1.3 |
//! |---------------------------|--------------------|----------|-------------------|
//! | trust, no password set    | 1                  | 2        | 4                 |
//! | md5, clear text           | 2                  | 3        | 5                 |
//! | trust, but a password set | 2                  | 3        | 5                 |
//! | SCRAM-SHA-256             | 3                  | 4        | 6                 |
//!
//! TLS adds two: SSLRequest and its byte, then the handshake (one more with
//! TLS 1.2). Every later statement, or any number submitted together, costs 1.
//!
//! The price: statements are on their way before the server has shown, with its
//! SCRAM signature, that it knows the password. Who it is was checked before by
//! [`SslMode::VerifyFull`], or not at all. Answers are given out only after the
//! signature. And a server that refuses the log-in closes with statements
//! unread, so that its reason can be lost to a TCP reset when they are long.

mod answer;
mod authentication;
mod cancel;
mod connection;
mod encryption;
mod frame;
mod json;
mod saslprep;
mod scram;
#[cfg(test)]
mod tests;

use std::fmt;

pub use answer::{Column, Row, Rows, ServerError};
pub use cancel::Cancel;
pub use connection::Connection;
pub use scram::{RememberedKeys, Scram};

/// Whether TLS is asked for, and what the host has to check about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SslMode {
    /// Plain TCP: for a server on the same machine.
    Disable,
    /// No TLS of ours on a channel that nobody else can read, so that even a
    /// clear-text password may go over it: a Hyperdrive binding.
    Private,
    /// TLS, whoever the server is.
    Require,
    /// TLS with a certificate that is valid for the server's name.
    VerifyFull,
}

/// Who logs in, and where.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    /// None: the server is known to ask for none (trust, peer).
    pub password: Option<String>,
    pub database: String,
    pub ssl: SslMode,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("database", &self.database)
            .field("ssl", &self.ssl)
            .finish()
    }
}

/// One statement with its bound parameters, all in text format.
///
/// The SQL is `'static`, so that nothing from a request can become SQL. The
/// server infers the types of the parameters; where it cannot, the SQL casts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    pub sql: &'static str,
    /// None is NULL.
    pub parameters: Vec<Option<String>>,
}
