//! The simulation's stores held against the real ones: the same seeded random
//! commands and statements to both, and the answers compared.

#![allow(clippy::indexing_slicing)] // A test that is wrong must stop.

#[path = "backends/jsonb.rs"]
mod jsonb;
#[path = "backends/log_in.rs"]
mod log_in;
#[path = "backends/postgres.rs"]
mod postgres;
#[path = "backends/scripts.rs"]
mod scripts;
#[path = "backends/speed.rs"]
mod speed;
#[path = "backends/split.rs"]
mod split;
#[path = "backends/valkey.rs"]
mod valkey;
