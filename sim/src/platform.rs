//! What requests and isolates need of what the platform lets them have.
//!
//! Knows limits and counts, and lets connections wait that are too many at once.
//! Does not know who needs what for which purpose.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::model::{Busy, Limits};
use crate::report::Limit;

/// From this part of a limit on, a report says how near it came.
const NEAR_PERCENT: u64 = 80;

/// What was needed of one limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Need {
    most: u64,
    /// How many needed more than is allowed.
    over: u64,
}

impl Need {
    /// One needs so much now; whether this is more than is allowed, and was not before.
    fn grow(&mut self, before: u64, now: u64, allowed: u64) -> bool {
        self.most = self.most.max(now);
        let is_over = before <= allowed && now > allowed;
        self.over += u64::from(is_over);
        is_over
    }
}

/// What was needed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    limits: Limits,
    connecting: Need,
    subrequests: Need,
    cpu_us: Need,
    memory_bytes: Need,
}

impl Needs {
    pub fn of(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A request had so many subrequests, and was opening at most so many
    /// connections at once.
    pub fn asked(&mut self, subrequests: u64, connecting: u64) {
        let limits = self.limits;
        self.subrequests
            .grow(0, subrequests, limits.subrequests.into());
        self.connecting
            .grow(0, connecting, limits.connecting.into());
    }

    /// A request that had computed for so long computes for longer.
    pub fn computed(&mut self, before_us: u64, more_us: u64) {
        let now_us = before_us + more_us;
        self.cpu_us.grow(before_us, now_us, self.limits.cpu_us);
    }

    /// An isolate holds so much; whether that is the end of it.
    pub fn held(&mut self, bytes: u64) -> bool {
        self.memory_bytes.grow(0, bytes, self.limits.memory_bytes)
    }

    /// The limits that were reached, or nearly.
    pub fn near(&self) -> Vec<Limit> {
        let limits = &self.limits;
        [
            (
                "connections that a request is opening at once",
                "",
                self.connecting,
                limits.connecting.into(),
            ),
            (
                "subrequests of a request",
                "",
                self.subrequests,
                limits.subrequests.into(),
            ),
            ("CPU time of a request", "us", self.cpu_us, limits.cpu_us),
            (
                "memory of an isolate",
                "bytes",
                self.memory_bytes,
                limits.memory_bytes,
            ),
        ]
        .into_iter()
        .filter(|(_, _, need, allowed)| {
            u128::from(need.most) * 100 >= u128::from(*allowed) * u128::from(NEAR_PERCENT)
        })
        .map(|(name, unit, need, allowed)| Limit {
            name: name.to_owned(),
            unit: unit.to_owned(),
            most: need.most,
            allowed,
            over: need.over,
        })
        .collect()
    }
}

/// The thread of an isolate, which does one thing at a time.
#[derive(Debug)]
pub struct Thread {
    pub busy: Busy,
    until_us: Cell<u64>,
}

impl Thread {
    pub fn new(busy: Busy) -> Self {
        Self {
            busy,
            until_us: Cell::default(),
        }
    }

    /// Takes work of so many µs that comes now; when it begins with it.
    pub fn take(&self, now_us: u64, us: u64) -> u64 {
        let begins_us = self.until_us.get().max(now_us);
        self.until_us.set(begins_us + us);
        begins_us
    }
}

/// A request, as the platform sees it: with all that it does after its answer.
pub struct Invocation {
    needs: Rc<RefCell<Needs>>,
    subrequests: Cell<u64>,
    cpu_us: Cell<u64>,
    /// Being opened, or waiting for that.
    connecting: Cell<u64>,
    connecting_most: Cell<u64>,
    opening: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
}

/// A connection that is being opened. Dropped, it lets the next one begin.
pub struct Opening<'a> {
    invocation: &'a Invocation,
    has_begun: bool,
}

impl Invocation {
    pub fn new(needs: &Rc<RefCell<Needs>>) -> Self {
        Self {
            needs: Rc::clone(needs),
            subrequests: Cell::default(),
            cpu_us: Cell::default(),
            connecting: Cell::default(),
            connecting_most: Cell::default(),
            opening: Cell::default(),
            waiting: RefCell::default(),
        }
    }

    pub fn subrequest(&self) {
        let before = self.subrequests.replace(self.subrequests.get() + 1);
        let mut needs = self.needs.borrow_mut();
        let allowed = needs.limits.subrequests.into();
        needs.subrequests.grow(before, before + 1, allowed);
    }

    pub fn compute(&self, us: u64) {
        let before_us = self.cpu_us.replace(self.cpu_us.get() + us);
        self.needs.borrow_mut().computed(before_us, us);
    }

    /// Waits until there is room for one more connection that is being opened.
    pub async fn open(&self) -> Opening<'_> {
        self.subrequest();
        let connecting = self.connecting.get() + 1;
        self.connecting.set(connecting);
        let before = self.connecting_most.get();
        self.connecting_most.set(before.max(connecting));
        let allowed = {
            let mut needs = self.needs.borrow_mut();
            let allowed = needs.limits.connecting;
            needs.connecting.grow(before, connecting, allowed.into());
            allowed
        };
        let mut opening = Opening {
            invocation: self,
            has_begun: false,
        };
        poll_fn(|context| {
            if self.opening.get() >= allowed {
                self.waiting.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            self.opening.set(self.opening.get() + 1);
            Poll::Ready(())
        })
        .await;
        opening.has_begun = true;
        opening
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Invocation {
            connecting,
            opening,
            waiting,
            ..
        } = self.invocation;
        connecting.set(connecting.get() - 1);
        if self.has_begun {
            opening.set(opening.get() - 1);
            // Those that find no room wait again.
            waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::World;

    #[test]
    fn connections_that_are_too_many_at_once_wait() {
        let limits = Limits {
            connecting: 2,
            ..Limits::default()
        };
        let needs = Rc::new(RefCell::new(Needs::of(limits)));
        let invocation = Rc::new(Invocation::new(&needs));
        let world = World::new(1, 0);
        let ends_us = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..5 {
            let (invocation, inner) = (Rc::clone(&invocation), world.clone());
            let ends_us = Rc::clone(&ends_us);
            world.spawn(async move {
                let opening = invocation.open().await;
                inner.sleep_us(10).await;
                drop(opening);
                ends_us.borrow_mut().push(inner.now_us());
            });
        }
        world.run_until(u64::MAX);
        assert_eq!(*ends_us.borrow(), [10, 10, 20, 20, 30]);
        let near = needs.borrow().near();
        assert_eq!((near[0].most, near[0].over), (5, 1));
    }

    #[test]
    fn only_what_comes_near_is_said() {
        let mut needs = Needs::of(Limits::default());
        needs.asked(3, 2);
        needs.computed(0, 1_000);
        assert!(!needs.held(50 << 20));
        assert_eq!(needs.near(), []);
        assert!(needs.held(129 << 20));
        let [memory] = &needs.near()[..] else {
            unreachable!("one limit was reached");
        };
        assert_eq!((memory.most, memory.over), (129 << 20, 1));
    }
}
