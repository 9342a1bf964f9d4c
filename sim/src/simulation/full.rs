//! The full level: the edge itself, in many isolates on a virtual network, with
//! stores in memory.
//!
//! Knows where a request goes and what the edge's own work costs. What happens
//! to it there is the edge's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use edge::isolate::Isolate;
use edge::policy::Kind;
use edge::route::{self, answer};
use indicatif::ProgressBar;
use rustc_hash::FxBuildHasher;

use super::faults::{Fault, What};
use super::observed::{Answer, Observed};
use super::routing::{self, Slot};
use super::setup::{Mode, Setup};
use super::truth::{Truth, Turn, shown};
use crate::backends::postgres::Order;
use crate::cache_status::{Tier, tier};
use crate::model::Times;
use crate::operation::{Effect, Operation};
use crate::platform::{Needs, Thread};
use crate::report::Report;
use crate::sample;
use crate::tally::is_error;
use crate::traffic::call::{self, Call};
use crate::traffic::visits::{Visit, visits};
use crate::traffic::{Request, Traffic};
use crate::virtual_network::{Capacity, Gateway, Place, Stores, To, Weather};
use crate::virtual_time::World;

/// When the world begins, in ms since 1970: any time that is not 0.
const START_MS: u64 = 1_700_000_000_000;
/// Texts of `Cache-Status` whose meaning is remembered.
const TIERS_MAX: usize = 4096;
/// The keys of the edge's own in Valkey, which are copies and leases.
const OWN: &[u8] = edge::tiers::OWN_PREFIX.as_bytes();

/// Replays all of it. Must run on a thread without an event loop of tokio's,
/// which would hold back futures that it does not know.
///
/// # Errors
/// The traffic is too long to be judged.
pub fn replay(traffic: &Arc<Traffic>, setup: &Setup, bar: &ProgressBar) -> Result<Report> {
    let first_ms = traffic.requests.first().map_or(0, |first| first.time_ms);
    let world = World::new(setup.seed, START_MS);
    let observed = Rc::new(RefCell::new(Observed::new()?));
    let stores = Rc::new(Stores::new(Box::new(counting(&observed))));
    let model = &setup.model;
    stores
        .valkey_capacity
        .replace(Some(Capacity::new(model.valkey.clone())));
    stores
        .postgres_capacity
        .replace(Some(Capacity::new(model.postgres.clone())));
    furnish(&stores, traffic);
    let replay = Rc::new(Replay {
        world: world.clone(),
        stores: Rc::clone(&stores),
        gateways: Rc::default(),
        nodes: RefCell::default(),
        traffic: Arc::clone(traffic),
        visits: visits(&traffic.requests),
        setup: setup.clone(),
        first_ms,
        observed: Rc::clone(&observed),
        needs: Rc::new(RefCell::new(Needs::of(model.limits))),
        tiers: RefCell::default(),
        truth: RefCell::default(),
        failure: RefCell::default(),
        bar: bar.clone(),
    });
    replay.start_gateways();
    for fault in &setup.faults {
        replay.schedule(*fault);
    }
    world.spawn(clients(Rc::clone(&replay)));
    world.run_until(u64::MAX);
    if let Some(error) = replay.failure.take() {
        return Err(error);
    }
    let needs = *replay.needs.borrow();
    drop(replay);
    // Its watcher counts as well.
    *stores.watch.borrow_mut() = Box::new(|_, _| {});
    let mut observed = observed.replace(Observed::new()?);
    observed.needs = needs;
    let connections = |capacity: &RefCell<Option<Capacity>>| {
        let capacity = capacity.borrow();
        capacity
            .as_ref()
            .map(|capacity| capacity.connections)
            .unwrap_or_default()
    };
    let valkey = connections(&stores.valkey_capacity);
    let postgres = connections(&stores.postgres_capacity);
    observed.report(traffic, setup, valkey, postgres)
}

/// What reaches the stores, when it does.
fn counting(observed: &Rc<RefCell<Observed>>) -> impl FnMut(&Stores, u64) + 'static {
    let observed = Rc::clone(observed);
    let (mut commands, mut statements) = (0, 0);
    move |stores, now_us| {
        let all = (
            stores.valkey.borrow().commands(),
            stores.postgres.borrow().statements(),
        );
        let more = (all.0 - commands, all.1 - statements);
        (commands, statements) = all;
        observed
            .borrow_mut()
            .reached(now_us - START_MS * 1000, more.0, more.1);
    }
}

/// The sample's products, and all that the traffic takes to be there.
fn furnish(stores: &Stores, traffic: &Traffic) {
    let mut valkey = stores.valkey.borrow_mut();
    let mut postgres = stores.postgres.borrow_mut();
    for product in sample::products() {
        postgres.put_product(product, START_MS);
    }
    for thing in call::stored(traffic) {
        if let Some(key) = thing.valkey_key() {
            valkey.set(&key, thing.content.as_bytes(), None, START_MS);
            continue;
        }
        if matches!(thing.kind, Kind::Profile | Kind::Orders | Kind::Returns) {
            if postgres.profile(thing.key).is_none() {
                postgres.put_user(thing.key, START_MS);
            }
            if thing.kind == Kind::Profile {
                postgres.set_preferences(thing.key, &thing.content, START_MS);
            }
        }
    }
    // What is returned was ordered.
    let user_id = sample::user_id(0_u64);
    postgres.put_user(&user_id, START_MS);
    postgres.insert_order(Order {
        order_id: sample::order_id(0),
        user_id,
        items: "[]".to_owned(),
        total_amount: "19.99".to_owned(),
        status: None,
        created_at_ms: START_MS,
        updated_at_ms: START_MS,
    });
    // Who orders for the first time is somebody.
    for request in &traffic.requests {
        let key = traffic.key(request);
        let writes = matches!(
            request.operation,
            Operation::CreateOrder | Operation::CreateReturn
        );
        if writes && postgres.profile(key).is_none() {
            postgres.put_user(key, START_MS);
        }
    }
}

struct Replay {
    world: World,
    stores: Rc<Stores>,
    gateways: Rc<RefCell<Vec<Gateway>>>,
    /// By place and number.
    nodes: RefCell<HashMap<Slot, Rc<Node>, FxBuildHasher>>,
    traffic: Arc<Traffic>,
    visits: Vec<Visit>,
    setup: Setup,
    first_ms: u64,
    observed: Rc<RefCell<Observed>>,
    needs: Rc<RefCell<Needs>>,
    /// What `Cache-Status` says, by its text.
    tiers: RefCell<HashMap<String, Option<Tier>, FxBuildHasher>>,
    truth: RefCell<Truth>,
    /// What went wrong with the counting.
    failure: RefCell<Option<anyhow::Error>>,
    bar: ProgressBar,
}

/// One isolate.
struct Node {
    place: Place,
    /// In the model.
    place_number: usize,
    isolate: Rc<Isolate>,
    /// Of all that ever began.
    number: u64,
    began_ms: u64,
    asked_ms: Cell<u64>,
    /// It held more than it may, and takes no request any more.
    is_over: Cell<bool>,
}

/// Sends every visit when its time has come.
async fn clients(replay: Rc<Replay>) {
    for visit in 0..replay.visits.len() {
        if let Some(first) = replay.requests_of(visit).next() {
            replay.until(first.time_ms).await;
        }
        let here = Rc::clone(&replay);
        replay.world.spawn(async move { here.follow(visit).await });
    }
}

impl Replay {
    /// Since the first request, in µs.
    fn now_us(&self) -> u64 {
        self.world.now_us() - START_MS * 1000
    }

    /// Waits for a time of the traffic.
    async fn until(&self, time_ms: u64) {
        let at_us = (time_ms - self.first_ms) * 1000;
        let now_us = self.now_us();
        if at_us > now_us {
            self.world.sleep_us(at_us - now_us).await;
        }
    }

    fn requests_of(&self, visit: usize) -> impl Iterator<Item = &Request> {
        let visits = self.visits.get(visit).into_iter();
        visits.flat_map(|visit| visit.of(&self.traffic.requests))
    }

    /// A visit, from its first request to its last answer.
    async fn follow(&self, visit: usize) {
        let began_us = self.now_us();
        let mut waited_us = 0;
        let (mut place, mut has_failed) = (0, false);
        for request in self.requests_of(visit) {
            // The time that its client took is not the edge's.
            let done_us = self.now_us();
            self.until(request.time_ms).await;
            waited_us += self.now_us() - done_us;
            let status;
            (place, status) = self.send(request).await;
            has_failed |= is_error(Some(status));
        }
        if self.visits.get(visit).is_some_and(|visit| visit.is_flow) {
            let took_us = self.now_us() - began_us - waited_us;
            self.note(|observed| observed.flow(place, took_us, has_failed));
        }
    }

    /// Where it was answered, and the status.
    async fn send(&self, request: &Request) -> (usize, u16) {
        let sent_us = self.now_us();
        let effect = request.operation.effect();
        let turn = if effect == Effect::Write {
            self.truth.borrow_mut().begin(request.thing(), sent_us)
        } else {
            0
        };
        let (node, is_new) = self.node_of(request);
        let edge = &self.setup.model.edge;
        if is_new {
            let start_us = self.world.draw(|dice| edge.start_us.draw(dice));
            let (_, begun_us) = node.place.compute(|_| start_us);
            self.world.sleep_until_us(begun_us).await;
        }
        // On the way.
        self.pause(&edge.floor_us, edge.busy.request_us).await;
        let asked = asked(&Call::of(&self.traffic, request, turn));
        let _asked = node.place.hold(asked.body.as_ref().map_or(0, Bytes::len));
        let place = node.place.for_request();
        let (_, free_us) = place.compute(|busy| busy.request_us);
        let response = answer(place, Rc::clone(&node.isolate), asked).await;
        self.world.sleep_until_us(free_us).await;
        let _answered = node.place.hold(response.body.len());
        let tier = self.tier(header(&response, "Cache-Status"));
        let more_us = match tier {
            _ if matches!(effect, Effect::Write | Effect::Touch | Effect::Delete) => &edge.write_us,
            Some(Tier::L1) => &edge.l1_us,
            Some(Tier::L3) if request.operation.has_l3() => &edge.l3_us,
            Some(_) => &edge.l2_us,
            None => &edge.none_us,
        };
        self.measure(&node);
        self.pause(more_us, 0).await;
        self.judge(request, &node, (sent_us, turn), tier, &response);
        (node.place_number, response.status)
    }

    /// Few headers differ, and most that do in the seconds of a TTL.
    fn tier(&self, header: &str) -> Option<Tier> {
        let mut known = self.tiers.borrow_mut();
        if let Some(tier) = known.get(header) {
            return *tier;
        }
        if known.len() >= TIERS_MAX {
            known.clear();
        }
        let tier = tier(header);
        known.insert(header.to_owned(), tier);
        tier
    }

    /// What the platform gives an answer, and the isolate that has it now.
    fn measure(&self, node: &Node) {
        let bytes = node.isolate.memory.borrow().weight() + node.place.bodies_bytes.get();
        if !node.is_over.get() {
            node.is_over.set(self.needs.borrow_mut().held(bytes));
        }
    }

    fn judge(
        &self,
        request: &Request,
        node: &Node,
        (sent_us, turn): (u64, Turn),
        tier: Option<Tier>,
        response: &route::Response,
    ) {
        let done_us = self.now_us();
        let thing = request.thing();
        let is_good = (200..300).contains(&response.status);
        if turn > 0 && is_good {
            self.truth.borrow_mut().acknowledge(thing, turn, done_us);
        }
        let is_read = request.operation.effect() == Effect::Read;
        let seen = shown(&response.body).filter(|_| is_read && is_good);
        let answer = Answer {
            place: node.place_number,
            sent_us,
            done_us,
            status: Some(response.status),
            tier,
            behind_us: seen.map(|turn| self.truth.borrow().behind_us(thing, turn, sent_us)),
        };
        self.note(|observed| {
            if is_read {
                let at_ms = sent_us / 1000;
                observed
                    .reads
                    .push(node.number, thing, at_ms, response.body.len());
            }
            observed.answered(request, &answer)
        });
        self.bar.inc(1);
    }

    fn note(&self, count: impl FnOnce(&mut Observed) -> Result<()>) {
        if let Err(error) = count(&mut self.observed.borrow_mut()) {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }

    /// Waits for as long as is drawn, without what is waited for elsewhere.
    async fn pause(&self, times: &Times, without_us: u64) {
        let us = self.world.draw(|dice| times.draw(dice));
        let until_us = self.world.now_us() + us.saturating_sub(without_us);
        self.world.sleep_until_us(until_us).await;
    }

    /// The isolate that a request comes to; true: it begins with it.
    fn node_of(&self, request: &Request) -> (Rc<Node>, bool) {
        let slot = routing::slot(&self.setup.model, &self.traffic, request);
        let isolates = &self.setup.model.isolates;
        let now_ms = self.world.now_ms();
        let mut nodes = self.nodes.borrow_mut();
        let living = nodes.get(&slot).filter(|node| {
            !node.is_over.get()
                && now_ms < node.asked_ms.get() + isolates.idle_ms
                && now_ms < node.began_ms + isolates.life_ms
        });
        if let Some(node) = living {
            node.asked_ms.set(now_ms);
            return (Rc::clone(node), false);
        }
        let mut observed = self.observed.borrow_mut();
        observed.births += 1;
        let node = Rc::new(Node {
            place: self.place(slot.0),
            place_number: slot.0,
            isolate: Rc::new(Isolate::new(self.setup.settings.clone())),
            number: observed.births,
            began_ms: now_ms,
            asked_ms: Cell::new(now_ms),
            is_over: Cell::default(),
        });
        nodes.insert(slot, Rc::clone(&node));
        (node, true)
    }

    fn place(&self, number: usize) -> Place {
        let model = &self.setup.model;
        let way = model
            .places
            .get(number)
            .map(|place| place.way)
            .unwrap_or_default();
        let mut place = Place::new(&self.world, &self.stores);
        place.gateways = Rc::clone(&self.gateways);
        place.needs = Some(Rc::clone(&self.needs));
        place.thread = Some(Rc::new(Thread::new(model.edge.busy)));
        place.way = way;
        place.way_to_gateways = way;
        place.way_to_hyperdrive =
            (self.setup.mode == Mode::Hyperdrive).then_some(model.hyperdrive_way);
        place
    }

    fn start_gateways(&self) {
        let gateway = |_| {
            let mut place = Place::new(&self.world, &self.stores);
            place.kept = Some(Rc::default());
            place.needs = Some(Rc::clone(&self.needs));
            place.thread = Some(Rc::new(Thread::new(self.setup.model.edge.busy)));
            place.way = self.setup.model.gateway_way;
            Gateway {
                place,
                isolate: Rc::new(Isolate::of_gateway(&self.setup.settings)),
            }
        };
        self.gateways
            .replace((0..self.setup.gateways()).map(gateway).collect());
    }

    fn schedule(self: &Rc<Self>, fault: Fault) {
        let replay = Rc::clone(self);
        let from_us = START_MS * 1000 + fault.from_ms * 1000;
        self.world.at(from_us, move || replay.begin(fault));
    }

    fn begin(self: &Rc<Self>, fault: Fault) {
        let to = match fault.what {
            What::Cold => return self.go_cold(),
            What::Valkey => To::Valkey,
            What::Postgres => To::Postgres,
        };
        self.refuse(fault.what, to);
        self.stores.break_all(to);
        let replay = Rc::clone(self);
        let until_us = self.world.now_us() + fault.for_ms * 1000;
        self.world
            .at(until_us, move || replay.refuse(fault.what, to));
    }

    /// As long as one of its faults lasts: they may overlap.
    fn refuse(&self, what: What, to: To) {
        let now_ms = self.world.now_ms() - START_MS;
        let mut faults = self.setup.faults.iter();
        let weather = match to {
            To::Valkey => &self.stores.to_valkey,
            To::Postgres => &self.stores.to_postgres,
        };
        weather.set(Weather {
            is_refused: faults.any(|fault| fault.what == what && fault.lasts_at(now_ms)),
            ..weather.get()
        });
    }

    fn go_cold(&self) {
        self.nodes.borrow_mut().clear();
        self.start_gateways();
        let now_ms = self.world.now_ms();
        let mut valkey = self.stores.valkey.borrow_mut();
        for key in valkey.keys(now_ms) {
            if let Ok(key) = std::str::from_utf8(&key)
                && key.as_bytes().starts_with(OWN)
            {
                valkey.delete(key, now_ms);
            }
        }
    }
}

fn asked(call: &Call) -> route::Request {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    route::Request {
        method: call.method.name().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: call.body.as_ref().map(|_| "application/json".to_owned()),
        body: Some(
            call.body
                .as_ref()
                .map_or_else(Bytes::new, |body| Bytes::from(body.clone())),
        ),
        ..route::Request::default()
    }
}

fn header<'a>(response: &'a route::Response, name: &str) -> &'a str {
    let found = response.headers.iter().find(|(header, _)| *header == name);
    found.map_or("", |(_, value)| value)
}
