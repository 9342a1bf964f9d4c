//! Shepherd Edge: the Style Shepherd data API, cache-first over three tiers.
//!
//! The map, in the direction in which a request travels:
//!
//! - [`host`]: the platform: a Worker's isolate or a native process.
//! - [`route`]: paths, methods, statuses, headers.
//! - [`tiers`]: L1 in memory, L2 Valkey, L3 PostgreSQL, and their order.
//! - [`wire`]: the two protocols as state machines without I/O.
//! - [`transport`]: the only loop that moves bytes.
//!
//! Beside them: [`isolate`] (what an isolate keeps between requests), [`clock`],
//! [`settings`], [`policy`], [`limits`], [`error`], [`json`], [`checksum`], [`trace`] (a
//! line about a request), and [`mutation`], which tests break promises with.

pub mod checksum;
pub mod clock;
pub mod error;
pub mod host;
pub mod isolate;
pub mod json;
pub mod limits;
pub mod mutation;
pub mod policy;
pub mod route;
pub mod settings;
pub mod tiers;
pub mod trace;
pub mod transport;
pub mod wire;
