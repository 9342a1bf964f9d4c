//! Shared flights: what the requests of one place ask of Valkey at the same
//! moment travels together, and each gets its own replies by their position.
//!
//! Only where connections are kept: there, one request may await what another
//! one completes. Does not know what commands mean, only how many and how large.
//!
//! Invariants:
//! - A flight leaves at once while few are under way. What comes later gathers,
//!   and leaves together when one of them has landed or is late: a large value
//!   holds up nobody for long.
//! - Whoever no longer waits gets no replies, and neither does anybody else; who
//!   gave up before the flight left does not board it. A flight that nobody
//!   waits for ends, and its connection with it.
//! - What fails for several may be the fault of one: each asks once more, alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::valkey;
use crate::error::Fault;
use crate::host::Host;
use crate::limits::{
    SHARED_BYTES_MAX, SHARED_COMMANDS_MAX, SHARED_FLIGHT_LATE_MS, SHARED_FLIGHTS_MAX,
};
use crate::settings::Valkey;
use crate::wire::resp::{Command, Reply};

/// What waits in one place to be asked of Valkey.
#[derive(Default)]
pub struct Departures {
    waiting: RefCell<VecDeque<Passenger>>,
    /// Flights that have neither landed nor are late.
    under_way: Cell<usize>,
}

/// What one request asks, and where it waits for the replies.
struct Passenger {
    commands: Vec<Command>,
    replies: oneshot::Sender<Result<Vec<Reply>, Fault>>,
}

/// Whether it is small enough to travel with others.
pub fn may_share(commands: &[Command]) -> bool {
    commands.len() <= SHARED_COMMANDS_MAX && bytes(commands) <= SHARED_BYTES_MAX
}

fn bytes(commands: &[Command]) -> usize {
    commands.iter().map(Command::bytes).sum()
}

impl Departures {
    /// The replies to these commands, which may travel with others.
    ///
    /// # Errors
    /// See [`Fault`]; [`Fault::Unreachable`] can be the fault of another's.
    pub async fn ask<H: Host>(
        &self,
        host: &H,
        valkey: &Arc<Valkey>,
        commands: Vec<Command>,
    ) -> Result<Vec<Reply>, Fault> {
        let (sender, replies) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Passenger {
            commands,
            replies: sender,
        });
        self.depart(host, valkey);
        replies.await.unwrap_or_else(|_| Err(spoilt()))
    }

    /// Lets those that wait leave, unless as many as may be are under way.
    fn depart<H: Host>(&self, host: &H, valkey: &Arc<Valkey>) {
        if self.under_way.get() < SHARED_FLIGHTS_MAX && !self.waiting.borrow().is_empty() {
            self.under_way.set(self.under_way.get() + 1);
            host.defer(carry(host.clone(), Arc::clone(valkey)));
        }
    }

    /// Those that leave together.
    fn board(&self) -> Vec<Passenger> {
        let mut waiting = self.waiting.borrow_mut();
        let mut boarded: Vec<Passenger> = Vec::new();
        let (mut commands, mut all_bytes) = (0, 0);
        while let Some(next) = waiting.pop_front() {
            if next.replies.is_closed() {
                continue;
            }
            commands += next.commands.len();
            all_bytes += bytes(&next.commands);
            let is_full = commands > SHARED_COMMANDS_MAX || all_bytes > SHARED_BYTES_MAX;
            if is_full && !boarded.is_empty() {
                waiting.push_front(next);
                break;
            }
            boarded.push(next);
        }
        boarded
    }
}

/// One flight after the other, for as long as somebody waits. Belongs to none of
/// the requests: the one that it began for may go away.
async fn carry<H: Host>(host: H, valkey: Arc<Valkey>) {
    let Some(departures) = host.kept().map(|kept| &kept.departures) else {
        return;
    };
    let mut place = Some(PlaceUnderWay(departures));
    while place.is_some() {
        let mut boarded = departures.board();
        if boarded.is_empty() {
            return;
        }
        let counts: Vec<usize> = boarded.iter().map(|one| one.commands.len()).collect();
        let commands = boarded.iter_mut().flat_map(|one| one.commands.drain(..));
        let flight = pin!(valkey::fly(&host, &valkey, commands.collect()));
        let outcome = {
            let mut flight = select(flight, all_gone(&mut boarded));
            let is_late = pin!(host.sleep(SHARED_FLIGHT_LATE_MS));
            let mut ended = match select(&mut flight, is_late).await {
                Either::Left((ended, _)) => Some(ended),
                Either::Right(_) => None,
            };
            if ended.is_none() {
                drop(place.take());
                departures.depart(&host, &valkey);
                ended = Some(flight.await);
            }
            match ended {
                Some(Either::Left((outcome, _))) => Some(outcome),
                _ => None,
            }
        };
        if let Some(outcome) = outcome {
            land(boarded, &counts, outcome);
        }
    }
}

/// Hands out what came. Nobody need be there to take it.
fn land(boarded: Vec<Passenger>, counts: &[usize], outcome: Result<Vec<Reply>, Fault>) {
    let is_alone = boarded.len() == 1;
    let mut outcome = outcome.map(Vec::into_iter);
    for (passenger, count) in boarded.into_iter().zip(counts) {
        let theirs = match &mut outcome {
            Ok(replies) => Ok(replies.by_ref().take(*count).collect()),
            Err(fault) if is_alone => Err(fault.clone()),
            Err(_) => Err(spoilt()),
        };
        let _ = passenger.replies.send(theirs);
    }
}

/// Among those that are under way, however that ends.
struct PlaceUnderWay<'a>(&'a Departures);

impl Drop for PlaceUnderWay<'_> {
    fn drop(&mut self) {
        let under_way = &self.0.under_way;
        under_way.set(under_way.get().saturating_sub(1));
    }
}

/// Ready when nobody waits any longer.
fn all_gone(boarded: &mut [Passenger]) -> impl Future<Output = ()> + Unpin {
    poll_fn(move |context| {
        // Each is to wake us.
        let gone = boarded
            .iter_mut()
            .filter_map(|one| one.replies.poll_closed(context).is_ready().then_some(()))
            .count();
        if gone == boarded.len() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
}

fn spoilt() -> Fault {
    Fault::Unreachable("a flight that several shared did not land".to_owned())
}
