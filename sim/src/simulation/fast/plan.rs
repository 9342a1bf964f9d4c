//! Which isolate and which thing each request is for, and which one of its flow is
//! next, in dense numbers, so that the walk needs no map.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::super::routing::{self, Slot};
use crate::caches::clairvoyant::next_uses;
use crate::model::Model;
use crate::operation::Effect;
use crate::traffic::visits::visits;
use crate::traffic::{Thing, Traffic};

/// What a clairvoyant isolate knows of a read.
#[derive(Clone, Copy, Default)]
pub(super) struct Foreseen {
    /// Its place among the reads of its slot, and that of the next one of the same
    /// thing there.
    pub now: u32,
    pub next: u32,
}

pub(super) struct Plan {
    /// For each request.
    pub steps: Vec<Step>,
    pub slots: Vec<Slot>,
    /// How many things each slot is asked for.
    pub things_of_slot: Vec<u32>,
    pub things: u32,
    /// The request of the same flow after each; itself: none.
    next: Vec<u32>,
    /// Whether one of the same flow comes before.
    follows: Vec<bool>,
}

#[derive(Clone, Copy)]
pub(super) struct Step {
    pub slot: u32,
    /// Among all things.
    pub thing: u32,
    /// Among those that this slot is asked for.
    pub local: u32,
}

impl Plan {
    pub fn of(traffic: &Traffic, model: &Model) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        let mut slot_of_client: HashMap<(u32, u32), u32, FxBuildHasher> = HashMap::default();
        let mut numbers: HashMap<Slot, u32, FxBuildHasher> = HashMap::default();
        let mut things: HashMap<Thing, u32, FxBuildHasher> = HashMap::default();
        let mut locals: HashMap<(u32, u32), u32, FxBuildHasher> = HashMap::default();
        let mut things_of_slot: Vec<u32> = Vec::new();
        let mut steps = Vec::with_capacity(traffic.requests.len());
        for request in &traffic.requests {
            let client = (request.client, request.place);
            let slot = *slot_of_client.entry(client).or_insert_with(|| {
                let slot = routing::slot(model, traffic, request);
                *numbers.entry(slot).or_insert_with(|| {
                    slots.push(slot);
                    things_of_slot.push(0);
                    slots.len() as u32 - 1
                })
            });
            let count = things.len() as u32;
            let thing = *things.entry(request.thing()).or_insert(count);
            let count = &mut things_of_slot[slot as usize];
            let local = *locals.entry((slot, thing)).or_insert_with(|| {
                *count += 1;
                *count - 1
            });
            steps.push(Step { slot, thing, local });
        }
        let mut next: Vec<u32> = (0..traffic.requests.len() as u32).collect();
        let mut follows = vec![false; traffic.requests.len()];
        for visit in visits(&traffic.requests) {
            for (&one, &after) in visit.places().iter().zip(visit.places().iter().skip(1)) {
                next[one] = after as u32;
                follows[after] = true;
            }
        }
        Self {
            next,
            follows,
            steps,
            slots,
            things_of_slot,
            things: things.len() as u32,
        }
    }

    /// For each request, as if all came in the order of the traffic: those of a flow
    /// can come later. And how many reads each slot has.
    pub fn foreseen(&self, traffic: &Traffic) -> (Vec<Foreseen>, Vec<u32>) {
        let mut reads: Vec<Vec<u32>> = vec![Vec::new(); self.slots.len()];
        let mut foreseen = vec![Foreseen::default(); self.steps.len()];
        let all = self.steps.iter().zip(&traffic.requests);
        for ((step, request), foreseen) in all.zip(&mut foreseen) {
            if request.operation.effect() == Effect::Read {
                let reads = &mut reads[step.slot as usize];
                foreseen.now = reads.len() as u32;
                reads.push(step.local);
            }
        }
        let nexts: Vec<Vec<u32>> = reads
            .iter()
            .zip(&self.things_of_slot)
            .map(|(reads, things)| next_uses(reads, *things))
            .collect();
        for ((step, request), foreseen) in
            self.steps.iter().zip(&traffic.requests).zip(&mut foreseen)
        {
            if request.operation.effect() == Effect::Read {
                foreseen.next = nexts[step.slot as usize][foreseen.now as usize];
            }
        }
        (
            foreseen,
            reads.iter().map(|reads| reads.len() as u32).collect(),
        )
    }

    pub fn next(&self, index: u32) -> Option<u32> {
        let next = self.next[index as usize];
        (next != index).then_some(next)
    }

    pub fn follows(&self, index: u32) -> bool {
        self.follows[index as usize]
    }
}
