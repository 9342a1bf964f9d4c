//! What a store's work costs: its workers, and the connections to it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::Store;
use crate::report::Connections;

/// Work is counted by spans of time, so that it does not matter in which order
/// it comes. What comes later than all spans from now on waits no longer.
const SPAN_US: u64 = 1_000;
const SPANS: usize = 1 << 13;

pub(super) struct Counter {
    pub store: Store,
    /// Number of a span, and the work in it.
    spans: Vec<(u64, u64)>,
    open_until_us: BinaryHeap<Reverse<u64>>,
    pub connections: Connections,
}

impl Counter {
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            spans: vec![(0, 0); SPANS],
            open_until_us: BinaryHeap::new(),
            connections: Connections::default(),
        }
    }

    /// When work that comes then is done: in the first spans that have room.
    pub fn done_us(&mut self, at_us: u64, work_us: u64) -> u64 {
        let room_us = SPAN_US * u64::from(self.store.workers);
        let mut left_us = work_us;
        let mut waited_us = 0;
        for span in (at_us / SPAN_US..).take(SPANS) {
            let place = &mut self.spans[span as usize % SPANS];
            if place.0 != span {
                *place = (span, 0);
            }
            let taken_us = left_us.min(room_us.saturating_sub(place.1));
            place.1 += taken_us;
            left_us -= taken_us;
            if left_us == 0 {
                break;
            }
            waited_us += SPAN_US;
        }
        at_us + work_us.max(waited_us)
    }

    /// A connection is open between these moments.
    pub fn opened(&mut self, from_us: u64, to_us: u64) {
        self.connections.opened += 1;
        while self
            .open_until_us
            .peek()
            .is_some_and(|end| end.0 <= from_us)
        {
            self.open_until_us.pop();
        }
        self.open_until_us.push(Reverse(to_us));
        let open = self.open_until_us.len() as u64;
        self.connections.at_once_max = self.connections.at_once_max.max(open);
    }
}

/// Connections that a gateway keeps, by when they became free.
#[derive(Default)]
pub(super) struct Links {
    free_us: Vec<u64>,
}

/// One that is not used for so long is closed.
pub(super) const KEPT_US: u64 = edge::limits::KEPT_IDLE_MS_MAX * 1000;

impl Links {
    /// The one that was used last; whether there was one.
    pub fn take(&mut self, now_us: u64) -> bool {
        self.free_us.retain(|free_us| now_us < free_us + KEPT_US);
        let free = self
            .free_us
            .iter()
            .enumerate()
            .filter(|(_, free_us)| **free_us <= now_us);
        let last = free
            .max_by_key(|(_, free_us)| **free_us)
            .map(|(place, _)| place);
        last.map(|place| self.free_us.swap_remove(place)).is_some()
    }

    pub fn give(&mut self, free_us: u64) {
        if self.free_us.len() < edge::limits::KEPT_LINKS_MAX {
            self.free_us.push(free_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_when_there_is_more_than_fits() {
        let mut counter = Counter::new(&Store::default());
        assert_eq!(counter.done_us(10_000, 300), 10_300);
        // In another order than it comes.
        assert_eq!(counter.done_us(5_000, 300), 5_300);
        for _ in 0..2 {
            counter.done_us(10_000, 300);
        }
        let done_us = counter.done_us(10_000, 300);
        assert!((11_000..11_300).contains(&done_us), "{done_us}");
    }

    #[test]
    fn a_kept_connection_is_taken_once_and_not_when_it_is_old() {
        let mut links = Links::default();
        links.give(1_000);
        assert!(!links.take(500));
        assert!(links.take(1_000));
        assert!(!links.take(1_000));
        links.give(2_000);
        assert!(!links.take(2_000 + KEPT_US));
    }
}
