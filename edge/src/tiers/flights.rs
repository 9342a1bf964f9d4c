//! Loads under way in one isolate: who may fill L1, and who waits for whom.
//!
//! Knows keys and times. Does no I/O and knows no tier.
//!
//! Invariants:
//! - A load fills only when, since it began, nothing was written to its key and
//!   no other load of the same thing landed, whether that one filled or only
//!   answered: whose answer is older cannot be told, and an isolate must not go
//!   back. For the same reason nobody joins it any more. See [`Flights::land`].
//! - Of several requests for one thing, one loads. The others look, on timers
//!   of their own, whether its load has *landed*: on Workers nothing that one
//!   request awaits may be completed by another.
//! - All tables are bounded. What no longer fits is forgotten in the safe
//!   direction: a load that could fill does not, a copy that could answer is
//!   not asked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::{Rc, Weak};

use super::Found;
use crate::error::Error;
use crate::limits::{FLIGHT_MS_MAX, FLIGHTS_MAX, RECENT_CHANGES_MAX, RECENT_MARKS_MAX};
use crate::mutation::{self, Mutation};

/// When a load began, to tell later what has happened since.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    began: u64,
    key: u64,
    place: u64,
}

/// A load that others may wait for.
pub struct Flight {
    key: String,
    variant: String,
    since_ms: u64,
    ended: Cell<bool>,
    landed: RefCell<Option<Result<Found, Error>>>,
}

impl Flight {
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Whether it is worth waiting for. One whose request was cut off never ends.
    pub fn is_under_way(&self, now_ms: u64) -> bool {
        !self.ended.get() && now_ms.saturating_sub(self.since_ms) < FLIGHT_MS_MAX
    }

    /// How it ended; None: without an outcome.
    pub fn outcome(&self) -> Option<Result<Found, Error>> {
        self.landed.borrow().clone()
    }
}

/// The one that loads. Dropped without [`Lead::land`], it lets the others load.
pub struct Lead(Rc<Flight>);

impl Lead {
    pub fn land(self, outcome: Result<Found, Error>) {
        self.0.landed.replace(Some(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.0.ended.set(true);
    }
}

/// The loads of one isolate, and what overtakes them.
#[derive(Default)]
pub struct Flights {
    /// Counts beginnings and changes, so that one can be before the other.
    count: u64,
    changes: Recent,
    /// By when something was written or answered that L2 may not know, in ms.
    marks: Recent,
    /// By when this isolate wrote through the gateway, in ms.
    written: Recent,
    under_way: Vec<Weak<Flight>>,
}

impl Flights {
    /// Begins a load.
    pub fn ticket(&mut self, key: &str, variant: &str) -> Ticket {
        self.count += 1;
        Ticket {
            began: self.count,
            key: hash(key, None),
            place: hash(key, Some(variant)),
        }
    }

    /// A load lands, and its requests are answered; whether it may fill. Those
    /// that began before may not from here on, and nobody joins them.
    pub fn land(&mut self, ticket: Ticket, key: &str, variant: &str) -> bool {
        let changed = self
            .changes
            .latest(ticket.key)
            .max(self.changes.latest(ticket.place));
        self.count += 1;
        self.changes
            .note(ticket.place, self.count, RECENT_CHANGES_MAX);
        self.part(|flight| flight.key == key && flight.variant == variant);
        changed < ticket.began || mutation::is(Mutation::OvertakenLoadFills)
    }

    /// A write to a key: no load under way may fill it, and none that begins
    /// now joins one of them.
    pub fn overtake(&mut self, key: &str) {
        self.count += 1;
        self.changes
            .note(hash(key, None), self.count, RECENT_CHANGES_MAX);
        self.part(|flight| flight.key == key);
    }

    /// No load under way may fill, whatever it loads, and none is joined.
    pub fn overtake_all(&mut self) {
        self.count += 1;
        self.changes.note_of_all(self.count);
        self.under_way.clear();
    }

    /// Lets nobody join these loads any more.
    fn part(&mut self, is_one: impl Fn(&Flight) -> bool) {
        self.under_way
            .retain(|flight| flight.upgrade().is_some_and(|flight| !is_one(&flight)));
    }

    /// The load that is under way for the same thing.
    pub fn under_way(&self, key: &str, variant: &str, now_ms: u64) -> Option<Rc<Flight>> {
        let mut flights = self.under_way.iter().filter_map(Weak::upgrade);
        flights.find(|flight| {
            let is_same = flight.key == key && flight.variant == variant;
            (is_same || mutation::is(Mutation::JoinsAnyLoad)) && flight.is_under_way(now_ms)
        })
    }

    /// Begins the load that others wait for.
    pub fn lead(&mut self, key: &str, variant: &str, now_ms: u64) -> Lead {
        let flight = Rc::new(Flight {
            key: key.to_owned(),
            variant: variant.to_owned(),
            since_ms: now_ms,
            ended: Cell::new(false),
            landed: RefCell::default(),
        });
        self.under_way.retain(|flight| {
            flight
                .upgrade()
                .is_some_and(|flight| flight.is_under_way(now_ms))
        });
        if self.under_way.len() < FLIGHTS_MAX {
            self.under_way.push(Rc::downgrade(&flight));
        }
        Lead(flight)
    }

    /// Of a key (or one variant) something was written or answered by then that
    /// L2 may not know: older copies must not answer here any more.
    pub fn mark(&mut self, key: &str, variant: Option<&str>, by_ms: u64) {
        let thing = hash(key, variant);
        self.marks.note(thing, by_ms, RECENT_MARKS_MAX);
    }

    /// The gateway has answered a write of this isolate to a key by then.
    pub fn note_write(&mut self, key: &str, by_ms: u64) {
        self.written.note(hash(key, None), by_ms, RECENT_MARKS_MAX);
    }

    /// What the gateway answers with must have been read at that time or later.
    pub fn written_ms(&self, key: &str) -> u64 {
        self.written.latest(hash(key, None))
    }

    /// L2 knows now what that mark was made for.
    pub fn unmark(&mut self, key: &str, variant: Option<&str>, by_ms: u64) {
        self.marks.forget(hash(key, variant), by_ms);
    }

    /// Copies in L2 answer only when they were read at that time or later.
    pub fn marked_ms(&self, key: &str, variant: &str) -> u64 {
        if mutation::is(Mutation::IsolateGoesBack) {
            return 0;
        }
        let of_key = self.marks.latest(hash(key, None));
        of_key.max(self.marks.latest(hash(key, Some(variant))))
    }
}

/// The latest number noted for each of the last few things; for all others a
/// number that is not below theirs.
#[derive(Default)]
struct Recent {
    noted: HashMap<u64, u64>,
    floor: u64,
}

impl Recent {
    fn note(&mut self, thing: u64, number: u64, things_max: usize) {
        if self.noted.len() >= things_max {
            self.floor = self.noted.values().copied().fold(self.floor, u64::max);
            self.noted.clear();
        }
        let latest = self.noted.entry(thing).or_default();
        *latest = number.max(*latest);
    }

    fn note_of_all(&mut self, number: u64) {
        self.floor = number.max(self.floor);
    }

    /// Unless a later number was noted since.
    fn forget(&mut self, thing: u64, number: u64) {
        if self.noted.get(&thing) == Some(&number) {
            self.noted.remove(&thing);
        }
    }

    fn latest(&self, thing: u64) -> u64 {
        self.noted
            .get(&thing)
            .map_or(self.floor, |number| *number.max(&self.floor))
    }
}

/// Two things of the same hash are taken for one, which is safe here.
fn hash(key: &str, variant: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, variant).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_a_write_overtook_does_not_fill() {
        let mut flights = Flights::default();
        let load = flights.ticket("k", "1");
        flights.overtake("k");
        assert!(!flights.land(load, "k", "1"));
        let load = flights.ticket("k", "1");
        flights.overtake("other");
        assert!(flights.land(load, "k", "1"));
    }

    #[test]
    fn of_two_loads_the_first_to_land_fills() {
        let mut flights = Flights::default();
        for late_lands_first in [false, true] {
            let loads = [flights.ticket("k", ""), flights.ticket("k", "")];
            let other = flights.ticket("k", "other");
            let (first, second) = (
                usize::from(late_lands_first),
                usize::from(!late_lands_first),
            );
            assert!(flights.land(loads[first], "k", ""));
            assert!(!flights.land(loads[second], "k", ""));
            assert!(flights.land(other, "k", "other"));
        }
    }

    #[test]
    fn what_a_load_only_answered_is_not_followed_by_older_answers() {
        let mut flights = Flights::default();
        let early = flights.ticket("k", "1");
        flights.overtake("k");
        let (late, lead) = (flights.ticket("k", "1"), flights.lead("k", "1", 0));
        // The early one may have read after the late one, whatever overtook it.
        assert!(!flights.land(early, "k", "1"));
        assert!(flights.under_way("k", "1", 1).is_none());
        assert!(!flights.land(late, "k", "1"));
        drop(lead);
        let next = flights.ticket("k", "1");
        assert!(flights.land(next, "k", "1"));
    }

    #[test]
    fn what_is_forgotten_does_not_fill_and_does_not_answer() {
        let mut flights = Flights::default();
        let load = flights.ticket("k", "");
        flights.overtake("k");
        for n in 0..2 * RECENT_CHANGES_MAX {
            flights.overtake(&format!("other {n}"));
        }
        assert!(!flights.land(load, "k", ""));
        flights.mark("k", Some(""), 1_000);
        for n in 0..2 * RECENT_MARKS_MAX {
            flights.mark(&format!("other {n}"), None, 900);
        }
        assert_eq!(flights.marked_ms("k", ""), 1_000);
    }

    #[test]
    fn a_mark_goes_when_l2_knows_and_nothing_came_since() {
        let mut flights = Flights::default();
        flights.mark("k", None, 5);
        flights.mark("k", Some("1"), 7);
        assert_eq!(flights.marked_ms("k", "1"), 7);
        assert_eq!(flights.marked_ms("k", "2"), 5);
        flights.unmark("k", Some("1"), 6);
        assert_eq!(flights.marked_ms("k", "1"), 7);
        flights.unmark("k", Some("1"), 7);
        assert_eq!(flights.marked_ms("k", "1"), 5);
        flights.unmark("k", None, 5);
        assert_eq!(flights.marked_ms("k", "1"), 0);
    }

    #[test]
    fn a_load_is_joined_until_it_ends_or_takes_too_long_or_a_write_comes() {
        let mut flights = Flights::default();
        let joined = |flights: &Flights, now_ms| flights.under_way("k", "1", now_ms).is_some();
        let lead = flights.lead("k", "1", 0);
        assert!(joined(&flights, 1));
        assert!(flights.under_way("k", "2", 1).is_none());
        assert!(!joined(&flights, FLIGHT_MS_MAX));
        let follower = flights.under_way("k", "1", 1).unwrap();
        drop(lead);
        assert!(!follower.is_under_way(1) && follower.outcome().is_none());
        let lead = flights.lead("k", "1", 10);
        let follower = flights.under_way("k", "1", 11).unwrap();
        flights.overtake("k");
        assert!(!joined(&flights, 12));
        lead.land(Err(Error::NotFound));
        assert_eq!(follower.outcome().unwrap().unwrap_err(), Error::NotFound);
    }
}
