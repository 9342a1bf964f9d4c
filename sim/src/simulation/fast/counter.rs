//! What work costs where some can be done at once: at a store, to which there are
//! connections, and at a gateway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::Store;
use crate::report::Connections;

/// Work is counted by spans of time, so that it does not matter in which order
/// it comes. What comes later than all spans from now on waits no longer.
const SPAN_US: u64 = 1_000;
const SPANS: usize = 1 << 13;

pub(super) struct Workers {
    count: u32,
    /// Number of a span, and the work in it.
    spans: Vec<(u64, u64)>,
}

impl Workers {
    pub fn new(count: u32) -> Self {
        Self {
            count,
            spans: vec![(0, 0); SPANS],
        }
    }

    /// When work that comes then is done: in the first spans that have room.
    pub fn done_us(&mut self, at_us: u64, work_us: u64) -> u64 {
        let room_us = SPAN_US * u64::from(self.count);
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
}

pub(super) struct Counter {
    pub store: Store,
    pub workers: Workers,
    open_until_us: BinaryHeap<Reverse<u64>>,
    pub connections: Connections,
}

impl Counter {
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            workers: Workers::new(store.workers),
            open_until_us: BinaryHeap::new(),
            connections: Connections::default(),
        }
    }

    /// A connection is open between these moments.
    pub fn opened(&mut self, from_us: u64, to_us: u64) {
        self.connections.opened += 1;
        let has_ended = |end: &Reverse<u64>| end.0 <= from_us;
        while self.open_until_us.peek().is_some_and(has_ended) {
            self.open_until_us.pop();
        }
        self.open_until_us.push(Reverse(to_us));
        let open = self.open_until_us.len() as u64;
        self.connections.at_once_max = self.connections.at_once_max.max(open);
    }
}

/// A connection that a gateway keeps.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// When the store had something over it last.
    pub used_us: u64,
    pub free_us: u64,
}

/// All that one keeps to a store.
#[derive(Default)]
pub(super) struct Links(Vec<Link>);

/// One that is not used for so long is closed.
pub(super) const KEPT_US: u64 = edge::limits::KEPT_IDLE_MS_MAX * 1000;

impl Links {
    /// The one that was used last, and when the store had something over it; None:
    /// there is none.
    pub fn take(&mut self, now_us: u64) -> Option<u64> {
        self.0.retain(|link| now_us < link.free_us + KEPT_US);
        let free = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, link)| link.free_us <= now_us);
        let (place, _) = free.max_by_key(|(_, link)| link.free_us)?;
        Some(self.0.swap_remove(place).used_us)
    }

    pub fn give(&mut self, link: Link) {
        if self.0.len() < edge::limits::KEPT_LINKS_MAX {
            self.0.push(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_when_there_is_more_than_fits() {
        let mut counter = Workers::new(1);
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
        let link = |free_us| Link {
            used_us: free_us - 100,
            free_us,
        };
        links.give(link(1_000));
        assert_eq!(links.take(500), None);
        assert_eq!(links.take(1_000), Some(900));
        assert_eq!(links.take(1_000), None);
        links.give(link(2_000));
        assert_eq!(links.take(2_000 + KEPT_US), None);
    }
}
