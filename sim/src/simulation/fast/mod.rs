//! The fast level: the same policies and the same freshness, without bytes.
//!
//! Requests are taken in the order in which they are sent, and each is walked
//! through the tiers at once: what it finds, when it comes to a store, how long it
//! waits. Only the next one of a voice query is scheduled, and nothing else costs
//! more than some memory accesses.
//!
//! Left out: the queue for an isolate behind its I/O; connections that a store refuses
//! because it has as many as it may, which is said; and who comes first to a store
//! within the length of a way. The [`super::full`] level is the measure of it;
//! `sim/tests/levels.rs` holds them against one another.
//!
//! - [`plan`] numbers isolates and things. - [`stored`] is what stores have.
//! - [`places`] are isolates and gateways, with what they have.
//! - [`counter`] is what a store's work costs. - [`outages`] is when they are away.
//! - [`walk`] is the way through the tiers.

// Every index is one of the plan's own, and a simulation that is wrong must stop.
#![allow(clippy::indexing_slicing)]

mod counter;
mod outages;
mod places;
mod plan;
mod stored;
mod walk;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use anyhow::Result;
use indicatif::ProgressBar;

use super::faults::What;
use super::setup::Setup;
use crate::report::Report;
use crate::tally::is_error;
use crate::traffic::Traffic;
use plan::Plan;
use walk::Walk;

/// The bar is told of so many requests at once.
const TICK: u64 = 4096;
/// Times begin here, in µs, so that something can have been before.
const START_US: u64 = 1 << 40;

/// A request of a flow that is sent when the one before is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    sent_us: u64,
    index: u32,
    /// How long those before took, and whether one of them failed.
    took_us: u64,
    has_failed: bool,
}

/// Replays all of it.
///
/// # Errors
/// The traffic is too long to be judged.
pub fn replay(traffic: &Arc<Traffic>, setup: &Setup, bar: &ProgressBar) -> Result<Report> {
    let plan = Plan::of(traffic, &setup.model);
    let mut walk = Walk::new(traffic, setup, &plan)?;
    let first_ms = traffic.requests.first().map_or(0, |first| first.time_ms);
    let due_us = |index: u32| {
        let time_ms = traffic.requests[index as usize].time_ms;
        START_US + (time_ms - first_ms) * 1000
    };
    let mut cold_us = setup
        .faults
        .iter()
        .filter(|fault| fault.what == What::Cold)
        .map(|fault| START_US + fault.from_ms * 1000)
        .collect::<Vec<_>>();
    cold_us.sort_unstable_by_key(|at_us| Reverse(*at_us));
    let mut waiting: BinaryHeap<Reverse<Next>> = BinaryHeap::new();
    let mut coming = (0..traffic.requests.len() as u32).filter(|index| !plan.follows(*index));
    let mut due = coming.next();
    let mut count = 0_u64;
    loop {
        let of_flow = waiting.peek().map(|next| next.0.sent_us);
        let of_trace = due.map(due_us);
        let is_of_flow = of_flow.is_some_and(|at_us| of_trace.is_none_or(|other| at_us < other));
        let next = if is_of_flow {
            waiting.pop().map(|next| next.0)
        } else {
            let next = due.map(|index| Next {
                sent_us: due_us(index),
                index,
                took_us: 0,
                has_failed: false,
            });
            due = coming.next();
            next
        };
        let Some(Next {
            sent_us,
            index,
            took_us,
            has_failed,
        }) = next
        else {
            break;
        };
        while cold_us.pop_if(|at_us| *at_us <= sent_us).is_some() {
            walk.go_cold();
        }
        let (done_us, status) = walk.answer(index as usize, sent_us)?;
        let has_failed = has_failed || is_error(Some(status));
        let took_us = took_us + (done_us - sent_us);
        if let Some(index) = plan.next(index) {
            waiting.push(Reverse(Next {
                sent_us: due_us(index).max(done_us),
                index,
                took_us,
                has_failed,
            }));
        } else if traffic.requests[index as usize].flow != 0 {
            let place = walk.place(index as usize);
            walk.observed.flow(place, took_us, has_failed)?;
        }
        count += 1;
        if count.is_multiple_of(TICK) {
            bar.inc(TICK);
        }
    }
    bar.inc(count % TICK);
    let [valkey, postgres] = walk.counters.map(|counter| counter.connections);
    walk.observed.report(traffic, setup, valkey, postgres)
}
