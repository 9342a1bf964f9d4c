//! Cache policies, and what each makes of a recorded trace.
//!
//! A policy is asked for one id after the other and says whether it had it; a
//! miss is filled at once. Everything has size 1, and a capacity is a number of
//! entries. Ids are dense ([`Requests`]), so that a policy's state is an array
//! and not a map. Nothing here knows a file, a route or a clock: time matters
//! only in [`lifetime`], which is told it.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::trace::{self, Operation};

pub mod clairvoyant;
pub mod curve;
mod edge_l1;
mod libraries;
pub mod lifetime;
mod list;
mod lru;
mod policy;
mod s3_fifo;
mod sieve;
mod unbounded;

pub use clairvoyant::{Clairvoyant, Foresight};
pub use edge_l1::{ENTRY_BYTES, EdgeL1};
pub use libraries::{MiniMoka, Moka, QuickCache};
pub use lru::Lru;
pub use policy::Policy;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use unbounded::Unbounded;

/// A thing of the trace: they are numbered in the order of their first request.
pub type Id = u32;

/// What decides which things stay.
pub trait Cache {
    /// Whether the thing was there. Afterwards it is, unless it was not let in.
    fn access(&mut self, id: Id) -> bool;
}

/// The requests of a trace as the policies take them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    pub ids: Vec<Id>,
    /// How many different things they are for; every id is below.
    pub distinct: u32,
    /// Left out: a cache can neither have nor miss what is deleted.
    pub deletes: u64,
}

/// More things or requests than a trace may have: their numbers are u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl std::error::Error for TooLong {}

impl std::fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "the trace has more than {} requests: give a part of it",
            u32::MAX - 1
        )
    }
}

impl Requests {
    /// # Errors
    /// It is too long.
    pub fn of_trace(requests: &[trace::Request]) -> Result<Self, TooLong> {
        let kept = requests
            .iter()
            .filter(|request| request.operation != Operation::Delete);
        let mut all = Self::of_keys(kept.map(|request| request.key))?;
        all.deletes = (requests.len() - all.ids.len()) as u64;
        Ok(all)
    }

    /// # Errors
    /// They are too many.
    pub fn of_keys(keys: impl IntoIterator<Item = u64>) -> Result<Self, TooLong> {
        let mut numbers: HashMap<u64, Id, FxBuildHasher> = HashMap::default();
        let mut next = 0;
        let ids: Vec<Id> = keys
            .into_iter()
            .map(|key| {
                *numbers.entry(key).or_insert_with(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        match u32::try_from(ids.len()) {
            // One number is left for "never".
            Ok(count) if count < u32::MAX => Ok(Self {
                ids,
                distinct: next,
                deletes: 0,
            }),
            _ => Err(TooLong),
        }
    }
}

/// Asks for all of them, and counts those that were there.
pub fn hits(cache: &mut impl Cache, ids: &[Id]) -> u64 {
    ids.iter().map(|&id| u64::from(cache.access(id))).sum()
}
