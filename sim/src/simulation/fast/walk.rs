//! The way of one request through the tiers.
//!
//! Follows [`edge::tiers`], with its policies and its arithmetic of freshness.
//! Times are µs; those of entries are ms, as the edge's clocks show them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::Result;
use bytes::Bytes;
use edge::policy::{JITTER, Kind, Policy, REFRESH_FROM};
use edge::tiers::LOOK_MS;
use edge::tiers::entry::{Draws, Entry, Times};
use edge::tiers::rows::LEASE_WAIT_MS;

use super::super::observed::{Answer, Observed};
use super::super::setup::{Mode, Setup};
use super::super::truth::Truth;
use super::START_US;
use super::counter::{Counter, KEPT_US, Links};
use super::plan::{Plan, Step};
use super::stored::{Lease, NEVER_US, Stored, Version};
use crate::cache_status::Tier;
use crate::caches::Cache;
use crate::dice::Dice;
use crate::model::{self, Way};
use crate::operation::Effect;
use crate::platform::Needs;
use crate::traffic::{Request, Traffic, call};

const LOOK_US: (u64, u64) = (LOOK_MS.0 * 1000, LOOK_MS.1 * 1000);
const LEASE_WAIT_US: (u64, u64) = (LEASE_WAIT_MS.0 * 1000, LEASE_WAIT_MS.1 * 1000);
/// Of a value whose size is not recorded; see [`call::content`].
const USUAL_BYTES: u64 = 500;
/// What a copy weighs in L1 beyond its bytes.
const ENTRY_BYTES: u64 = 260;
/// What a body is does not matter here, only that there is one.
const BODY: Bytes = Bytes::from_static(b"{}");

/// What an isolate has of one thing.
#[derive(Clone, Default)]
struct Held {
    /// The isolate's life in which it got it.
    life: u32,
    copy: Option<Kept>,
    flight: Option<Flight>,
    /// What it weighs in L1; 0: it has not been there.
    weight_bytes: u32,
}

#[derive(Clone, Copy)]
struct Kept {
    refresh_at_ms: u64,
    fresh_until_ms: u64,
    version: Version,
}

/// A load under way.
#[derive(Clone, Copy)]
struct Flight {
    loaded: Loaded,
    /// A write has overtaken it: it is not kept.
    is_overtaken: bool,
}

/// What a load found, and when.
#[derive(Clone, Copy)]
struct Loaded {
    done_us: u64,
    /// None: it failed.
    tier: Option<Tier>,
    kept: Kept,
    /// When the truth was read, by the clock of who loaded.
    read_us: u64,
}

struct Isolate {
    place: usize,
    life: u32,
    number: u64,
    began_us: u64,
    asked_us: u64,
    busy_until_us: u64,
    held: Vec<Held>,
    /// What decides which copies stay.
    l1: Option<Box<dyn Cache>>,
    /// What its copies would weigh if all stayed.
    copies_bytes: u64,
    /// Bodies of the requests in it, by when these are done.
    bodies: BinaryHeap<Reverse<(u64, u64)>>,
    bodies_bytes: u64,
    /// It held more than it may.
    is_over: bool,
}

impl Isolate {
    /// A request that is sent and done at these times brings bodies; all there are.
    fn hold(&mut self, (sent_us, done_us): (u64, u64), bytes: u64) -> u64 {
        while let Some(&Reverse((end_us, bytes))) = self.bodies.peek()
            && end_us <= sent_us
        {
            self.bodies.pop();
            self.bodies_bytes -= bytes;
        }
        self.bodies.push(Reverse((done_us, bytes)));
        self.bodies_bytes += bytes;
        self.bodies_bytes
    }
}

/// Who asks the stores, from where, and since when.
#[derive(Clone, Copy)]
struct Asker {
    way: Way,
    gateway: Option<usize>,
    began_us: u64,
}

/// An exchange with a store.
struct Exchange {
    arrived_us: u64,
    done_us: u64,
}

pub(super) struct Walk<'a> {
    traffic: &'a Traffic,
    setup: &'a Setup,
    plan: &'a Plan,
    /// For how many copies an isolate has room.
    l1_entries: u32,
    dice: Dice,
    pub observed: Observed,
    /// Of the request that is walked: by its isolate, and by its gateway.
    subrequests: [u64; 2],
    isolates: Vec<Isolate>,
    stored: Vec<Stored>,
    /// Loads of gateways, by thing.
    flights: Vec<Option<Loaded>>,
    pub valkey: Counter,
    pub postgres: Counter,
    /// Of each gateway, to Valkey and to PostgreSQL.
    links: Vec<[Links; 2]>,
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
        let isolates = isolates.map(|(slot, things)| Isolate {
            place: slot.0,
            life: 0,
            number: 0,
            began_us: 0,
            asked_us: 0,
            busy_until_us: 0,
            held: vec![Held::default(); *things as usize],
            l1: None,
            copies_bytes: 0,
            bodies: BinaryHeap::new(),
            bodies_bytes: 0,
            is_over: false,
        });
        let mut observed = Observed::new()?;
        observed.needs = Needs::of(setup.model.limits);
        Ok(Self {
            traffic,
            setup,
            plan,
            l1_entries: l1_entries(traffic, setup),
            dice: Dice::seeded(setup.seed),
            observed,
            subrequests: [0; 2],
            isolates: isolates.collect(),
            stored,
            flights: vec![None; plan.things as usize],
            valkey: Counter::new(&setup.model.valkey),
            postgres: Counter::new(&setup.model.postgres),
            links: (0..setup.gateways()).map(|_| Default::default()).collect(),
            truth: Truth::default(),
        })
    }

    /// Answers a request that is sent then; when that is done.
    ///
    /// # Errors
    /// A histogram cannot be made.
    pub fn answer(&mut self, index: usize, sent_us: u64) -> Result<u64> {
        let (step, request) = (self.plan.steps[index], &self.traffic.requests[index]);
        let begun_us = self.begin(step, sent_us);
        self.subrequests = [0; 2];
        let effect = request.operation.effect();
        let outcome = match (effect, request.operation.kind()) {
            (Effect::Read, Some(kind)) => {
                let bytes = body_bytes(request);
                self.read(step, kind, bytes, begun_us)
            },
            (Effect::None, _) | (_, None) => Outcome {
                done_us: begun_us,
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
        Ok(outcome.done_us)
    }

    /// What the platform gives a request, and the isolate that has it. Stores are
    /// asked one after the other, so no two connections are opened at once.
    fn measure(&mut self, step: Step, request: &Request, (sent_us, outcome): (u64, &Outcome)) {
        let edge = &self.setup.model.edge;
        let more_us = match (request.operation.effect(), outcome.tier) {
            (Effect::Write | Effect::Touch | Effect::Delete, _) => edge.write_us.least(),
            (_, Some(Tier::L1)) => edge.l1_us.least(),
            (_, Some(Tier::L2)) => edge.l2_us.least(),
            (_, Some(Tier::L3)) => edge.l3_us.least(),
            (_, None) => 0,
        };
        let bytes = body_bytes(request);
        let isolate = &mut self.isolates[step.slot as usize];
        let bodies_bytes = isolate.hold((sent_us, outcome.done_us), bytes);
        let copies_bytes = isolate.copies_bytes.min(self.setup.settings.l1_bytes);
        let needs = &mut self.observed.needs;
        needs.computed(edge.floor_us.least() + more_us);
        isolate.is_over = isolate.is_over || needs.held(copies_bytes + bodies_bytes);
        // An isolate behind a gateway only asks that.
        let calls = u64::from(!self.links.is_empty());
        for (subrequests, calls) in self.subrequests.into_iter().zip([calls, 0]) {
            needs.asked(subrequests, subrequests.saturating_sub(calls).min(1));
        }
    }

    /// The isolate takes the request; when it has done what each one costs.
    fn begin(&mut self, step: Step, sent_us: u64) -> u64 {
        let (isolates, edge) = (&self.setup.model.isolates, &self.setup.model.edge);
        let isolate = &mut self.isolates[step.slot as usize];
        let (mut busy_us, mut work_us) = (edge.floor_us.least(), 0);
        if isolate.life == 0
            || isolate.is_over
            || sent_us >= isolate.asked_us + isolates.idle_ms * 1000
            || sent_us >= isolate.began_us + isolates.life_ms * 1000
        {
            self.observed.births += 1;
            isolate.life += 1;
            isolate.number = self.observed.births;
            isolate.began_us = sent_us;
            isolate.copies_bytes = 0;
            isolate.bodies.clear();
            isolate.bodies_bytes = 0;
            isolate.is_over = false;
            isolate.l1 = self
                .setup
                .l1
                .cache(self.l1_entries, isolate.held.len() as u32);
            busy_us += edge.start_us.least();
            work_us += edge.start_us.draw(&mut self.dice);
        }
        isolate.asked_us = sent_us;
        work_us += edge.floor_us.draw(&mut self.dice);
        isolate.busy_until_us = isolate.busy_until_us.max(sent_us) + busy_us;
        isolate.busy_until_us + (work_us - busy_us)
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

    fn read(&mut self, step: Step, kind: Kind, bytes: u64, now_us: u64) -> Outcome {
        let now_ms = now_us / 1000;
        let held = self.held(step);
        if let Some(Flight {
            loaded,
            is_overtaken,
        }) = held.flight
            && loaded.done_us <= now_us
        {
            held.flight = None;
            if !is_overtaken && loaded.tier.is_some() {
                held.copy = Some(loaded.kept);
            }
        }
        let isolate = &mut self.isolates[step.slot as usize];
        let stays = |l1: &mut Box<dyn Cache>| l1.access(step.local);
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
            let l1_us = &self.setup.model.edge.l1_us;
            let work_us = l1_us.draw(&mut self.dice);
            let isolate = &mut self.isolates[step.slot as usize];
            isolate.busy_until_us += l1_us.least();
            return self.found(Some(Tier::L1), copy.version, now_us + work_us);
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
        let work_us = match loaded.tier {
            Some(Tier::L3) => edge.l3_us.draw(&mut self.dice),
            Some(_) => edge.l2_us.draw(&mut self.dice),
            None => 0,
        };
        self.found(loaded.tier, loaded.kept.version, seen_us + work_us)
    }

    fn found(&self, tier: Option<Tier>, version: Version, done_us: u64) -> Outcome {
        Outcome {
            done_us,
            tier,
            status: match tier {
                None => 504,
                Some(_) if version.is_there => 200,
                Some(_) => 404,
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
        if held.weight_bytes == 0 && loaded.tier.is_some() {
            let bytes = if loaded.kept.version.is_there { bytes } else { 0 };
            held.weight_bytes = (ENTRY_BYTES + bytes) as u32;
            isolate.copies_bytes += u64::from(held.weight_bytes);
        }
        loaded
    }

    // ------------------------------------------------------------ below L1

    fn way(&self, step: Step) -> Way {
        let place = self.isolates[step.slot as usize].place;
        self.setup.model.places[place].way
    }

    fn gateway(&self, step: Step) -> Option<usize> {
        let count = self.links.len();
        // Any assignment that spreads them: the edge hashes the path.
        (count > 0).then(|| ((step.thing as usize).wrapping_mul(0x9E37_79B1) >> 16) % count)
    }

    fn load(&mut self, step: Step, kind: Kind, now_us: u64) -> Loaded {
        let way = self.way(step);
        let Some(gateway) = self.gateway(step) else {
            let asker = Asker {
                way,
                gateway: None,
                began_us: now_us,
            };
            return self.load_below(step, kind, asker, now_us);
        };
        self.subrequests[0] += 1;
        let there_us = now_us + way.draw(&mut self.dice);
        let thing = step.thing as usize;
        let loaded = match self.flights[thing] {
            Some(flight) if flight.done_us > there_us => Loaded {
                done_us: looked_us(there_us, flight.done_us),
                ..flight
            },
            _ => {
                let asker = Asker {
                    way: self.setup.model.gateway_way,
                    gateway: Some(gateway),
                    began_us: there_us,
                };
                let loaded = self.load_below(step, kind, asker, there_us);
                self.flights[thing] = Some(loaded);
                loaded
            }
        };
        // What the gateway says of it counts from the moment at which it was asked.
        let age_us = loaded.done_us.saturating_sub(loaded.read_us);
        let ttl_ms = loaded
            .kept
            .fresh_until_ms
            .saturating_sub(loaded.done_us / 1000);
        let (now_ms, part) = (now_us / 1000, self.between(REFRESH_FROM));
        Loaded {
            done_us: loaded.done_us + way.draw(&mut self.dice),
            read_us: now_us.saturating_sub(age_us),
            kept: Kept {
                refresh_at_ms: now_ms + ttl_ms * part / 100,
                fresh_until_ms: now_ms + ttl_ms,
                ..loaded.kept
            },
            ..loaded
        }
    }

    fn load_below(&mut self, step: Step, kind: Kind, asker: Asker, now_us: u64) -> Loaded {
        if kind.is_of_rows() {
            self.load_rows(step, kind, asker, now_us)
        } else {
            self.load_value(step, kind, asker, now_us)
        }
    }

    fn load_value(&mut self, step: Step, kind: Kind, asker: Asker, now_us: u64) -> Loaded {
        let deadline_us = self.setup.settings.valkey_deadline_ms * 1000;
        let exchange = self.ask_valkey(asker, now_us, 2);
        if exchange.done_us > now_us + deadline_us {
            return self.failed(now_us + deadline_us);
        }
        let version = self.stored[step.thing as usize].read(exchange.arrived_us);
        // By the isolate's clock, as it was told for how long it lives.
        let gone_us = match version.until_us {
            NEVER_US => NEVER_US,
            until_us => now_us + (until_us - exchange.arrived_us),
        };
        let kept = self.kept(kind, version, (now_us, now_us, gone_us));
        Loaded {
            done_us: exchange.done_us,
            tier: Some(Tier::L2),
            kept,
            read_us: now_us,
        }
    }

    fn load_rows(&mut self, step: Step, kind: Kind, asker: Asker, now_us: u64) -> Loaded {
        let policy = *self.setup.settings.policies.of(kind);
        let thing = step.thing as usize;
        let mut asked_us = now_us;
        let mut waits_left = edge::limits::LEASE_WAITS_MAX;
        let (leased_us, replied_us) = loop {
            let deadline_us = asked_us + self.copy_deadline_us();
            let refresh_us = policy.max_age_ms * self.between(REFRESH_FROM) * 10;
            let exchange = self.ask_valkey(asker, asked_us, 1);
            if exchange.done_us > deadline_us {
                break (None, deadline_us);
            }
            let (copy, lease) = self.stored[thing].read_copy(exchange.arrived_us, refresh_us);
            let leased_us = (lease == Lease::Granted).then_some(exchange.arrived_us);
            if let Some(copy) = copy {
                let age_us = exchange.arrived_us - copy.read_us;
                if age_us < policy.age_ms_max(!copy.version.is_there) * 1000 {
                    if let Some(leased_us) = leased_us {
                        self.refill(step, asker, leased_us, exchange.done_us);
                    }
                    let read_us = asked_us.saturating_sub(age_us);
                    let kept = self.kept(kind, copy.version, (read_us, asked_us, NEVER_US));
                    return Loaded {
                        done_us: exchange.done_us,
                        tier: Some(Tier::L2),
                        kept,
                        read_us,
                    };
                }
            }
            if lease != Lease::NotGranted || waits_left == 0 {
                break (leased_us, exchange.done_us);
            }
            waits_left -= 1;
            asked_us = exchange.done_us + self.between(LEASE_WAIT_US);
        };
        match self.query(step, asker, replied_us) {
            None => self.failed(asker.began_us + self.setup.settings.postgres_deadline_ms * 1000),
            Some((version, done_us)) => {
                if let Some(leased_us) = leased_us {
                    self.fill(step, asker, leased_us, version, done_us);
                }
                let kept = self.kept(kind, version, (replied_us, replied_us, NEVER_US));
                Loaded {
                    done_us,
                    tier: Some(Tier::L3),
                    kept,
                    read_us: replied_us,
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
        if let Some((version, done_us)) = self.query(step, asker, now_us) {
            self.fill(step, asker, leased_us, version, done_us);
        }
    }

    fn fill(&mut self, step: Step, asker: Asker, leased_us: u64, version: Version, now_us: u64) {
        let exchange = self.ask_valkey(asker, now_us, 1);
        self.stored[step.thing as usize].fill(leased_us, exchange.arrived_us, version);
    }

    /// What PostgreSQL has, and when that is known; None: not in time.
    fn query(&mut self, step: Step, asker: Asker, now_us: u64) -> Option<(Version, u64)> {
        let exchange = self.ask_postgres(asker, now_us);
        let deadline_us = asker.began_us + self.setup.settings.postgres_deadline_ms * 1000;
        let version = self.stored[step.thing as usize].read(exchange.arrived_us);
        (exchange.done_us <= deadline_us).then_some((version, exchange.done_us))
    }

    fn failed(&self, done_us: u64) -> Loaded {
        Loaded {
            done_us,
            tier: None,
            kept: Kept {
                refresh_at_ms: 0,
                fresh_until_ms: 0,
                version: Version::ABSENT,
            },
            read_us: 0,
        }
    }

    /// Read, asked for and gone at these times.
    fn kept(
        &mut self,
        kind: Kind,
        version: Version,
        (read_us, asked_us, gone_us): (u64, u64, u64),
    ) -> Kept {
        let policy: &Policy = self.setup.settings.policies.of(kind);
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
        let gateway = self.gateway(step);
        self.subrequests[0] += u64::from(gateway.is_some());
        let (asker_way, there_us) = match gateway {
            Some(_) => (
                self.setup.model.gateway_way,
                now_us + way.draw(&mut self.dice),
            ),
            None => (way, now_us),
        };
        let asker = Asker {
            way: asker_way,
            gateway,
            began_us: there_us,
        };
        let (mut done_us, status) = if kind.is_of_rows() {
            self.write_rows(step, asker, turn, there_us)
        } else {
            self.write_value(step, effect, kind, asker, turn, there_us)
        };
        if gateway.is_some() {
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
        let deadline_us = now_us + self.setup.settings.valkey_deadline_ms * 1000;
        let exchange = self.ask_valkey(asker, now_us, 1);
        let at_us = exchange.arrived_us;
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
        if exchange.done_us > deadline_us {
            return (deadline_us, 504);
        }
        (exchange.done_us, status)
    }

    fn write_rows(&mut self, step: Step, asker: Asker, turn: u64, now_us: u64) -> (u64, u16) {
        let block = self.ask_valkey(asker, now_us, 1);
        let told_us = block.done_us.min(now_us + self.copy_deadline_us());
        let deadline_us = now_us + self.setup.settings.postgres_deadline_ms * 1000;
        let exchange = self.ask_postgres(asker, told_us);
        let release = self.ask_valkey(asker, exchange.done_us, 1);
        let stored = &mut self.stored[step.thing as usize];
        stored.invalidate(block.arrived_us, release.arrived_us);
        stored.write(Version {
            at_us: exchange.arrived_us,
            turn,
            ..Version::FIRST
        });
        if exchange.done_us > deadline_us {
            return (deadline_us, 504);
        }
        (exchange.done_us, 200)
    }

    // ------------------------------------------------------------ the stores

    fn copy_deadline_us(&self) -> u64 {
        let settings = &self.setup.settings;
        let deadline_ms = settings
            .valkey_deadline_ms
            .min(settings.postgres_deadline_ms / 3);
        deadline_ms * 1000
    }

    /// A flight of so many commands.
    fn ask_valkey(&mut self, asker: Asker, now_us: u64, commands: u64) -> Exchange {
        let is_kept = asker
            .gateway
            .is_some_and(|gateway| self.links[gateway][0].take(now_us));
        let dice = &mut self.dice;
        let store = &self.valkey.store;
        let connects = if is_kept {
            0
        } else {
            store.connect_round_trips
        };
        let work_us = store.service_us.draw(dice) + log_in_us(store, is_kept, dice);
        let mut ways_us = 0;
        for _ in 0..connects {
            ways_us += 2 * asker.way.draw(dice);
        }
        let there_us = now_us + ways_us + asker.way.draw(dice);
        let arrived_us = self.valkey.done_us(there_us, work_us);
        let done_us = arrived_us + asker.way.draw(dice);
        // HELLO comes with the first commands.
        self.observed
            .reached(arrived_us - START_US, commands + u64::from(!is_kept), 0);
        self.end(asker, (now_us + ways_us, done_us), is_kept, 0);
        Exchange {
            arrived_us,
            done_us,
        }
    }

    /// One statement.
    fn ask_postgres(&mut self, asker: Asker, now_us: u64) -> Exchange {
        let is_kept = asker
            .gateway
            .is_some_and(|gateway| self.links[gateway][1].take(now_us));
        let dice = &mut self.dice;
        let store = &self.postgres.store;
        // Hyperdrive is near, and goes on to the store itself.
        let is_near = self.setup.mode == Mode::Hyperdrive;
        let (way, beyond) = match is_near {
            true => (self.setup.model.hyperdrive_way, Some(asker.way)),
            false => (asker.way, None),
        };
        let connects = match (is_kept, is_near) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => store.connect_round_trips,
        };
        let work_us = store.service_us.draw(dice) + log_in_us(store, is_kept, dice);
        let mut ways_us = 0;
        for _ in 0..connects {
            ways_us += 2 * way.draw(dice);
        }
        let there_us = now_us + ways_us + way.draw(dice);
        let mut more_us = 0;
        if !is_kept {
            for _ in 0..store.log_in_round_trips {
                more_us += 2 * way.draw(dice);
            }
        }
        if let Some(beyond) = beyond {
            more_us += 2 * beyond.draw(dice);
        }
        let arrived_us = self.postgres.done_us(there_us, work_us) + more_us;
        let done_us = arrived_us + way.draw(dice);
        self.observed.reached(arrived_us - START_US, 0, 1);
        self.end(asker, (now_us + ways_us, done_us), is_kept, 1);
        Exchange {
            arrived_us,
            done_us,
        }
    }

    /// The connection is closed, or kept.
    fn end(&mut self, asker: Asker, (from_us, to_us): (u64, u64), is_kept: bool, store: usize) {
        if let Some(gateway) = asker.gateway {
            self.links[gateway][store].give(to_us);
        }
        if is_kept {
            return;
        }
        self.subrequests[usize::from(asker.gateway.is_some())] += 1;
        let counter = match store {
            0 => &mut self.valkey,
            _ => &mut self.postgres,
        };
        let kept_us = asker.gateway.map_or(0, |_| KEPT_US);
        counter.opened(from_us, to_us + kept_us);
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
    match request.size_bytes {
        0 => USUAL_BYTES,
        bytes => u64::from(bytes),
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

fn log_in_us(store: &model::Store, is_kept: bool, dice: &mut Dice) -> u64 {
    if is_kept {
        0
    } else {
        store.log_in_us.draw(dice)
    }
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
