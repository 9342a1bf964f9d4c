//! A time to live around any policy, in the time of the trace: counted from the
//! last write. What is asked for too late is a miss and written again.

use super::{Cache, Id};

#[derive(Debug, Clone)]
pub struct Lifetime<C> {
    cache: C,
    written_ms: Vec<u64>,
}

impl<C: Cache> Lifetime<C> {
    pub fn new(cache: C, distinct: u32) -> Self {
        Self {
            cache,
            written_ms: vec![0; distinct as usize],
        }
    }

    /// Whether the thing was there and younger than `ttl_ms`. To write it again counts
    /// for the policy as to ask for it.
    pub fn access(&mut self, id: Id, now_ms: u64, ttl_ms: u64) -> bool {
        let was_there = self.cache.access(id);
        let Some(written_ms) = self.written_ms.get_mut(id as usize) else {
            return false;
        };
        let is_hit = was_there && now_ms < written_ms.saturating_add(ttl_ms);
        if !is_hit {
            *written_ms = now_ms;
        }
        is_hit
    }
}
