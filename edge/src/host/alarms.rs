//! Many waits and one timer of the platform's, for a place that outlives its requests:
//! nearly all waits there are deadlines that nothing comes to, and to set and clear a
//! timer for each is dear.
//!
//! Knows times and who waits for them. The clock and the timer are the host's.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub struct Alarms {
    /// Few at a time, in no order.
    waiting: RefCell<Vec<Waiting>>,
    last_number: Cell<u64>,
    /// The time of the timer that counts; others may still run.
    rings_at_ms: Cell<Option<u64>>,
}

struct Waiting {
    number: u64,
    until_ms: u64,
    waker: Waker,
}

impl Alarms {
    /// Waits. Where no timer rings by the end of it, `set` has to set one that does, and
    /// calls [`Self::ring`].
    pub fn wait<S>(self: &Rc<Self>, now_ms: u64, duration_ms: u64, set: S) -> Wait<S> {
        let number = self.last_number.get().wrapping_add(1);
        self.last_number.set(number);
        Wait {
            alarms: Rc::clone(self),
            number,
            began_ms: now_ms,
            until_ms: now_ms.saturating_add(duration_ms),
            set: Some(set),
        }
    }

    /// A timer has rung at `now_ms`: who has waited for long enough goes on. For when it
    /// is to be set anew; None: not before [`Self::wait`] says so.
    pub fn ring(&self, now_ms: u64) -> Option<u64> {
        if self.rings_at_ms.get().is_none_or(|at_ms| at_ms > now_ms) {
            // Another one counts.
            return None;
        }
        let mut waiting = self.waiting.borrow_mut();
        let over: Vec<Waiting> = waiting
            .extract_if(.., |one| one.until_ms <= now_ms)
            .collect();
        let next_ms = waiting.iter().map(|one| one.until_ms).min();
        drop(waiting);
        self.rings_at_ms.set(next_ms);
        over.into_iter().for_each(|one| one.waker.wake());
        next_ms
    }
}

/// See [`Alarms::wait`]. Once it is dropped, nobody waits.
pub struct Wait<S> {
    alarms: Rc<Alarms>,
    number: u64,
    began_ms: u64,
    until_ms: u64,
    /// None: it waits, or has waited.
    set: Option<S>,
}

impl<S: FnOnce(u64) + Unpin> Future for Wait<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (number, until_ms, set) = (self.number, self.until_ms, self.set.take());
        let mut waiting = self.alarms.waiting.borrow_mut();
        let Some(set) = set else {
            // Who is not there any more was woken.
            return match waiting.iter_mut().find(|one| one.number == number) {
                Some(one) => {
                    one.waker.clone_from(context.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            };
        };
        waiting.push(Waiting {
            number,
            until_ms,
            waker: context.waker().clone(),
        });
        // A timer that should have rung is late, or will never ring.
        let in_time = self.began_ms..=until_ms;
        let rings_at_ms = &self.alarms.rings_at_ms;
        if rings_at_ms
            .get()
            .is_none_or(|at_ms| !in_time.contains(&at_ms))
        {
            rings_at_ms.set(Some(until_ms));
            drop(waiting);
            set(until_ms);
        }
        Poll::Pending
    }
}

impl<S> Drop for Wait<S> {
    fn drop(&mut self) {
        let mut waiting = self.alarms.waiting.borrow_mut();
        if let Some(place) = waiting.iter().position(|one| one.number == self.number) {
            waiting.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Default)]
    struct Host {
        alarms: Rc<Alarms>,
        now_ms: u64,
        /// The times for which timers were set.
        set: Rc<RefCell<Vec<u64>>>,
        woken: Arc<Woken>,
    }

    impl Host {
        fn wait(&self, until_ms: u64) -> Wait<impl FnOnce(u64) + Unpin + use<>> {
            let set = Rc::clone(&self.set);
            let set = move |at_ms| set.borrow_mut().push(at_ms);
            self.alarms.wait(self.now_ms, until_ms - self.now_ms, set)
        }

        fn is_over<S: FnOnce(u64) + Unpin>(&self, wait: &mut Wait<S>) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            let outcome = Pin::new(wait).poll(&mut Context::from_waker(&waker));
            outcome.is_ready()
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn one_timer_is_enough_for_waits_that_end_unused() {
        let host = Host::default();
        for until_ms in 300..400 {
            assert!(!host.is_over(&mut host.wait(until_ms)));
        }
        assert_eq!(*host.set.borrow(), [300]);
        assert_eq!(host.alarms.ring(300), None);
        assert_eq!(host.woken(), 0);
        assert!(host.alarms.waiting.borrow().is_empty());
    }

    #[test]
    fn who_waited_for_long_enough_goes_on_and_the_others_wait() {
        let host = Host::default();
        let mut waits = [400, 300, 300, 500].map(|until_ms| host.wait(until_ms));
        for wait in &mut waits {
            assert!(!host.is_over(wait));
        }
        assert_eq!(*host.set.borrow(), [400, 300]);
        assert_eq!(host.alarms.ring(301), Some(400));
        assert_eq!(host.woken(), 2);
        let over = waits.each_mut().map(|wait| host.is_over(wait));
        assert_eq!(over, [false, true, true, false]);
        // The one that was set for 400 at first, and the one that was set anew.
        assert_eq!(host.alarms.ring(400), Some(500));
        assert_eq!(host.alarms.ring(400), None);
        assert!(host.is_over(&mut waits[0]) && !host.is_over(&mut waits[3]));
    }

    #[test]
    fn a_wait_that_is_sooner_than_the_timer_has_one_of_its_own() {
        let host = Host::default();
        let (mut late, mut soon) = (host.wait(900), host.wait(20));
        assert!(!host.is_over(&mut late) && !host.is_over(&mut soon));
        assert_eq!(*host.set.borrow(), [900, 20]);
        assert_eq!(host.alarms.ring(20), Some(900));
        assert!(host.is_over(&mut soon));
        drop(late);
        assert_eq!(host.alarms.ring(900), None);
        assert!(!host.is_over(&mut host.wait(950)));
        assert_eq!(*host.set.borrow(), [900, 20, 950]);
    }

    #[test]
    fn a_timer_that_never_rang_is_not_relied_on() {
        let mut host = Host::default();
        assert!(!host.is_over(&mut host.wait(300)));
        host.now_ms = 301;
        let mut wait = host.wait(600);
        assert!(!host.is_over(&mut wait));
        assert_eq!(*host.set.borrow(), [300, 600]);
        assert_eq!(host.alarms.ring(600), None);
        assert!(host.is_over(&mut wait));
    }
}
