//! The way of one request through the tiers.
//!
//! Follows [`edge::tiers`], with its policies and its arithmetic of freshness.
//! Times are µs; those of entries are ms, as the edge's clocks show them.

use anyhow::Result;
use bytes::Bytes;
use edge::limits::INVALIDATION_PAUSES_MS;
use edge::policy::{JITTER, Kind, REFRESH_FROM};
use edge::tiers::LOOK_MS;
use edge::tiers::entry::{Draws, Entry, Times};
use edge::tiers::rows::LEASE_WAIT_MS;

use super::super::observed::{Answer, Observed};
use super::super::setup::Setup;
use super::super::truth::Truth;
use super::START_US;
use super::counter::Counter;
use super::outages::{Gates, Outages};
use super::places::{Flight, Gateway, Held, Isolate, Kept, L1, Loaded};
use super::plan::{Foreseen, Plan, Step};
use super::stored::{Lease, NEVER_US, Stored, Version};
use crate::cache_status::Tier;
use crate::caches::{Foresight, Policy};
use crate::dice::Dice;
use crate::model::Way;
use crate::operation::Effect;
use crate::platform::Needs;
use crate::traffic::{Request, Traffic, call};

mod stores;

use stores::UNAVAILABLE;

const LOOK_US: (u64, u64) = (LOOK_MS.0 * 1000, LOOK_MS.1 * 1000);
const LEASE_WAIT_US: (u64, u64) = (LEASE_WAIT_MS.0 * 1000, LEASE_WAIT_MS.1 * 1000);
/// Of a value whose size is not recorded; see [`call::content`].
const USUAL_BYTES: u64 = 500;
/// Of a list of products from the sample.
const PRODUCTS_BYTES: u64 = 4_500;
/// What a copy weighs in L1 beyond its bytes.
const ENTRY_BYTES: u64 = 260;
/// What a body is does not matter here, only that there is one.
const BODY: Bytes = Bytes::from_static(b"{}");

/// Who asks the stores, from where, and since when.
#[derive(Clone, Copy)]
struct Asker {
    slot: u32,
    way: Way,
    gateway: Option<usize>,
    began_us: u64,
}

pub(super) struct Walk<'a> {
    traffic: &'a Traffic,
    setup: &'a Setup,
    plan: &'a Plan,
    /// Of each request, and how many reads each slot has: where L1 knows them.
    foreseen: Option<(Vec<Foreseen>, Vec<u32>)>,
    /// For how many copies an isolate has room.
    l1_entries: u32,
    dice: Dice,
    pub observed: Observed,
    /// Of the request that is walked: by its isolate, and by its gateway.
    subrequests: [u64; 2],
    cpu_us: [u64; 2],
    isolates: Vec<Isolate>,
    stored: Vec<Stored>,
    /// Loads of gateways, by thing.
    flights: Vec<Option<Loaded>>,
    /// Of gateways, by thing: see [`Walk::mark`].
    marks: Vec<u64>,
    /// Of Valkey, and of PostgreSQL.
    pub counters: [Counter; 2],
    gateways: Vec<Gateway>,
    outages: Outages,
    /// Of each isolate, or else of each gateway.
    gates: Vec<Gates>,
    truth: Truth,
}

/// What came of a request.
struct Outcome {
    done_us: u64,
    tier: Option<Tier>,
    status: u16,
    /// Of a read: what it showed.
    turn: Option<u64>,
}

impl<'a> Walk<'a> {
    /// # Errors
    /// A histogram cannot be made.
    pub fn new(traffic: &'a Traffic, setup: &'a Setup, plan: &'a Plan) -> Result<Self> {
        let mut stored = vec![Stored::default(); plan.things as usize];
        let first = call::first_effects(traffic);
        for (step, request) in plan.steps.iter().zip(&traffic.requests) {
            let stored = &mut stored[step.thing as usize];
            let was_there = || first.get(&request.thing()) != Some(&Effect::Write);
            if !stored.is_known() {
                stored.write(if is_list(request.operation.kind()) || was_there() {
                    Version::FIRST
                } else {
                    Version::ABSENT
                });
            }
        }
        let isolates = plan.slots.iter().zip(&plan.things_of_slot);
        let isolates = isolates.map(|(slot, things)| Isolate::at(slot.0, *things));
        let gates = |count| (0..count).map(|_| Gates::of(&setup.settings)).collect();
        let mut observed = Observed::new()?;
        observed.needs = Needs::of(setup.model.limits);
        Ok(Self {
            traffic,
            setup,
            plan,
            foreseen: (setup.l1 == Policy::Clairvoyant).then(|| plan.foreseen(traffic)),
            l1_entries: l1_entries(traffic, setup),
            dice: Dice::seeded(setup.seed),
            observed,
            subrequests: [0; 2],
            cpu_us: [0; 2],
            isolates: isolates.collect(),
            stored,
            flights: vec![None; plan.things as usize],
            marks: vec![0; plan.things as usize],
            counters: [&setup.model.valkey, &setup.model.postgres].map(Counter::new),
            gateways: (0..setup.gateways()).map(|_| Gateway::new()).collect(),
            gates: match setup.gateways() {
                0 => gates(plan.slots.len()),
                gateways => gates(gateways as usize),
            },
            outages: Outages::of(&setup.faults),
            truth: Truth::default(),
        })
    }

    /// Answers a request that is sent then; when that is done, and the status.
    ///
    /// # Errors
    /// A histogram cannot be made.
    pub fn answer(&mut self, index: usize, sent_us: u64) -> Result<(u64, u16)> {
        let (step, request) = (self.plan.steps[index], &self.traffic.requests[index]);
        (self.subrequests, self.cpu_us) = ([0; 2], [0; 2]);
        let begun_us = self.begin(step, sent_us);
        let effect = request.operation.effect();
        let outcome = match (effect, request.operation.kind()) {
            (Effect::Read, Some(kind)) => {
                let bytes = body_bytes(request);
                let foreseen = self.foreseen.as_ref();
                let foreseen = foreseen.map_or_else(Foreseen::default, |(all, _)| all[index]);
                self.read(step, kind, (bytes, foreseen), begun_us)
            }
            (Effect::None, _) | (_, None) => Outcome {
                done_us: begun_us + self.setup.model.edge.none_us.draw(&mut self.dice),
                tier: None,
                status: 404,
                turn: None,
            },
            (_, Some(kind)) => self.write(step, request, kind, (sent_us, begun_us)),
        };
        self.measure(step, request, (sent_us, &outcome));
        let is_good = (200..300).contains(&outcome.status);
        let judged = outcome
            .turn
            .filter(|_| is_good && !is_list(request.operation.kind()));
        let answer = Answer {
            place: self.place(index),
            sent_us: sent_us - START_US,
            done_us: outcome.done_us - START_US,
            status: Some(outcome.status),
            tier: outcome.tier,
            behind_us: judged.map(|turn| self.truth.behind_us(request.thing(), turn, sent_us)),
        };
        if effect == Effect::Read {
            let isolate = self.isolates[step.slot as usize].number;
            let bytes = request.size_bytes as usize;
            let at_ms = answer.sent_us / 1000;
            self.observed
                .reads
                .push(isolate, request.thing(), at_ms, bytes);
        }
        self.observed.answered(request, &answer)?;
        Ok((outcome.done_us, outcome.status))
    }

    /// What the platform gives a request, and the isolate that has it. Stores are
    /// asked one after the other, so no two connections are opened at once.
    fn measure(&mut self, step: Step, request: &Request, (sent_us, outcome): (u64, &Outcome)) {
        let bytes = body_bytes(request);
        let isolate = &mut self.isolates[step.slot as usize];
        let times_us = (sent_us, outcome.done_us);
        let bodies_bytes = isolate.bodies.hold(times_us, bytes);
        let copies_bytes = isolate.copies_bytes.min(self.setup.settings.l1_bytes);
        let needs = &mut self.observed.needs;
        isolate.is_over = isolate.is_over || needs.held(copies_bytes + bodies_bytes);
        let [own_us, gateways_us] = self.cpu_us;
        needs.computed(0, own_us);
        let gateway = self.gateway(step).filter(|_| gateways_us > 0);
        let needs = &mut self.observed.needs;
        if let Some(gateway) = gateway {
            needs.computed(0, gateways_us);
            needs.held(self.gateways[gateway].bodies.hold(times_us, bytes));
        }
        // An isolate behind a gateway only asks that.
        let calls = u64::from(!self.gateways.is_empty());
        for (subrequests, calls) in self.subrequests.into_iter().zip([calls, 0]) {
            needs.asked(subrequests, subrequests.saturating_sub(calls).min(1));
        }
    }

    /// Whoever asks computes for so long, from then on; when that is done, at a gateway.
    fn compute(&mut self, asker: Asker, at_us: u64, us: u64) -> u64 {
        self.cpu_us[usize::from(asker.gateway.is_some())] += us;
        match asker.gateway {
            Some(gateway) => self.gateways[gateway].workers.done_us(at_us, us),
            None => {
                self.isolates[asker.slot as usize].take(at_us, us);
                at_us
            }
        }
    }

    /// The isolate takes the request; when it has done what each one costs.
    fn begin(&mut self, step: Step, sent_us: u64) -> u64 {
        let (isolates, edge) = (&self.setup.model.isolates, &self.setup.model.edge);
        let isolate = &mut self.isolates[step.slot as usize];
        let busy_us = edge.busy.request_us;
        // On the way.
        let floor_us = edge.floor_us.draw(&mut self.dice);
        let mut come_us = sent_us + floor_us.saturating_sub(busy_us);
        if isolate.life == 0
            || isolate.is_over
            || sent_us >= isolate.asked_us + isolates.idle_ms * 1000
            || sent_us >= isolate.began_us + isolates.life_ms * 1000
        {
            self.observed.births += 1;
            isolate.begin(self.observed.births, sent_us);
            if self.gateways.is_empty() {
                self.gates[step.slot as usize] = Gates::of(&self.setup.settings);
            }
            let entries = self.l1_entries;
            isolate.l1 = match &self.foreseen {
                Some((_, reads)) => {
                    let reads = reads[step.slot as usize] as usize;
                    Some(L1::Clairvoyant(Foresight::new(entries, reads)))
                }
                None => {
                    let things = isolate.held.len() as u32;
                    self.setup.l1.cache(entries, things).map(L1::Cache)
                }
            };
            come_us += edge.start_us.draw(&mut self.dice);
        }
        isolate.asked_us = sent_us;
        self.cpu_us[0] = busy_us;
        isolate.take_request(come_us, busy_us)
    }

    fn held(&mut self, step: Step) -> &mut Held {
        let isolate = &mut self.isolates[step.slot as usize];
        let held = &mut isolate.held[step.local as usize];
        if held.life != isolate.life {
            *held = Held {
                life: isolate.life,
                ..Held::default()
            };
        }
        held
    }

    fn read(
        &mut self,
        step: Step,
        kind: Kind,
        (bytes, foreseen): (u64, Foreseen),
        now_us: u64,
    ) -> Outcome {
        let now_ms = now_us / 1000;
        let held = self.held(step);
        if let Some(Flight {
            loaded,
            is_overtaken,
        }) = held.flight
            && loaded.done_us <= now_us
        {
            held.flight = None;
            if !is_overtaken && loaded.tier.is_ok() && !loaded.is_stale {
                held.copy = Some(loaded.kept);
            }
        }
        let isolate = &mut self.isolates[step.slot as usize];
        let stays = |l1: &mut L1| l1.access(step.local, foreseen);
        let stays = isolate.l1.as_mut().is_none_or(stays);
        let held = &mut isolate.held[step.local as usize];
        if !stays {
            held.copy = None;
        }
        let (copy, flight) = (held.copy, held.flight);
        if let Some(copy) = copy.filter(|copy| now_ms < copy.fresh_until_ms) {
            if now_ms >= copy.refresh_at_ms && flight.is_none() {
                self.lead(step, kind, bytes, now_us);
            }
            let l1_us = self.setup.model.edge.l1_us.draw(&mut self.dice);
            return self.found(Ok(Tier::L1), copy.version, now_us + l1_us);
        }
        // Another's load, and when one sees that it has ended.
        let (loaded, seen_us) = match flight {
            Some(flight) => (flight.loaded, looked_us(now_us, flight.loaded.done_us)),
            None => {
                let loaded = self.lead(step, kind, bytes, now_us);
                (loaded, loaded.done_us)
            }
        };
        let edge = &self.setup.model.edge;
        let (tier, version, times) = match (loaded.tier, copy) {
            // The truth cannot be asked.
            (Err(_), Some(copy)) if seen_us / 1000 < copy.stale_until_ms => {
                (Ok(Tier::L1), copy.version, &edge.l1_us)
            }
            (Ok(Tier::L3), _) => (loaded.tier, loaded.kept.version, &edge.l3_us),
            (Ok(_), _) => (loaded.tier, loaded.kept.version, &edge.l2_us),
            (Err(_), _) => (loaded.tier, loaded.kept.version, &edge.none_us),
        };
        let work_us = times.draw(&mut self.dice);
        self.found(tier, version, seen_us + work_us)
    }

    fn found(&self, tier: Result<Tier, u16>, version: Version, done_us: u64) -> Outcome {
        Outcome {
            done_us,
            tier: tier.ok(),
            status: match tier {
                Err(status) => status,
                Ok(_) if version.is_there => 200,
                Ok(_) => 404,
            },
            turn: Some(version.turn),
        }
    }

    /// Loads, so that others can wait for it.
    fn lead(&mut self, step: Step, kind: Kind, bytes: u64, now_us: u64) -> Loaded {
        let loaded = self.load(step, kind, now_us);
        let isolate = &mut self.isolates[step.slot as usize];
        let held = &mut isolate.held[step.local as usize];
        held.flight = Some(Flight {
            loaded,
            is_overtaken: false,
        });
        if held.weight_bytes == 0 && loaded.tier.is_ok() {
            let bytes = if loaded.kept.version.is_there {
                bytes
            } else {
                0
            };
            held.weight_bytes = (ENTRY_BYTES + bytes) as u32;
            isolate.copies_bytes += u64::from(held.weight_bytes);
        }
        loaded
    }

    // ------------------------------------------------------------ below L1

    /// Where a request is answered.
    pub fn place(&self, index: usize) -> usize {
        self.isolates[self.plan.steps[index].slot as usize].place
    }

    fn way(&self, step: Step) -> Way {
        let place = self.isolates[step.slot as usize].place;
        self.setup.model.places[place].way
    }

    fn gateway(&self, step: Step) -> Option<usize> {
        let count = self.gateways.len();
        // Any assignment that spreads them: the edge hashes the path.
        (count > 0).then(|| ((step.thing as usize).wrapping_mul(0x9E37_79B1) >> 16) % count)
    }

    /// The isolate asks the stores, or calls the gateway that does.
    fn asker(&mut self, step: Step, now_us: u64) -> Asker {
        let way = self.way(step);
        let own = Asker {
            slot: step.slot,
            way,
            gateway: None,
            began_us: now_us,
        };
        let Some(gateway) = self.gateway(step) else {
            return own;
        };
        self.subrequests[0] += 1;
        let request_us = self.setup.model.edge.busy.request_us;
        self.compute(own, now_us, request_us);
        let there = Asker {
            way: self.setup.model.gateway_way,
            gateway: Some(gateway),
            ..own
        };
        let there_us = now_us + way.draw(&mut self.dice);
        Asker {
            began_us: self.compute(there, there_us, request_us),
            ..there
        }
    }

    fn load(&mut self, step: Step, kind: Kind, now_us: u64) -> Loaded {
        let way = self.way(step);
        let asker = self.asker(step, now_us);
        if asker.gateway.is_none() {
            return self.load_below(step, kind, asker, (now_us, 0));
        }
        let there_us = asker.began_us;
        let thing = step.thing as usize;
        let floor_us = self.held(step).mark_us;
        let loaded = match self.flights[thing] {
            // Another's may know of less.
            Some(flight) if flight.done_us > there_us && floor_us == 0 => Loaded {
                done_us: looked_us(there_us, flight.done_us),
                ..flight
            },
            _ => {
                let loaded = self.load_below(step, kind, asker, (there_us, floor_us));
                self.flights[thing] = Some(loaded);
                loaded
            }
        };
        if loaded.mark_us > 0 {
            self.held(step).mark_us = loaded.mark_us;
        }
        // What the gateway says of it counts from the moment at which it was asked.
        let age_us = loaded.done_us.saturating_sub(loaded.read_us);
        let left_ms = |until_ms: u64| until_ms.saturating_sub(loaded.done_us / 1000);
        let ttl_ms = left_ms(loaded.kept.fresh_until_ms);
        let stale_ms = left_ms(loaded.kept.stale_until_ms);
        let (now_ms, part) = (now_us / 1000, self.between(REFRESH_FROM));
        Loaded {
            done_us: loaded.done_us + way.draw(&mut self.dice),
            read_us: now_us.saturating_sub(age_us),
            kept: Kept {
                refresh_at_ms: now_ms + ttl_ms * part / 100,
                fresh_until_ms: now_ms + ttl_ms,
                stale_until_ms: now_ms + stale_ms,
                ..loaded.kept
            },
            ..loaded
        }
    }

    /// Of L2 by its own clock, what a copy of a thing must not be older than here:
    /// something younger was answered or written that L2 may not know.
    fn mark(&mut self, step: Step, asker: Asker) -> &mut u64 {
        match asker.gateway {
            Some(_) => &mut self.marks[step.thing as usize],
            None => &mut self.held(step).mark_us,
        }
    }

    /// With nothing that L2 read by `floor_us`.
    fn load_below(
        &mut self,
        step: Step,
        kind: Kind,
        asker: Asker,
        (now_us, floor_us): (u64, u64),
    ) -> Loaded {
        if kind.is_of_rows() {
            self.load_rows(step, kind, asker, (now_us, floor_us))
        } else {
            self.load_value(step, kind, asker, now_us)
        }
    }

    fn load_value(&mut self, step: Step, kind: Kind, asker: Asker, now_us: u64) -> Loaded {
        let exchange = self.ask_valkey(asker, now_us, 2);
        let Some(arrived_us) = exchange.arrived_us.filter(|_| exchange.is_answered) else {
            return self.failed(exchange.done_us, exchange.status());
        };
        let version = self.stored[step.thing as usize].read(arrived_us);
        // By the isolate's clock, as it was told for how long it lives.
        let gone_us = match version.until_us {
            NEVER_US => NEVER_US,
            until_us => now_us + (until_us - arrived_us),
        };
        let kept = self.kept(kind, version, (now_us, now_us, gone_us));
        Loaded {
            done_us: exchange.done_us,
            tier: Ok(Tier::L2),
            is_stale: false,
            kept,
            read_us: now_us,
            mark_us: 0,
        }
    }

    fn load_rows(
        &mut self,
        step: Step,
        kind: Kind,
        asker: Asker,
        (now_us, mut floor_us): (u64, u64),
    ) -> Loaded {
        let policy = *self.setup.settings.policies.of(kind);
        let thing = step.thing as usize;
        let mut asked_us = now_us;
        let mut waits_left = edge::limits::LEASE_WAITS_MAX;
        let (mut old, mut heard_us) = (None, NEVER_US);
        let (leased_us, replied_us) = loop {
            if !policy.allows_copies() {
                break (None, now_us);
            }
            let refresh_us = policy.max_age_ms * self.between(REFRESH_FROM) * 10;
            let exchange = self.ask_for_copies(asker, asked_us);
            let Some(arrived_us) = exchange.arrived_us.filter(|_| exchange.is_answered) else {
                break (None, exchange.done_us);
            };
            let mark_us = self.mark(step, asker);
            let after_us = floor_us.max(*mark_us);
            *mark_us = arrived_us.min(*mark_us);
            (heard_us, floor_us) = (arrived_us, arrived_us.min(floor_us));
            let (copy, lease) = self.stored[thing].read_copy(arrived_us, refresh_us, after_us);
            let leased_us = (lease == Lease::Granted).then_some(arrived_us);
            if let Some(copy) = copy {
                let age_us = arrived_us - copy.read_us;
                let times_us = (asked_us.saturating_sub(age_us), asked_us, NEVER_US);
                if age_us < policy.age_ms_max(!copy.version.is_there) * 1000 {
                    if let Some(leased_us) = leased_us {
                        self.refill(step, asker, leased_us, exchange.done_us);
                    }
                    let kept = self.kept(kind, copy.version, times_us);
                    return Loaded {
                        done_us: exchange.done_us,
                        tier: Ok(Tier::L2),
                        is_stale: false,
                        kept,
                        read_us: times_us.0,
                        mark_us: 0,
                    };
                }
                old = Some((copy.version, times_us));
            }
            if lease != Lease::NotGranted || waits_left == 0 {
                break (leased_us, exchange.done_us);
            }
            waits_left -= 1;
            asked_us = exchange.done_us + self.between(LEASE_WAIT_US);
        };
        match self.query(step, asker, replied_us) {
            // The truth cannot be asked.
            Err((done_us, status)) => {
                let old = old.map(|(version, times_us)| self.kept(kind, version, times_us));
                match old {
                    Some(kept) if replied_us / 1000 < kept.stale_until_ms => Loaded {
                        done_us,
                        tier: Ok(Tier::L2),
                        is_stale: true,
                        kept,
                        read_us: replied_us,
                        mark_us: 0,
                    },
                    _ => self.failed(done_us, status),
                }
            }
            Ok((version, done_us)) => {
                if let Some(leased_us) = leased_us {
                    self.fill(step, asker, leased_us, version, done_us);
                }
                *self.mark(step, asker) = match leased_us {
                    Some(_) => 0,
                    None => NEVER_US,
                };
                let kept = self.kept(kind, version, (replied_us, replied_us, NEVER_US));
                Loaded {
                    done_us,
                    tier: Ok(Tier::L3),
                    is_stale: false,
                    kept,
                    read_us: replied_us,
                    // What this load fills was read at that very time.
                    mark_us: leased_us.map_or(heard_us, |leased_us| leased_us - 1),
                }
            }
        }
    }

    /// After the answer, for the copy that is getting old.
    fn refill(&mut self, step: Step, asker: Asker, leased_us: u64, now_us: u64) {
        let asker = Asker {
            began_us: now_us,
            ..asker
        };
        if let Ok((version, done_us)) = self.query(step, asker, now_us) {
            self.fill(step, asker, leased_us, version, done_us);
        }
    }

    fn fill(&mut self, step: Step, asker: Asker, leased_us: u64, version: Version, now_us: u64) {
        let exchange = self.ask_valkey(asker, now_us, 1);
        if let Some(arrived_us) = exchange.arrived_us {
            self.stored[step.thing as usize].fill(leased_us, arrived_us, version);
        }
    }

    /// What PostgreSQL has, and when that is known.
    ///
    /// # Errors
    /// It does not say in time: when that is clear, and the status.
    fn query(
        &mut self,
        step: Step,
        asker: Asker,
        now_us: u64,
    ) -> Result<(Version, u64), (u64, u16)> {
        let room = self.room_at_postgres(asker, now_us);
        let room = room.map_err(|failed_us| (failed_us, UNAVAILABLE))?;
        let exchange = self.ask_postgres(asker, room);
        match exchange.arrived_us {
            Some(arrived_us) if exchange.is_answered => {
                let version = self.stored[step.thing as usize].read(arrived_us);
                Ok((version, exchange.done_us))
            }
            _ => Err((exchange.done_us, exchange.status())),
        }
    }

    fn failed(&self, done_us: u64, status: u16) -> Loaded {
        Loaded {
            done_us,
            tier: Err(status),
            is_stale: false,
            kept: Kept {
                refresh_at_ms: 0,
                fresh_until_ms: 0,
                stale_until_ms: 0,
                version: Version::ABSENT,
            },
            read_us: 0,
            mark_us: 0,
        }
    }

    /// Read, asked for and gone at these times.
    fn kept(
        &mut self,
        kind: Kind,
        version: Version,
        (read_us, asked_us, gone_us): (u64, u64, u64),
    ) -> Kept {
        let policy = self.setup.settings.policies.of(kind);
        let times = Times {
            read_at_ms: read_us / 1000,
            asked_at_ms: asked_us / 1000,
            gone_at_ms: gone_us / 1000,
        };
        let draws = Draws {
            jitter: between(&mut self.dice, (0, JITTER)),
            refresh: between(&mut self.dice, REFRESH_FROM),
        };
        let entry = Entry::new(policy, version.is_there.then_some(BODY), times, draws);
        Kept {
            refresh_at_ms: entry.refresh_at_ms,
            fresh_until_ms: entry.fresh_until_ms,
            stale_until_ms: entry.stale_until_ms,
            version,
        }
    }

    // ------------------------------------------------------------ writes

    fn write(
        &mut self,
        step: Step,
        request: &Request,
        kind: Kind,
        (sent_us, now_us): (u64, u64),
    ) -> Outcome {
        let effect = request.operation.effect();
        let turn = match effect {
            Effect::Write => self.truth.begin(request.thing(), sent_us),
            _ => 0,
        };
        let way = self.way(step);
        let asker = self.asker(step, now_us);
        let there_us = asker.began_us;
        let (mut done_us, status) = if kind.is_of_rows() {
            self.write_rows(step, asker, turn, there_us)
        } else {
            self.write_value(step, effect, kind, asker, turn, there_us)
        };
        if asker.gateway.is_some() {
            done_us += way.draw(&mut self.dice);
        }
        // The isolate forgets it, and no load under way brings it back.
        self.held(step);
        let isolate = &mut self.isolates[step.slot as usize];
        let held = &mut isolate.held[step.local as usize];
        held.copy = None;
        isolate.copies_bytes -= u64::from(std::mem::take(&mut held.weight_bytes));
        if let Some(flight) = &mut held.flight {
            flight.is_overtaken = true;
        }
        done_us += self.setup.model.edge.write_us.draw(&mut self.dice);
        if turn > 0 && status == 200 {
            self.truth.acknowledge(request.thing(), turn, done_us);
        }
        Outcome {
            done_us,
            tier: None,
            status,
            turn: None,
        }
    }

    fn write_value(
        &mut self,
        step: Step,
        effect: Effect,
        kind: Kind,
        asker: Asker,
        turn: u64,
        now_us: u64,
    ) -> (u64, u16) {
        let exchange = self.ask_valkey(asker, now_us, 1);
        let Some(at_us) = exchange.arrived_us else {
            return (exchange.done_us, exchange.status());
        };
        let ttl_s = self.setup.settings.policies.of(kind).ttl_s;
        let until_us = ttl_s.map_or(NEVER_US, |ttl_s| at_us + ttl_s * 1_000_000);
        let stored = &mut self.stored[step.thing as usize];
        let before = stored.read(at_us);
        let (version, status) = match effect {
            Effect::Touch if !before.is_there => (before, 404),
            Effect::Touch => {
                let version = Version {
                    at_us,
                    until_us,
                    ..before
                };
                (version, 200)
            }
            Effect::Delete => {
                let version = Version {
                    at_us,
                    ..Version::ABSENT
                };
                (version, 200)
            }
            _ => {
                let version = Version {
                    at_us,
                    turn,
                    until_us,
                    is_there: true,
                };
                (version, 200)
            }
        };
        stored.write(version);
        match exchange.is_answered {
            true => (exchange.done_us, status),
            false => (exchange.done_us, exchange.status()),
        }
    }

    fn write_rows(&mut self, step: Step, asker: Asker, turn: u64, now_us: u64) -> (u64, u16) {
        // A write that is turned away makes no copy old.
        let mut room = match self.room_at_postgres(asker, now_us) {
            Ok(room) => room,
            Err(failed_us) => return (failed_us, UNAVAILABLE),
        };
        let block = self.ask_for_copies(asker, room.from_us);
        room.from_us = block.done_us;
        let exchange = self.ask_postgres(asker, room);
        let released_us = self.release(asker, exchange.done_us);
        if released_us.is_none() {
            *self.mark(step, asker) = NEVER_US;
        }
        // Nor does an isolate know when the gateway told L2.
        if asker.gateway.is_some() {
            self.held(step).mark_us = NEVER_US;
        }
        let stored = &mut self.stored[step.thing as usize];
        if let Some(blocked_us) = block.arrived_us.or(released_us) {
            stored.invalidate(blocked_us, released_us.unwrap_or(blocked_us));
        }
        let Some(at_us) = exchange.arrived_us else {
            return (exchange.done_us, exchange.status());
        };
        stored.write(Version {
            at_us,
            turn,
            ..Version::FIRST
        });
        match exchange.is_answered {
            true => (exchange.done_us, 200),
            false => (exchange.done_us, exchange.status()),
        }
    }

    /// Tells L2 of a write, as often as the platform gives time for; when L2 hears.
    fn release(&mut self, asker: Asker, mut now_us: u64) -> Option<u64> {
        for pause_ms in INVALIDATION_PAUSES_MS {
            let exchange = self.insist(asker, now_us + pause_ms * 1000);
            if exchange.is_answered {
                return exchange.arrived_us;
            }
            now_us = exchange.done_us;
        }
        None
    }

    // ------------------------------------------------------------ faults

    /// The breakers that are in this one's way.
    fn gates(&mut self, asker: Asker) -> &mut Gates {
        &mut self.gates[asker.gateway.unwrap_or(asker.slot as usize)]
    }

    /// Isolates, gateways and copies of rows are gone; the next request begins anew.
    pub fn go_cold(&mut self) {
        for isolate in &mut self.isolates {
            isolate.is_over = true;
        }
        self.stored.iter_mut().for_each(Stored::forget_copies);
        self.flights.fill(None);
        self.marks.fill(0);
        self.gateways.fill_with(Gateway::new);
        let settings = &self.setup.settings;
        self.gates.fill_with(|| Gates::of(settings));
    }

    fn between(&mut self, range: (u64, u64)) -> u64 {
        between(&mut self.dice, range)
    }
}

/// Rows that make a list: it may be empty and is never absent, and shows no turn.
fn is_list(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Products | Kind::Orders | Kind::Returns))
}

fn body_bytes(request: &Request) -> u64 {
    match (request.size_bytes, request.operation.kind()) {
        (0, Some(Kind::Products)) => PRODUCTS_BYTES,
        (0, _) => USUAL_BYTES,
        (bytes, _) => u64::from(bytes),
    }
}

/// As many as weigh as much as L1 may, on average.
fn l1_entries(traffic: &Traffic, setup: &Setup) -> u32 {
    let bytes = traffic.requests.iter().map(body_bytes);
    let mean_bytes = bytes.sum::<u64>() / traffic.requests.len().max(1) as u64;
    let entries = setup.settings.l1_bytes / (mean_bytes + ENTRY_BYTES);
    let most = setup.l1_entries.map_or(entries, u64::from);
    u32::try_from(most).unwrap_or(u32::MAX - 1)
}

fn between(dice: &mut Dice, (from, to): (u64, u64)) -> u64 {
    from + dice.roll() % (to - from + 1)
}

/// When one who looks again and again sees that something has ended.
fn looked_us(now_us: u64, done_us: u64) -> u64 {
    let (mut at_us, mut pause_us) = (now_us, LOOK_US.0);
    while at_us < done_us {
        at_us += pause_us;
        pause_us = (pause_us * 2).min(LOOK_US.1);
    }
    at_us
}
