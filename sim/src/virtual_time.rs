//! Time that only passes when nobody has anything to do: an executor for one
//! thread, in which the same seed gives the same run.
//!
//! Knows futures, timers and events. Knows no edge, no store and no network.
//! Tasks that could run at the same moment run in an order drawn from the seed,
//! so that no code may count on one.

// Nothing here comes from outside, and a simulation that is wrong must stop.
#![allow(clippy::indexing_slicing)]

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::dice::Dice;

/// One world with its own time.
#[derive(Clone)]
pub struct World(Rc<Inner>);

struct Inner {
    now_us: Cell<u64>,
    events: RefCell<BinaryHeap<Reverse<Event>>>,
    event_count: Cell<u64>,
    tasks: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Mutex<Vec<TaskId>>>,
    dice: RefCell<Dice>,
}

/// A task; its number is used again, its turn is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId {
    number: usize,
    turn: u64,
}

#[derive(Default)]
struct Slot {
    turn: u64,
    /// With what wakes it.
    task: Option<(Task, Waker)>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Event {
    at_us: u64,
    count: u64,
    what: What,
}

enum What {
    Do(Box<dyn FnOnce()>),
    /// The end of a timer: most events, which need no closure of their own. One that
    /// nobody waits for any more wakes nobody.
    Wake(Weak<Waiting>),
}

/// Who waits for a timer.
type Waiting = RefCell<Option<Waker>>;

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.count).cmp(&(other.at_us, other.count))
    }
}

struct Ready {
    id: TaskId,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.id) {
            ready.push(self.id);
        }
    }
}

impl World {
    /// A world that begins at `start_ms` since 1970.
    pub fn new(seed: u64, start_ms: u64) -> Self {
        Self(Rc::new(Inner {
            now_us: Cell::new(start_ms.saturating_mul(1000)),
            events: RefCell::default(),
            event_count: Cell::new(0),
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: Arc::default(),
            dice: RefCell::new(Dice::seeded(seed)),
        }))
    }

    pub fn now_us(&self) -> u64 {
        self.0.now_us.get()
    }

    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// A number below `bound`, from the seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.dice.borrow_mut().roll() % bound.max(1)
    }

    /// Something that is drawn, from the seed.
    pub fn draw<T>(&self, what: impl FnOnce(&mut Dice) -> T) -> T {
        what(&mut self.0.dice.borrow_mut())
    }

    /// True `part` times of a thousand.
    pub fn happens(&self, part: u64) -> bool {
        part > 0 && self.below(1000) < part
    }

    /// Does something at a later time; at the same time, in the order of the calls.
    pub fn at(&self, at_us: u64, what: impl FnOnce() + 'static) {
        self.push(at_us, What::Do(Box::new(what)));
    }

    fn push(&self, at_us: u64, what: What) {
        let count = self.0.event_count.get() + 1;
        self.0.event_count.set(count);
        self.0.events.borrow_mut().push(Reverse(Event {
            at_us: at_us.max(self.now_us()),
            count,
            what,
        }));
    }

    /// Begins a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        let mut tasks = self.0.tasks.borrow_mut();
        let number = self.0.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(Slot::default());
            tasks.len() - 1
        });
        let slot = &mut tasks[number];
        let id = TaskId {
            number,
            turn: slot.turn,
        };
        let waker = self.waker(id);
        slot.task = Some((Box::pin(task), waker.clone()));
        drop(tasks);
        waker.wake();
        id
    }

    /// Drops a task where it stands, as a host does when its client goes away.
    pub fn cancel(&self, id: TaskId) {
        drop(self.remove(id));
    }

    /// Never runs a task again and does not drop it: what holds it is gone.
    pub fn freeze(&self, id: TaskId) {
        std::mem::forget(self.remove(id));
    }

    fn remove(&self, id: TaskId) -> Option<(Task, Waker)> {
        {
            let mut tasks = self.0.tasks.borrow_mut();
            let slot = &mut tasks[id.number];
            if slot.turn != id.turn {
                return None;
            }
            slot.turn += 1;
            self.0.free.borrow_mut().push(id.number);
            slot.task.take()
        }
    }

    /// A future that is ready after a while.
    pub fn sleep_us(&self, duration_us: u64) -> Sleep {
        self.sleep_until_us(self.now_us().saturating_add(duration_us))
    }

    /// A future that is ready at that time, or at once.
    pub fn sleep_until_us(&self, until_us: u64) -> Sleep {
        Sleep {
            world: self.clone(),
            until_us,
            waiting: None,
        }
    }

    fn waker(&self, id: TaskId) -> Waker {
        Waker::from(Arc::new(Ready {
            id,
            ready: Arc::clone(&self.0.ready),
        }))
    }

    /// Runs until nothing is left to do, or until that time.
    pub fn run_until(&self, until_us: u64) {
        loop {
            while let Some(id) = self.next_ready() {
                self.poll(id);
            }
            let event = {
                let mut events = self.0.events.borrow_mut();
                match events.peek() {
                    Some(Reverse(event)) if event.at_us <= until_us => events.pop(),
                    _ => return,
                }
            };
            if let Some(Reverse(event)) = event {
                self.0.now_us.set(event.at_us);
                match event.what {
                    What::Do(what) => what(),
                    What::Wake(waiting) => {
                        let waker = waiting.upgrade().and_then(|waiting| waiting.take());
                        waker.into_iter().for_each(Waker::wake);
                    }
                }
            }
        }
    }

    fn next_ready(&self) -> Option<TaskId> {
        let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match ready.len() {
            0 => None,
            1 => ready.pop(),
            count => {
                let place = self.below(count as u64) as usize;
                Some(ready.swap_remove(place))
            }
        }
    }

    fn poll(&self, id: TaskId) {
        let task = {
            let mut tasks = self.0.tasks.borrow_mut();
            let slot = &mut tasks[id.number];
            if slot.turn != id.turn {
                return;
            }
            slot.task.take()
        };
        let Some((mut task, waker)) = task else {
            return;
        };
        let outcome = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.0.tasks.borrow_mut();
        let slot = &mut tasks[id.number];
        // It may have been cancelled by itself.
        if slot.turn != id.turn {
            drop(tasks);
            return;
        }
        if outcome.is_pending() {
            slot.task = Some((task, waker));
        } else {
            slot.turn += 1;
            self.0.free.borrow_mut().push(id.number);
            drop(tasks);
        }
    }
}

/// See [`World::sleep_us`].
pub struct Sleep {
    world: World,
    until_us: u64,
    waiting: Option<Rc<Waiting>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.world.now_us() >= self.until_us {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        if let Some(waiting) = &self.waiting {
            waiting.replace(Some(waker));
        } else {
            let waiting = Rc::new(RefCell::new(Some(waker)));
            let end = What::Wake(Rc::downgrade(&waiting));
            self.world.push(self.until_us, end);
            self.waiting = Some(waiting);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of_ends(seed: u64) -> Vec<(u64, u32)> {
        let world = World::new(seed, 0);
        let ends = Rc::new(RefCell::new(Vec::new()));
        for n in 0..20 {
            let (inner, ends) = (world.clone(), Rc::clone(&ends));
            world.spawn(async move {
                inner.sleep_us(u64::from(n % 5) * 1000).await;
                ends.borrow_mut().push((inner.now_us(), n));
            });
        }
        world.run_until(u64::MAX);
        ends.take()
    }

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_one_another_order() {
        assert_eq!(order_of_ends(1), order_of_ends(1));
        assert_ne!(order_of_ends(1), order_of_ends(2));
        assert!(order_of_ends(3).is_sorted_by_key(|(at_us, _)| *at_us));
    }

    #[test]
    fn a_cancelled_task_is_dropped_and_never_runs_again() {
        let world = World::new(0, 0);
        let guard = Rc::new(());
        let (inner, held) = (world.clone(), Rc::clone(&guard));
        let task = world.spawn(async move {
            inner.sleep_us(10).await;
            drop(held);
            unreachable!("it was cancelled");
        });
        world.run_until(5);
        world.cancel(task);
        assert_eq!(Rc::strong_count(&guard), 1);
        world.run_until(u64::MAX);
    }
}
