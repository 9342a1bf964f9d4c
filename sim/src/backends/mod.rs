//! The stores of a simulation: servers that speak bytes and keep nothing on disk.
//!
//! They stand in for Valkey and PostgreSQL where many isolates of the edge run
//! in virtual time. A server is state, a session is one connection to it; both
//! are driven by calls and given the time, so that a run can be repeated.
//! `sim/tests/backends.rs` holds them against the real servers.
//!
//! Deliberately not known here: sockets, clocks, threads, and how long anything
//! takes. Only what the edge may send is understood; the rest is answered the
//! way the real server answers what it does not know.

pub mod postgres;
pub mod valkey;
