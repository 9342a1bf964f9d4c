//! Whether a store may be asked now: a circuit breaker, and room for so many at once.
//!
//! Pure: the time is passed in, and nothing here waits.
//!
//! The breaker opens when several exchanges in a row failed because the store is
//! not there. While it is open all others fail at once; after a pause one
//! exchange at a time may try (*half-open*), and its success closes the breaker.

use std::cell::RefCell;
use std::rc::Rc;

use crate::limits::{BREAKER_PAUSE_MS_MAX, BREAKER_PAUSE_MS_MIN};

/// Why an exchange may not begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The store was not there lately.
    Broken,
    /// As many as may be are under way.
    Full,
}

#[derive(Default)]
struct State {
    /// Failures since the last success.
    failures: u64,
    /// The breaker is open, and may be tried again from this time on.
    retry_at_ms: Option<u64>,
    pause_ms: u64,
    /// When each exchange under way began. One whose request was cut off never
    /// ends, and counts until it must have.
    began_ms: Vec<u64>,
}

/// The way to one store.
#[derive(Clone)]
pub struct Gate {
    state: Rc<RefCell<State>>,
    failures_max: u64,
    exchange_ms_max: u64,
}

/// An exchange under way. Dropped without a word about its outcome it counts
/// neither as a success nor as a failure.
pub struct Pass {
    gate: Gate,
    began_ms: u64,
    is_probe: bool,
}

impl Gate {
    /// `failures_max` in a row open the breaker, 0 for never; an exchange takes
    /// at most `exchange_ms_max`.
    pub fn new(failures_max: u64, exchange_ms_max: u64) -> Self {
        Self {
            state: Rc::default(),
            failures_max,
            exchange_ms_max,
        }
    }

    /// # Errors
    /// It is closed.
    pub fn enter(&self, now_ms: u64, at_once_max: usize) -> Result<Pass, Closed> {
        let mut state = self.state.borrow_mut();
        let is_probe = state.retry_at_ms.is_some();
        if state.retry_at_ms.is_some_and(|at_ms| now_ms < at_ms) {
            return Err(Closed::Broken);
        }
        let under_way = |began_ms: &u64| now_ms.saturating_sub(*began_ms) < self.exchange_ms_max;
        state.began_ms.retain(under_way);
        if state.began_ms.len() >= at_once_max {
            return Err(Closed::Full);
        }
        if is_probe {
            // The next one may try when this one has said nothing.
            state.retry_at_ms = Some(now_ms.saturating_add(state.pause_ms));
        }
        drop(state);
        Ok(self.pass(now_ms, is_probe))
    }

    /// Enters whatever the breaker says: a health probe must ask.
    pub fn probe(&self, now_ms: u64) -> Pass {
        self.pass(now_ms, self.is_broken())
    }

    pub fn is_broken(&self) -> bool {
        self.state.borrow().retry_at_ms.is_some()
    }

    fn pass(&self, began_ms: u64, is_probe: bool) -> Pass {
        self.state.borrow_mut().began_ms.push(began_ms);
        Pass {
            gate: self.clone(),
            began_ms,
            is_probe,
        }
    }
}

impl Pass {
    /// The store is there; true: this closed the breaker.
    pub fn succeeded(self) -> bool {
        let mut state = self.gate.state.borrow_mut();
        state.failures = 0;
        state.pause_ms = 0;
        state.retry_at_ms.take().is_some()
    }

    /// The store is not there; true: this opened the breaker.
    pub fn failed(self, now_ms: u64) -> bool {
        let mut state = self.gate.state.borrow_mut();
        state.failures = state.failures.saturating_add(1);
        let failures_max = self.gate.failures_max;
        let opens =
            failures_max > 0 && state.failures >= failures_max && state.retry_at_ms.is_none();
        // One that began before the breaker opened says nothing new.
        if opens || self.is_probe {
            state.pause_ms = (state.pause_ms * 2).clamp(BREAKER_PAUSE_MS_MIN, BREAKER_PAUSE_MS_MAX);
            state.retry_at_ms = Some(now_ms.saturating_add(state.pause_ms));
        }
        opens
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state.borrow_mut();
        if let Some(place) = state.began_ms.iter().position(|ms| *ms == self.began_ms) {
            state.began_ms.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: u64 = 3;
    const STUCK_MS: u64 = 10_000;

    fn broken(now_ms: u64) -> Gate {
        let gate = Gate::new(FAILURES, STUCK_MS);
        for n in 1..=FAILURES {
            let opened = gate.enter(now_ms, 9).unwrap().failed(now_ms);
            assert_eq!(opened, n == FAILURES);
        }
        gate
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let gate = broken(0);
        assert_eq!(gate.enter(1, 9).err(), Some(Closed::Broken));
        let at = BREAKER_PAUSE_MS_MIN;
        let probe = gate.enter(at, 9).unwrap();
        assert_eq!(gate.enter(at, 9).err(), Some(Closed::Broken));
        assert!(probe.succeeded());
        assert!(!gate.is_broken());
        assert!(gate.enter(at, 9).is_ok());
    }

    #[test]
    fn the_pause_grows_with_each_probe_that_fails_up_to_its_limit() {
        let gate = broken(0);
        let (mut now_ms, mut pause_ms) = (0, BREAKER_PAUSE_MS_MIN);
        for _ in 0..20 {
            assert!(gate.enter(now_ms + pause_ms - 1, 9).is_err());
            now_ms += pause_ms;
            gate.enter(now_ms, 9).unwrap().failed(now_ms);
            pause_ms = (pause_ms * 2).min(BREAKER_PAUSE_MS_MAX);
        }
        assert_eq!(pause_ms, BREAKER_PAUSE_MS_MAX);
    }

    #[test]
    fn a_probe_that_says_nothing_lets_the_next_one_try() {
        let gate = broken(0);
        drop(gate.enter(BREAKER_PAUSE_MS_MIN, 9).unwrap());
        assert!(gate.enter(2 * BREAKER_PAUSE_MS_MIN, 9).is_ok());
    }

    #[test]
    fn failures_that_are_not_in_a_row_leave_it_closed() {
        let gate = Gate::new(FAILURES, STUCK_MS);
        for _ in 0..9 {
            gate.enter(0, 9).unwrap().failed(0);
            gate.enter(0, 9).unwrap().succeeded();
        }
        assert!(!gate.is_broken());
    }

    #[test]
    fn room_comes_back_also_from_those_that_were_cut_off() {
        let gate = Gate::new(FAILURES, STUCK_MS);
        let one = gate.enter(0, 2).unwrap();
        std::mem::forget(gate.enter(0, 2).unwrap());
        assert_eq!(gate.enter(1, 2).err(), Some(Closed::Full));
        drop(one);
        let one = gate.enter(1, 2).unwrap();
        assert_eq!(gate.enter(2, 2).err(), Some(Closed::Full));
        assert!(gate.enter(STUCK_MS, 2).is_ok());
        drop(one);
    }
}
