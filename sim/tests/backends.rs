//! The simulation's stores held against the real ones: the same seeded random
//! commands and statements to both, and the answers compared.

#[path = "backends/postgres.rs"]
mod postgres;
#[path = "backends/split.rs"]
mod split;
#[path = "backends/valkey.rs"]
mod valkey;
