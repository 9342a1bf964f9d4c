//! What the fuzz targets share.
//!
//! - [`script`]: a fuzzer's input as a server's bytes and where they are cut.
//! - [`pg`], [`resp`]: a connection driven as `transport.rs` does, and what must
//!   be true of it whatever the server sends.
//! - [`grammar`]: JSON once more, written from the RFC, to compare with.
//! - [`allocator`]: what is really held in memory.

pub mod allocator;
pub mod grammar;
pub mod pg;
pub mod resp;
pub mod script;
