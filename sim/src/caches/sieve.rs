//! SIEVE (Zhang et al., NSDI 2024): a queue that a hit leaves alone; a hand
//! walks from the oldest to the newest, spares what was asked for since it last
//! came by, and takes the first that was not.

use super::list::List;
use super::{Cache, Id};

const ABSENT: u8 = 0;
const NEW: u8 = 1;
const VISITED: u8 = 2;

#[derive(Debug, Clone)]
pub struct Sieve {
    queue: List,
    state: Vec<u8>,
    /// Where it goes on; None: at the oldest.
    hand: Option<Id>,
    free: u32,
}

impl Sieve {
    pub fn new(capacity: u32, distinct: u32) -> Self {
        Self {
            queue: List::new(distinct),
            state: vec![ABSENT; distinct as usize],
            hand: None,
            free: capacity,
        }
    }

    fn evict(&mut self) {
        let mut hand = self.hand.unwrap_or_else(|| self.queue.oldest());
        while let Some(state) = self.state.get_mut(hand as usize) {
            if *state != VISITED {
                *state = ABSENT;
                break;
            }
            *state = NEW;
            hand = self
                .queue
                .newer(hand)
                .unwrap_or_else(|| self.queue.oldest());
        }
        self.hand = self.queue.newer(hand);
        self.queue.remove(hand);
    }
}

impl Cache for Sieve {
    fn access(&mut self, id: Id) -> bool {
        let Some(state) = self.state.get_mut(id as usize) else {
            return false;
        };
        if *state != ABSENT {
            *state = VISITED;
            return true;
        }
        if self.free > 0 {
            self.free -= 1;
        } else {
            self.evict();
        }
        if let Some(state) = self.state.get_mut(id as usize) {
            *state = NEW;
        }
        self.queue.push_newest(id);
        false
    }
}
