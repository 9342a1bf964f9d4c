//! Many isolates, all faults, and a judge: the promises of the README, tried
//! again and again in virtual time.
//!
//! The edge is the real one, from its routes down to the bytes on its
//! connections; stores, network and clocks are the simulation's. A seed decides
//! everything, so that a run that finds something can be repeated.
//!
//! - [`oracle`] knows what the truth was at each moment, and judges each answer.
//! - [`traffic`] is what the clients do.
//! - [`campaign`] runs many seeds.
//! - [`shrink`] makes a run that failed smaller.
//! - Here is the weather: what breaks, and when.

// Nothing here comes from outside, and a simulation that is wrong must stop.
#![allow(clippy::indexing_slicing)]

pub mod campaign;
pub mod oracle;
pub mod shrink;
pub mod traffic;

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use edge::isolate::Isolate;
use edge::mutation::{self, Mutation};
use edge::route::changes;
use edge::settings::Settings;

use crate::backends::valkey::Failure;
use crate::model::Way;
use crate::virtual_network::{Gateway, POSTGRES, Place, Stores, VALKEY, Weather};
use crate::virtual_time::World;
use oracle::{Oracle, Terms, Thing, Violation};

/// When the world begins, in ms since 1970: any time that is not 0.
const START_MS: u64 = 1_700_000_000_000;
const GATEWAYS: usize = 2;
const WAY_TO_GATEWAYS: Way = Way::of(0, 2_000);
/// How long clients send requests, in virtual ms: some times the longest bound.
const TRAFFIC_MS: u64 = 100_000;
/// How long the rest may take after that: a Worker's 30 s after its answer.
const REST_MS: u64 = 40_000;
/// The mean pause of an isolate's clients between two requests, in µs.
const PAUSE_US: u64 = 20_000;

/// What a run is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The stores are there: races, cancelled requests, programs behind the edge.
    Calm,
    /// Everything that can break does.
    Stormy,
}

/// As many as a run can still be read of, and for as long as its judge remembers all.
pub const ISOLATES_MAX: i64 = 100;
pub const TRAFFIC_MS_MAX: u64 = 24 * 3_600_000;

/// How much there is in a run. A run that fails is understood from a smaller one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    pub isolates: usize,
    /// What is read and written.
    pub things: Vec<Thing>,
    /// For how long clients send requests.
    pub traffic_ms: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            isolates: 3,
            things: Thing::all().collect(),
            traffic_ms: TRAFFIC_MS,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    pub seed: u64,
    pub mood: Mood,
    pub requests: u64,
    /// Answers by class: 2xx, 4xx, 5xx, and those that nobody waited for.
    pub answers: [u64; 4],
    /// The same seed and the same code give the same number.
    pub digest: u64,
    pub violations: Vec<Violation>,
    /// What happened, when it was asked for.
    pub trace: Vec<String>,
}

/// One isolate, which can crash and come back as another one.
pub struct Node {
    pub place: Place,
    pub isolate: Rc<Isolate>,
    /// Counts its lives.
    pub life: usize,
}

/// A world under way.
pub struct Chaos {
    pub world: World,
    pub stores: Rc<Stores>,
    pub nodes: RefCell<Vec<Node>>,
    /// Empty: each isolate asks the stores itself.
    pub gateways: Rc<RefCell<Vec<Gateway>>>,
    terms: Terms,
    /// Where changes behind the edge are watched for, if they are.
    watcher: RefCell<Option<Place>>,
    pub oracle: Rc<RefCell<Oracle>>,
    pub mood: Mood,
    pub size: Size,
    pub requests: Cell<u64>,
    pub answers: Cell<[u64; 4]>,
    digest: RefCell<DefaultHasher>,
    trace: RefCell<Option<Vec<String>>>,
}

impl Chaos {
    /// Something happened: part of the digest, and of the trace.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let line = format!("{} {}", self.world.now_us() - START_MS * 1000, what());
        line.hash(&mut *self.digest.borrow_mut());
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            trace.push(line);
        }
    }

    fn node(&self, life: usize) -> Node {
        let mut place = Place::new(&self.world, &self.stores);
        place.gateways = Rc::clone(&self.gateways);
        place.way_to_gateways = WAY_TO_GATEWAYS;
        let is_direct = self.gateways.borrow().is_empty();
        let backend = if is_direct { "direct" } else { "gateway" };
        Node {
            place,
            isolate: Rc::new(Isolate::new(self.settings(backend))),
            life,
        }
    }

    /// A place that keeps connections.
    fn keeping(&self) -> Place {
        let mut place = Place::new(&self.world, &self.stores);
        place.kept = Some(Rc::default());
        place
    }

    /// Begins to watch for changes behind the edge.
    fn watch(&self) -> Place {
        let place = self.keeping();
        let isolate = Rc::new(Isolate::new(self.settings("direct")));
        place.spawn(changes::watch(place.clone(), isolate, u64::MAX));
        place
    }

    fn gateway(&self) -> Gateway {
        Gateway {
            place: self.keeping(),
            isolate: Rc::new(Isolate::of_gateway(&self.settings("gateway"))),
        }
    }

    fn settings(&self, backend: &str) -> Settings {
        let no_copies = Some("max-age=0, stale-if-error=0").filter(|_| !self.terms.has_copies);
        Settings::read(&|name| match name {
            "DATABASE_URL" => Some(format!("postgres://edge@{POSTGRES}/shop?sslmode=disable")),
            "VALKEY_URL" => Some(format!("valkey://{VALKEY}")),
            "BACKEND" => Some(backend.to_owned()),
            "GATEWAY_SHARDS" => Some(GATEWAYS.to_string()),
            "POLICY_ORDERS" => no_copies.map(str::to_owned),
            _ => None,
        })
    }
}

/// Runs a seed to its end.
pub fn run(
    seed: u64,
    mood: Mood,
    size: &Size,
    mutation: Option<Mutation>,
    with_trace: bool,
) -> Run {
    mutation::choose(mutation);
    let world = World::new(seed, START_MS);
    // Every other seed has gateways, every other one of each a watch, and every fourth
    // of each of these no copies of orders.
    let (has_gateways, terms) = (
        seed % 2 == 1,
        Terms {
            is_watched: seed % 4 >= 2,
            has_copies: seed % 16 < 12,
        },
    );
    let oracle = Rc::new(RefCell::new(Oracle::new(mood, terms)));
    let stores = Rc::new(Stores::new(Box::new({
        let oracle = Rc::clone(&oracle);
        move |stores, now_us| oracle.borrow_mut().look(stores, now_us)
    })));
    for thing in Thing::all() {
        if let Thing::Orders(user) = thing {
            let name = Thing::Orders(user).id();
            stores.postgres.borrow_mut().put_user(&name, START_MS);
        }
    }
    oracle.borrow_mut().look(&stores, world.now_us());
    let chaos = Rc::new(Chaos {
        world: world.clone(),
        stores,
        nodes: RefCell::default(),
        gateways: Rc::default(),
        terms,
        watcher: RefCell::default(),
        oracle,
        mood,
        size: size.clone(),
        requests: Cell::new(0),
        answers: Cell::default(),
        digest: RefCell::default(),
        trace: RefCell::new(with_trace.then(Vec::new)),
    });
    if has_gateways {
        let gateways = (0..GATEWAYS).map(|_| chaos.gateway()).collect();
        chaos.gateways.replace(gateways);
    }
    if terms.is_watched {
        let id = Thing::OF_OTHERS.id();
        chaos.stores.postgres.borrow_mut().put_user(&id, START_MS);
        chaos
            .oracle
            .borrow_mut()
            .look_anew(&chaos.stores, START_MS * 1000);
        chaos.stores.postgres.borrow_mut().note_changes();
        chaos.watcher.replace(Some(chaos.watch()));
    }
    for life in 0..size.isolates {
        let node = chaos.node(life);
        chaos.nodes.borrow_mut().push(node);
        world.spawn(traffic::clients(Rc::clone(&chaos), life));
    }
    world.spawn(weather(Rc::clone(&chaos)));
    let end_us = (START_MS + size.traffic_ms + REST_MS) * 1000;
    world.run_until(end_us);
    chaos.oracle.borrow_mut().close(&chaos.stores);
    mutation::choose(None);
    let violations = std::mem::take(&mut chaos.oracle.borrow_mut().violations);
    Run {
        seed,
        mood,
        requests: chaos.requests.get(),
        answers: chaos.answers.get(),
        digest: chaos.digest.borrow().finish(),
        violations,
        trace: chaos.trace.take().unwrap_or_default(),
    }
}

impl Chaos {
    pub fn is_over(&self) -> bool {
        self.world.now_ms() >= START_MS + self.size.traffic_ms
    }

    /// Whether changes behind the edge are watched for.
    fn is_watched(&self) -> bool {
        self.watcher.borrow().is_some()
    }

    /// Any of those that are read and written.
    fn thing(&self) -> Thing {
        let things = &self.size.things;
        things[self.world.below(things.len() as u64) as usize]
    }

    /// A mean pause, not a regular one.
    pub async fn pause(&self) {
        self.world.sleep_us(self.world.below(2 * PAUSE_US)).await;
    }
}

/// What breaks, and when. Also the programs behind the edge.
async fn weather(chaos: Rc<Chaos>) {
    let world = &chaos.world;
    while !chaos.is_over() {
        let base = |cuts| Weather {
            latency_us: 200 + world.below(5_000),
            jitter_us: world.below(3_000),
            cuts,
            delays: if world.happens(300) { 100 } else { 0 },
            delay_us: 40_000,
            ..Weather::default()
        };
        let stores = &chaos.stores;
        if chaos.mood == Mood::Calm {
            stores.to_valkey.set(base(0));
            stores.to_postgres.set(base(0));
        } else {
            let broken = |mut weather: Weather| {
                match world.below(8) {
                    0 => weather.is_refused = true,
                    1 => weather.is_silent = true,
                    2 => (weather.delays, weather.delay_us) = (500, 2_000_000),
                    3 => weather.cuts = 700,
                    _ => {}
                }
                weather
            };
            stores.to_valkey.set(broken(base(30)));
            stores.to_postgres.set(broken(base(30)));
            let failure = match world.below(12) {
                0 => Some(Failure::Loading),
                1 => Some(Failure::ReadOnly),
                2 => Some(Failure::OutOfMemory),
                _ => None,
            };
            stores.valkey.borrow_mut().fail(failure);
            if world.happens(200) {
                crash(&chaos);
            }
            if world.happens(200) {
                crash_gateway(&chaos);
            }
            if world.happens(200) {
                crash_watcher(&chaos);
            }
            if world.happens(200) {
                let nodes = chaos.nodes.borrow();
                let place = world.below(nodes.len() as u64) as usize;
                nodes[place].place.skew_ms.set(match world.below(4) {
                    0 => world.below(7_200_000) as i64 - 3_600_000,
                    _ => world.below(400) as i64 - 200,
                });
            }
        }
        if world.happens(300) {
            traffic::behind_the_edge(&chaos);
        }
        chaos.note(|| {
            format!(
                "weather {:?} {:?}",
                stores.to_valkey.get(),
                stores.to_postgres.get()
            )
        });
        world.sleep_us(200_000 + world.below(4_000_000)).await;
    }
    // What is still under way ends in good weather.
    let fine = Weather {
        latency_us: 500,
        ..Weather::default()
    };
    chaos.stores.to_valkey.set(fine);
    chaos.stores.to_postgres.set(fine);
    chaos.stores.valkey.borrow_mut().fail(None);
}

fn crash_gateway(chaos: &Chaos) {
    let mut gateways = chaos.gateways.borrow_mut();
    let count = gateways.len() as u64;
    if count > 0 {
        let place = chaos.world.below(count) as usize;
        gateways[place].place.crash();
        gateways[place] = chaos.gateway();
        chaos.note(|| format!("gateway {place} crashes"));
    }
}

fn crash_watcher(chaos: &Chaos) {
    if let Some(watcher) = &mut *chaos.watcher.borrow_mut() {
        watcher.crash();
        *watcher = chaos.watch();
        chaos.note(|| "the watch for changes crashes".to_owned());
    }
}

fn crash(chaos: &Chaos) {
    let mut nodes = chaos.nodes.borrow_mut();
    let place = chaos.world.below(nodes.len() as u64) as usize;
    let life = nodes.iter().map(|node| node.life).max().unwrap_or(0) + 1;
    nodes[place].place.crash();
    nodes[place] = chaos.node(life);
    chaos.note(|| format!("isolate {place} crashes"));
}
