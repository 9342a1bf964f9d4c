//! What the truth was at each moment, and whether an answer may be what it is.
//!
//! A reference model of the promises, in a few lines each: it knows the edge
//! only by its requests and answers, and the stores only by what they hold.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use edge::limits::CHANGES_EVERY_MS_DEFAULT;

use super::Mood;
use crate::virtual_network::Stores;

/// What is written and read. Each has values of its own, which are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thing {
    /// A session, in Valkey.
    Session(u64),
    /// A user's preferences, in PostgreSQL.
    Profile(u64),
    /// How many orders a user has.
    Orders(u64),
}

const EACH: u64 = 3;
/// The bounds of the README, in µs.
const ISOLATE_US: u64 = 5_000_000;
const COPY_US: u64 = 30_000_000;
/// What another program wrote, where somebody watches for it: until L2 is told,
/// with some time for the telling, and then as what another isolate wrote.
const WATCHED_US: u64 = CHANGES_EVERY_MS_DEFAULT * 1000 + 1_000_000 + ISOLATE_US;
const STALE_SESSION_US: u64 = 30_000_000;
const STALE_ROWS_US: u64 = 60_000_000;
/// Of what has no copies: a request may be answered by a load that began before it.
const JOINED_US: u64 = 1_000_000;
/// Clocks that are wrong by up to a second (`CLOCK_STEP_MS_MAX`) are believed.
const CLOCKS_US: u64 = 1_000_000;
/// Violations that are kept.
const VIOLATIONS_MAX: usize = 20;

impl Thing {
    /// Where somebody watches for changes behind the edge, only others write this one:
    /// what clients write often, an edge tells L2 of before the watch does.
    pub const OF_OTHERS: Self = Self::Profile(EACH - 1);

    pub fn all() -> impl Iterator<Item = Self> {
        (0..EACH).flat_map(|n| [Self::Session(n), Self::Profile(n), Self::Orders(n)])
    }

    /// The session's or user's id. Users with orders exist from the beginning.
    pub fn id(self) -> String {
        match self {
            Self::Session(n) => format!("s{n}"),
            Self::Profile(n) => format!("p{n}"),
            Self::Orders(n) => format!("o{n}"),
        }
    }

    /// How old an answer may be, in µs.
    fn bound_us(self, value: Option<u64>, is_stale: bool, terms: &Terms) -> u64 {
        let copy_us = if terms.is_watched {
            WATCHED_US
        } else {
            COPY_US
        };
        let (fresh_us, stale_us) = match (self, value) {
            (Self::Session(_), _) => (ISOLATE_US, STALE_SESSION_US),
            (Self::Orders(_), _) if !terms.has_copies => (JOINED_US, 0),
            (_, None) => (ISOLATE_US, 0),
            (_, Some(_)) => (copy_us, STALE_ROWS_US),
        };
        fresh_us + if is_stale { stale_us } else { 0 }
    }
}

impl FromStr for Thing {
    type Err = String;

    fn from_str(id: &str) -> Result<Self, String> {
        Self::all()
            .find(|thing| thing.id() == id)
            .ok_or_else(|| format!("things are s0…s{0}, p0…p{0} and o0…o{0}", EACH - 1))
    }
}

/// What a request may rely on when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    pub at_us: u64,
    floor: usize,
    why: &'static str,
}

/// An answer of the edge.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// None: 404.
    pub value: Option<u64>,
    pub is_stale: bool,
    /// The age that it says it has.
    pub age_s: Option<u64>,
}

#[derive(Default)]
struct History {
    /// When it became what, in order.
    states: Vec<(u64, Option<u64>)>,
    /// What each life of an isolate wrote or answered last, as an index.
    wrote: HashMap<usize, usize>,
    answered: HashMap<usize, usize>,
    /// Acknowledged writes: when, and as which state.
    acknowledged: Vec<(u64, usize)>,
}

impl History {
    fn is(&self) -> Option<u64> {
        self.states.last().and_then(|(_, value)| *value)
    }

    /// The latest state with that value which had begun by then.
    fn latest(&self, value: Option<u64>, by_us: u64) -> Option<usize> {
        self.states
            .iter()
            .rposition(|(at_us, state)| *state == value && *at_us <= by_us)
    }

    /// The first state with that value that was the truth at that time or later.
    fn first(&self, value: Option<u64>, from_us: u64) -> Option<usize> {
        (0..self.states.len())
            .find(|index| self.states[*index].1 == value && self.end_us(*index) >= from_us)
    }

    fn end_us(&self, index: usize) -> u64 {
        self.states
            .get(index + 1)
            .map_or(u64::MAX, |(at_us, _)| *at_us)
    }
}

/// An order that a client wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Intent {
    pub is_acknowledged: bool,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// When it was seen; None: at the end.
    pub at_us: Option<u64>,
    pub thing: Option<Thing>,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

/// What is promised.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// L2 is told of changes behind the edge.
    pub is_watched: bool,
    /// Copies of orders may answer.
    pub has_copies: bool,
}

/// The judge.
pub struct Oracle {
    mood: Mood,
    terms: Terms,
    histories: HashMap<Thing, History>,
    pub intents: HashMap<u64, Intent>,
    pub violations: Vec<Violation>,
    seen: (u64, u64),
}

impl Oracle {
    pub fn new(mood: Mood, terms: Terms) -> Self {
        Self {
            mood,
            terms: Terms {
                // A store that is away is told later.
                is_watched: terms.is_watched && mood == Mood::Calm,
                ..terms
            },
            histories: HashMap::new(),
            intents: HashMap::new(),
            violations: Vec::new(),
            seen: (u64::MAX, u64::MAX),
        }
    }

    /// Looks at what the stores hold now.
    pub fn look(&mut self, stores: &Stores, now_us: u64) {
        let (valkey, postgres) = (stores.valkey.borrow(), stores.postgres.borrow());
        let seen = (valkey.commands(), postgres.statements());
        let is_new = (seen.0 != self.seen.0, seen.1 != self.seen.1);
        self.seen = seen;
        for thing in Thing::all() {
            let value = match thing {
                Thing::Session(_) if is_new.0 => valkey
                    .get(&format!("session:{}", thing.id()), now_us / 1000)
                    .and_then(|text| number(&String::from_utf8_lossy(&text))),
                Thing::Profile(_) if is_new.1 => postgres
                    .preferences(&thing.id())
                    .map(|text| number(text).unwrap_or(0)),
                Thing::Orders(_) if is_new.1 => {
                    let id = thing.id();
                    Some(
                        postgres
                            .orders()
                            .filter(|order| order.user_id == id)
                            .count() as u64,
                    )
                }
                _ => continue,
            };
            let history = self.histories.entry(thing).or_default();
            if history.states.is_empty() || history.is() != value {
                history.states.push((now_us, value));
            }
        }
    }

    /// After something was changed behind the edge.
    pub fn look_anew(&mut self, stores: &Stores, now_us: u64) {
        self.seen = (u64::MAX, u64::MAX);
        self.look(stores, now_us);
    }

    /// A request begins at that life of an isolate.
    pub fn begin(&self, thing: Thing, life: usize, now_us: u64) -> Begun {
        let mut begun = Begun {
            at_us: now_us,
            floor: 0,
            why: "",
        };
        let Some(history) = self.histories.get(&thing) else {
            return begun;
        };
        let mut not_before = |index: Option<&usize>, why| {
            if let Some(index) = index.filter(|index| **index > begun.floor) {
                (begun.floor, begun.why) = (*index, why);
            }
        };
        not_before(history.wrote.get(&life), "the isolate wrote later");
        not_before(history.answered.get(&life), "the isolate answered later");
        // With L2 away, copies of rows end by their age only.
        if self.mood == Mood::Calm {
            let seen = history
                .acknowledged
                .iter()
                .filter(|(at_us, _)| at_us + ISOLATE_US <= now_us);
            not_before(
                seen.map(|(_, index)| index).max(),
                "another isolate wrote later, long enough ago",
            );
        }
        begun
    }

    /// Judges an answer.
    pub fn judge(
        &mut self,
        thing: Thing,
        life: usize,
        begun: Begun,
        now_us: u64,
        answer: Answered,
    ) {
        let Answered {
            value,
            is_stale,
            age_s,
        } = answer;
        let Some(history) = self.histories.get_mut(&thing) else {
            return;
        };
        let said = format!(
            "{thing:?}, life {life}, asked at {} and answered at {now_us} with {value:?}{}",
            begun.at_us,
            if is_stale { " (stale-if-error)" } else { "" }
        );
        let Some(index) = history.latest(value, now_us) else {
            let what = if value.is_some() {
                "was never its value"
            } else {
                "it was never absent"
            };
            return self.violation(Some((thing, now_us)), format!("{said}: {what}"));
        };
        let clocks_us = match self.mood {
            Mood::Calm => 0,
            Mood::Stormy => CLOCKS_US,
        };
        let bound_us = thing.bound_us(value, is_stale, &self.terms) + clocks_us;
        let since_us = begun.at_us.saturating_sub(history.end_us(index));
        if since_us > bound_us {
            return self.violation(
                Some((thing, now_us)),
                format!("{said}: was no longer true {since_us} us before"),
            );
        }
        // A header says whole seconds, rounded down.
        if let Some(age_s) = age_s
            && since_us > (age_s + 1) * 1_000_000 + clocks_us
        {
            return self.violation(Some((thing, now_us)), format!(
                "{said}: said that its age is {age_s} s, and was no longer true {since_us} us before"
            ));
        }
        if index < begun.floor && !is_stale {
            let newer = history.states[begun.floor].1;
            return self.violation(
                Some((thing, now_us)),
                format!("{said}: older than {newer:?}, and {}", begun.why),
            );
        }
        if !is_stale {
            // Absences are all alike: it may have been an earlier one.
            let from_us = begun.at_us.saturating_sub(bound_us);
            let index = (begun.floor..index)
                .find(|index| {
                    history.states[*index].1 == value && history.end_us(*index) >= from_us
                })
                .unwrap_or(index);
            let latest = history.answered.entry(life).or_default();
            *latest = index.max(*latest);
        }
    }

    /// A write was acknowledged.
    pub fn acknowledge(
        &mut self,
        thing: Thing,
        life: usize,
        begun: Begun,
        now_us: u64,
        value: Option<u64>,
    ) {
        let Some(history) = self.histories.get_mut(&thing) else {
            return;
        };
        let Some(index) = history.first(value, begun.at_us) else {
            return self.violation(Some((thing, now_us)), format!(
                "{thing:?}, life {life}: {value:?} was acknowledged at {now_us} and never stored"
            ));
        };
        let latest = history.wrote.entry(life).or_default();
        *latest = index.max(*latest);
        history.acknowledged.push((now_us, index));
    }

    /// An order was acknowledged: it is one of those that are there now.
    pub fn order_acknowledged(&mut self, thing: Thing, life: usize, begun: Begun, now_us: u64) {
        // Which one it is, the list does not tell; the first state since the
        // request began with one order more has it at the latest if no other came.
        let Some(history) = self.histories.get_mut(&thing) else {
            return;
        };
        let before = history
            .states
            .iter()
            .rposition(|(at_us, _)| *at_us <= begun.at_us);
        let after = before.map_or(0, |index| index + 1);
        if after < history.states.len() {
            let latest = history.wrote.entry(life).or_default();
            *latest = after.max(*latest);
            history.acknowledged.push((now_us, after));
        }
    }

    /// At the end: is each order there that was acknowledged, and none twice?
    pub fn close(&mut self, stores: &Stores) {
        let mut stored: HashMap<u64, u64> = HashMap::new();
        for order in stores.postgres.borrow().orders() {
            *stored.entry(number(&order.items).unwrap_or(0)).or_default() += 1;
        }
        let mut intents: Vec<_> = self.intents.drain().collect();
        intents.sort_unstable_by_key(|(marker, _)| *marker);
        for (marker, intent) in intents {
            let count = stored.get(&marker).copied().unwrap_or(0);
            if count > 1 || (intent.is_acknowledged && count == 0) {
                self.violation(
                    None,
                    format!(
                        "order {marker}, acknowledged: {}, is there {count} times",
                        intent.is_acknowledged
                    ),
                );
            }
        }
    }

    fn violation(&mut self, seen: Option<(Thing, u64)>, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation {
                at_us: seen.map(|(_, at_us)| at_us),
                thing: seen.map(|(thing, _)| thing),
                what,
            });
        }
    }
}

/// The number behind the first `"n":` of a text.
pub fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("\"n\":")?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}
