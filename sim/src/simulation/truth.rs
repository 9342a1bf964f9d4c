//! What was written, and how far behind the truth an answer lies.
//!
//! Every write of a replay puts its number into what it stores ("turn"), and an
//! answer shows which it has seen. An answer is behind when a write that began
//! after the one it shows was acknowledged had itself been acknowledged before
//! the answer was asked for. Lists of rows and absences show no turn: they are
//! not judged.

use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use rustc_hash::FxBuildHasher;

use crate::traffic::Thing;

/// A write's number, in the order in which they are sent; 0 is what was there.
pub type Turn = u64;

/// The writes of one thing.
#[derive(Debug, Default)]
struct History {
    writes: Vec<Write>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    turn: Turn,
    sent_us: u64,
    /// None: it failed, or has not ended.
    acked_us: Option<u64>,
}

/// All writes so far.
#[derive(Debug, Default)]
pub struct Truth {
    things: HashMap<Thing, History, FxBuildHasher>,
    turns: Turn,
}

impl Truth {
    /// A write is sent; its number.
    pub fn begin(&mut self, thing: Thing, now_us: u64) -> Turn {
        self.turns += 1;
        self.things.entry(thing).or_default().writes.push(Write {
            turn: self.turns,
            sent_us: now_us,
            acked_us: None,
        });
        self.turns
    }

    pub fn acknowledge(&mut self, thing: Thing, turn: Turn, now_us: u64) {
        let history = self.things.entry(thing).or_default();
        let write = history
            .writes
            .iter_mut()
            .rev()
            .find(|write| write.turn == turn);
        if let Some(write) = write {
            write.acked_us = Some(now_us);
        }
    }

    /// For how long what shows `turn` had not been the truth any more when it was
    /// asked for, in µs; 0: it was.
    pub fn behind_us(&self, thing: Thing, turn: Turn, asked_us: u64) -> u64 {
        let Some(history) = self.things.get(&thing) else {
            return 0;
        };
        let seen = history.writes.iter().find(|write| write.turn == turn);
        // Of a write that nobody acknowledged, nobody knows when it happened.
        let seen_us = match (turn, seen) {
            (0, _) => 0,
            (
                _,
                Some(Write {
                    acked_us: Some(us), ..
                }),
            ) => *us,
            _ => return 0,
        };
        history
            .writes
            .iter()
            .filter(|write| write.turn > turn && write.sent_us >= seen_us)
            .filter_map(|write| write.acked_us)
            .filter(|acked_us| *acked_us <= asked_us)
            .min()
            .map_or(0, |acked_us| asked_us - acked_us)
    }
}

/// The turn that a body shows.
pub fn shown(body: &[u8]) -> Option<Turn> {
    static NAME: LazyLock<Finder> = LazyLock::new(|| Finder::new(br#""turn":"#));
    let at = NAME.find(body)?;
    let digits = body.get(at + NAME.needle().len()..)?.trim_ascii_start();
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(digits.get(..length)?)
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use edge::policy::Kind;

    use super::*;

    const THING: Thing = (Some(Kind::Session), 7);

    #[test]
    fn an_answer_is_behind_from_the_acknowledgement_of_the_next_write_on() {
        let mut truth = Truth::default();
        let first = truth.begin(THING, 100);
        assert_eq!(truth.behind_us(THING, 0, 150), 0);
        truth.acknowledge(THING, first, 200);
        assert_eq!(truth.behind_us(THING, 0, 150), 0);
        assert_eq!(truth.behind_us(THING, 0, 260), 60);
        assert_eq!(truth.behind_us(THING, first, 260), 0);
        assert_eq!(truth.behind_us((Some(Kind::Generic), 7), 0, 260), 0);
    }

    #[test]
    fn of_two_writes_at_once_either_may_be_the_last() {
        let mut truth = Truth::default();
        let (first, second) = (truth.begin(THING, 100), truth.begin(THING, 110));
        truth.acknowledge(THING, second, 120);
        truth.acknowledge(THING, first, 130);
        assert_eq!(truth.behind_us(THING, first, 500), 0);
        assert_eq!(truth.behind_us(THING, second, 500), 0);
        assert_eq!(truth.behind_us(THING, 0, 500), 380);
    }

    #[test]
    fn a_write_that_failed_makes_nothing_old() {
        let mut truth = Truth::default();
        let failed = truth.begin(THING, 100);
        assert_eq!(truth.behind_us(THING, 0, 500), 0);
        assert_eq!(truth.behind_us(THING, failed, 500), 0);
    }

    #[test]
    fn a_turn_is_found_in_what_stores_make_of_it() {
        assert_eq!(shown(br#"{"a":[1],"turn":12,"b":2}"#), Some(12));
        assert_eq!(shown(br#"{"preferences": {"turn": 3}}"#), Some(3));
        assert_eq!(shown(b"[]"), None);
        assert_eq!(shown(br#"{"turn":"x"}"#), None);
    }
}
