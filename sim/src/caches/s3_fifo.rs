//! S3-FIFO (Yang et al., SOSP 2023): what is new waits in a small queue, and
//! moves to the main one if it was asked for again more than once meanwhile.
//! What left the small queue is remembered without its value for as many
//! departures as the main queue is long; if it comes back in that time it goes
//! to the main one at once. Counts end at 3; the main queue takes one off and
//! gives another turn.

use super::{Cache, Id};

const COUNT: u8 = 0b0011;
const SMALL: u8 = 0b0100;
const MAIN: u8 = 0b1000;
/// Hits in the small queue that earn a place in the main one.
const COUNT_TO_STAY: u8 = 2;
const SMALL_PERCENT: u64 = 10;

#[derive(Debug, Clone)]
pub struct S3Fifo {
    /// The queue it is in, and its count; 0: absent.
    state: Vec<u8>,
    /// The departure with which it left the small queue; 0: it never did.
    departure: Vec<u32>,
    departures: u32,
    small: Queue,
    main: Queue,
    capacity: u32,
    main_max: u32,
    /// Until something leaves, the main queue takes what the small one has no room for.
    is_filling: bool,
}

impl S3Fifo {
    pub fn new(capacity: u32, distinct: u32) -> Self {
        let small_max = (u64::from(capacity) * SMALL_PERCENT / 100) as u32;
        Self {
            state: vec![0; distinct as usize],
            departure: vec![0; distinct as usize],
            departures: 0,
            small: Queue::new(capacity.min(distinct)),
            main: Queue::new(capacity.min(distinct)),
            capacity,
            main_max: capacity - small_max,
            is_filling: true,
        }
    }

    fn state(&mut self, id: Id) -> &mut u8 {
        // Ids come out of our own queues.
        #[allow(clippy::indexing_slicing)]
        &mut self.state[id as usize]
    }

    /// Takes the oldest out of the small queue; true: out of the cache as well.
    fn evict_small(&mut self) -> bool {
        let id = self.small.pop();
        let state = self.state(id);
        if *state & COUNT >= COUNT_TO_STAY {
            *state = MAIN;
            self.main.push(id);
            return false;
        }
        *state = 0;
        self.departures += 1;
        let departures = self.departures;
        if let Some(departure) = self.departure.get_mut(id as usize) {
            *departure = departures;
        }
        true
    }

    /// Takes the oldest out of the main queue; true: out of the cache as well.
    fn evict_main(&mut self) -> bool {
        let id = self.main.pop();
        let state = self.state(id);
        if *state & COUNT > 0 {
            *state -= 1;
            self.main.push(id);
            return false;
        }
        *state = 0;
        true
    }

    fn evict(&mut self) {
        while if self.main.length > self.main_max || self.small.length == 0 {
            !self.evict_main()
        } else {
            !self.evict_small()
        } {}
    }

    fn fill(&mut self, id: Id) {
        // Before anything leaves: it may be what is remembered longest.
        let departure = self
            .departure
            .get_mut(id as usize)
            .map_or(0, std::mem::take);
        let is_back = departure > 0 && self.departures - departure < self.main_max;
        if self.small.length + self.main.length >= self.capacity {
            self.is_filling = false;
            self.evict();
        }
        let is_surplus = self.is_filling && self.small.length >= self.capacity - self.main_max;
        if is_back || is_surplus {
            *self.state(id) = MAIN;
            self.main.push(id);
        } else {
            *self.state(id) = SMALL;
            self.small.push(id);
        }
    }
}

impl Cache for S3Fifo {
    fn access(&mut self, id: Id) -> bool {
        let Some(state) = self.state.get_mut(id as usize) else {
            return false;
        };
        if *state != 0 {
            *state += u8::from(*state & COUNT < COUNT);
            return true;
        }
        self.fill(id);
        false
    }
}

/// First in, first out, in a ring.
#[derive(Debug, Clone)]
struct Queue {
    ring: Vec<Id>,
    first: u32,
    length: u32,
}

impl Queue {
    /// For at most `length_max` ids.
    fn new(length_max: u32) -> Self {
        Self {
            ring: vec![0; (length_max as usize).next_power_of_two()],
            first: 0,
            length: 0,
        }
    }

    fn place(&mut self, number: u32) -> &mut Id {
        let mask = self.ring.len() - 1;
        // A ring has at least one place, and masks are below its length.
        #[allow(clippy::indexing_slicing)]
        &mut self.ring[number as usize & mask]
    }

    fn push(&mut self, id: Id) {
        *self.place(self.first.wrapping_add(self.length)) = id;
        self.length += 1;
    }

    /// There must be one.
    fn pop(&mut self) -> Id {
        let id = *self.place(self.first);
        self.first = self.first.wrapping_add(1);
        self.length -= 1;
        id
    }
}
