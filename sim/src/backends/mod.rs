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

/// What a session keeps of its input: `take` says how many bytes it took. Most
/// messages come whole, and are not copied then.
fn taken_from(mut kept: Vec<u8>, bytes: &[u8], take: impl FnOnce(&[u8]) -> usize) -> Vec<u8> {
    if kept.is_empty() {
        let taken = take(bytes);
        kept.extend_from_slice(bytes.get(taken..).unwrap_or_default());
    } else {
        kept.extend_from_slice(bytes);
        let taken = take(&kept);
        kept.drain(..taken.min(kept.len()));
    }
    kept
}
