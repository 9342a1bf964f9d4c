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
    changes: Recent<u64>,
    /// What was written or answered that L2 may not know.
    marks: Recent<Mark>,
    /// What gateways have written, or read from L3, for this isolate, by when they
    /// were asked.
    truths: Recent<(u64, u64)>,
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

    /// Of a key (or one variant) something was written or answered that L2 may
    /// not know: older copies must not answer here any more.
    pub fn mark(&mut self, key: &str, variant: Option<&str>) -> Mark {
        self.count += 1;
        let mark = Mark {
            made: self.count,
            after_ms: NOT_KNOWN_MS,
        };
        self.marks.note(hash(key, variant), mark, RECENT_MARKS_MAX);
        mark
    }

    /// Begins to ask a gateway; the number is for [`Flights::note_truth`].
    pub fn ask_gateway(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A gateway has written a key, or read one variant of it from L3, for who
    /// had asked by that number: from then on it must answer with nothing that
    /// was read by that time of L2's clock; [`NOT_KNOWN_MS`]: the time at which
    /// it asks L2.
    pub fn note_truth(&mut self, key: &str, variant: Option<&str>, asked: u64, l2_ms: u64) {
        let known = (asked, l2_ms);
        self.truths
            .note(hash(key, variant), known, RECENT_MARKS_MAX);
    }

    /// See [`Flights::note_truth`]; None: any copy may answer.
    pub fn floor_ms(&self, key: &str, variant: &str) -> Option<u64> {
        let of_key = self.truths.latest(hash(key, None));
        let (asked, l2_ms) = of_key.max(self.truths.latest(hash(key, Some(variant))));
        (asked > 0).then_some(l2_ms)
    }

    /// L2 knows now what that mark was made for.
    pub fn unmark(&mut self, key: &str, variant: Option<&str>, mark: Mark) {
        let is_it = |noted: &Mark| noted.made == mark.made;
        self.marks.forget(hash(key, variant), is_it);
    }

    /// Begins to ask L2 for a copy.
    pub fn inquiry(&self, key: &str, variant: &str) -> Inquiry {
        let things = [hash(key, None), hash(key, Some(variant))];
        Inquiry {
            began: self.count,
            things,
            after_ms: self.after_ms(things),
        }
    }

    /// L2 answers, and its clock shows that time.
    pub fn hear(&mut self, inquiry: &Inquiry, l2_now_ms: u64) {
        let began = inquiry.began;
        self.marks
            .change(inquiry.things, |mark| mark.hear(began, l2_now_ms));
    }

    /// Whether a copy may answer that was read at that time of L2's clock, or later.
    pub fn admits(&self, inquiry: &Inquiry, read_at_ms: u64) -> bool {
        read_at_ms > self.after_ms(inquiry.things)
    }

    fn after_ms(&self, things: [u64; 2]) -> u64 {
        if mutation::is(Mutation::IsolateGoesBack) {
            return 0;
        }
        let [of_key, of_place] = things.map(|thing| self.marks.latest(thing));
        of_key.max(of_place).after_ms
    }
}

/// A reason to take no older copy from L2: something was written or answered here.
///
/// Which copies are older is told by L2's clock alone, so that this isolate's
/// may jump: what L2's shows in answer to anything that was asked after the mark
/// was made is later than what the mark was made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// What comes after one mark comes after all that were made before it.
    made: u64,
    /// Copies that were read after this may answer, by L2's clock.
    after_ms: u64,
}

/// L2 has not been asked since; no copy was read later.
pub const NOT_KNOWN_MS: u64 = u64::MAX;

impl Mark {
    /// L2's clock showed that time to who had asked after `began`. It is less
    /// than before only when that clock went back.
    fn hear(&mut self, began: u64, l2_now_ms: u64) {
        if self.made <= began {
            self.after_ms = self.after_ms.min(l2_now_ms);
        }
    }
}

/// L2 is being asked for a copy.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry {
    began: u64,
    things: [u64; 2],
    /// Copies that were read by then, by L2's clock, are of no use.
    pub after_ms: u64,
}

/// The latest noted for each of the last few things; for all others what is not
/// below theirs.
#[derive(Default)]
struct Recent<T> {
    noted: HashMap<u64, T>,
    floor: T,
}

impl<T: Copy + Default + Ord> Recent<T> {
    fn note(&mut self, thing: u64, what: T, things_max: usize) {
        if self.noted.len() >= things_max {
            self.floor = self.noted.values().copied().fold(self.floor, T::max);
            self.noted.clear();
        }
        let latest = self.noted.entry(thing).or_default();
        *latest = what.max(*latest);
    }

    fn note_of_all(&mut self, what: T) {
        self.floor = what.max(self.floor);
    }

    fn forget(&mut self, thing: u64, is_it: impl Fn(&T) -> bool) {
        if self.noted.get(&thing).is_some_and(is_it) {
            self.noted.remove(&thing);
        }
    }

    /// Changes what is noted for these things, and for all.
    fn change(&mut self, things: [u64; 2], change: impl Fn(&mut T)) {
        for thing in things {
            self.noted.get_mut(&thing).into_iter().for_each(&change);
        }
        change(&mut self.floor);
    }

    fn latest(&self, thing: u64) -> T {
        let noted = self.noted.get(&thing).copied().unwrap_or_default();
        noted.max(self.floor)
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
        flights.mark("k", Some(""));
        for n in 0..2 * RECENT_MARKS_MAX {
            flights.mark(&format!("other {n}"), None);
        }
        let mut admits = |l2_now_ms, read_at_ms| {
            let inquiry = flights.inquiry("k", "");
            flights.hear(&inquiry, l2_now_ms);
            flights.admits(&inquiry, read_at_ms)
        };
        assert!(!admits(1_000, 999));
        assert!(!admits(2_000, 1_000));
        assert!(admits(2_000, 1_001));
    }

    #[test]
    fn a_mark_goes_when_l2_knows_and_nothing_came_since() {
        let mut flights = Flights::default();
        let admits = |flights: &mut Flights, variant| {
            let inquiry = flights.inquiry("k", variant);
            flights.hear(&inquiry, 9);
            flights.admits(&inquiry, 8)
        };
        let of_key = flights.mark("k", None);
        let first = flights.mark("k", Some("1"));
        let second = flights.mark("k", Some("1"));
        flights.unmark("k", None, of_key);
        assert!(admits(&mut flights, "2"));
        flights.unmark("k", Some("1"), first);
        assert!(!admits(&mut flights, "1"));
        flights.unmark("k", Some("1"), second);
        assert!(admits(&mut flights, "1"));
    }

    #[test]
    fn a_mark_is_older_than_what_l2_says_to_who_asks_after_it() {
        let mut flights = Flights::default();
        let before = flights.inquiry("k", "");
        assert_eq!(before.after_ms, 0);
        flights.mark("k", None);
        let heard = |flights: &mut Flights, inquiry: &Inquiry, l2_now_ms, read_at_ms| {
            flights.hear(inquiry, l2_now_ms);
            flights.admits(inquiry, read_at_ms)
        };
        // That answer was under way already.
        assert!(!heard(&mut flights, &before, 1_000, 1_000));
        let after = flights.inquiry("k", "");
        assert!(!heard(&mut flights, &after, 1_005, 1_005));
        assert_eq!(flights.inquiry("k", "").after_ms, 1_005);
        assert!(heard(&mut flights, &after, 1_007, 1_006));
        // L2 is another server now, whose clock is behind.
        let later = flights.inquiry("k", "");
        assert!(!heard(&mut flights, &later, 500, 499));
        assert!(heard(&mut flights, &later, 502, 501));
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
