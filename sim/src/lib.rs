//! The native companion of the edge: real stores, sample data, and the simulator.
//!
//! The map, from the ground up:
//!
//! - [`child`]: a process that ends when we end.
//! - [`stores`]: a real PostgreSQL and a real Valkey, started and stopped.
//! - [`database`], [`valkey`]: a connection by URL, and in a sentence why there is none.
//! - [`backends`]: the same two stores in memory, for simulations in virtual time.
//! - [`schema`], [`sample`]: the tables, and something to look at in them.
//! - [`operation`]: what is measured, and its targets.
//! - [`trace`] → [`traffic`] → [`load`] → [`tally`] → [`report`]: recorded keys,
//!   as requests to the API, fired at an edge, counted, and judged in a table or on a page.
//! - [`record`]: what servers write down anyway, as traffic.
//! - [`model`]: what a simulation takes the world to be, and [`calibrate`]: what
//!   it is in front of us.
//! - [`platform`]: what requests need of what Workers let them have.
//! - [`simulation`]: traffic through the same tiers, in virtual time;
//!   [`sweep`] does that for many settings, [`check`] is for CI.
//! - [`caches`] → [`study`]: what cache policies make of recorded keys, in a
//!   table beside what no policy can beat.
//! - [`tables`]: how both tables look.
//! - [`wrangler`], [`dev`]: what `make run` does, from the first check to Ctrl-C.
//!
//! Only [`dev`] and the command line know all of the others.

pub mod backends;
pub mod cache_status;
pub mod caches;
pub mod calibrate;
pub mod certificate;
pub mod chaos;
pub mod check;
pub mod checkout;
pub mod child;
pub mod database;
pub mod dev;
pub mod dice;
pub mod lines;
pub mod load;
pub mod model;
pub mod network;
pub mod operation;
pub mod origin;
pub mod platform;
pub mod record;
pub mod report;
pub mod sample;
pub mod say;
pub mod schema;
pub mod simulation;
pub mod steps;
pub mod stores;
pub mod study;
pub mod sweep;
pub mod tables;
pub mod tally;
pub mod trace;
pub mod traffic;
pub mod valkey;
pub mod virtual_network;
pub mod virtual_time;
pub mod wrangler;
