//! Least recently used goes first.

use super::list::List;
use super::{Cache, Id};

#[derive(Debug, Clone)]
pub struct Lru {
    order: List,
    is_in: Vec<bool>,
    free: u32,
}

impl Lru {
    pub fn new(capacity: u32, distinct: u32) -> Self {
        Self {
            order: List::new(distinct),
            is_in: vec![false; distinct as usize],
            free: capacity,
        }
    }
}

impl Cache for Lru {
    fn access(&mut self, id: Id) -> bool {
        let Some(is_in) = self.is_in.get_mut(id as usize) else {
            return false;
        };
        if std::mem::replace(is_in, true) {
            self.order.renew(id);
            return true;
        }
        self.order.push_newest(id);
        if self.free > 0 {
            self.free -= 1;
            return false;
        }
        // Of a cache without room, the new one is the oldest.
        let oldest = self.order.oldest();
        self.order.remove(oldest);
        if let Some(is_in) = self.is_in.get_mut(oldest as usize) {
            *is_in = false;
        }
        false
    }
}
