//! Shepherd Edge: the Style Shepherd data API, cache-first over three tiers.
//!
//! The map, in the direction in which a request travels:
//! `host` → `route` → `tiers` → `wire` → `transport`.

pub mod limits;
pub mod wire;
