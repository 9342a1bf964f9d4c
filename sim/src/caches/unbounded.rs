//! Room for everything: only the first request for a thing misses.

use super::{Cache, Id};

#[derive(Debug, Clone)]
pub struct Unbounded {
    seen: Vec<bool>,
}

impl Unbounded {
    pub fn new(distinct: u32) -> Self {
        Self {
            seen: vec![false; distinct as usize],
        }
    }
}

impl Cache for Unbounded {
    fn access(&mut self, id: Id) -> bool {
        self.seen
            .get_mut(id as usize)
            .is_some_and(|seen| std::mem::replace(seen, true))
    }
}
