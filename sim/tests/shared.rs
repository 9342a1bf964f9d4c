//! What requests of one gateway ask of Valkey at the same moment travels
//! together: counted, cancelled, cut and held up over the virtual network.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // A test that is wrong must stop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use edge::isolate::Isolate;
use edge::limits::{SHARED_FLIGHT_LATE_MS, SHARED_FLIGHTS_MAX};
use edge::route::gateway::serve;
use edge::route::{Request, Response};
use edge::settings::Settings;
use sim::virtual_network::{Place, Stores, To, VALKEY, Weather};
use sim::virtual_time::{TaskId, World};

const START_MS: u64 = 1_700_000_000_000;
const ONE_WAY_US: u64 = 10_000;
/// So that no two flights arrive at one moment.
const JITTER_US: u64 = 900;
const TOGETHER: usize = 32;

/// A gateway and a Valkey, 20 ms there and back.
struct There {
    world: World,
    stores: Rc<Stores>,
    place: Place,
    isolate: Rc<Isolate>,
    /// How often commands came to the store: all of a flight come at one moment.
    arrivals: Rc<Cell<usize>>,
}

type Answer = Rc<RefCell<Option<Response>>>;

impl There {
    fn new() -> Self {
        let arrivals = Rc::new(Cell::new(0));
        let (counted, mut last_us) = (Rc::clone(&arrivals), 0);
        let stores = Rc::new(Stores::new(Box::new(move |_, now_us| {
            counted.set(counted.get() + usize::from(now_us != last_us));
            last_us = now_us;
        })));
        stores.to_valkey.set(Weather {
            latency_us: ONE_WAY_US,
            jitter_us: JITTER_US,
            ..Weather::default()
        });
        let world = World::new(7, START_MS);
        let mut place = Place::new(&world, &stores);
        place.kept = Some(Rc::default());
        let settings = Settings::read(&|name| match name {
            "VALKEY_URL" => Some(format!("valkey://{VALKEY}")),
            "BREAKER_FAILURES" => Some("0".to_owned()),
            _ => None,
        });
        let there = Self {
            world,
            stores,
            place,
            isolate: Rc::new(Isolate::of_gateway(&settings)),
            arrivals,
        };
        for n in 0..TOGETHER {
            let value = there.value(n);
            let mut valkey = there.stores.valkey.borrow_mut();
            valkey.set(&format!("k{n}"), value.as_bytes(), None, START_MS);
        }
        there
    }

    /// Each of another length.
    fn value(&self, n: usize) -> String {
        format!("\"{}{n}\"", "x".repeat(n))
    }

    fn ask(&self, request: Request) -> (TaskId, Answer) {
        let answer = Answer::default();
        let (place, isolate, landed) = (
            self.place.clone(),
            Rc::clone(&self.isolate),
            Rc::clone(&answer),
        );
        let id = self.place.spawn(async move {
            landed.replace(Some(serve(place, isolate, request).await));
        });
        (id, answer)
    }

    fn get(&self, n: usize) -> (TaskId, Answer) {
        self.ask(Request {
            method: "GET".to_owned(),
            path: format!("/api/vultr/valkey/cache/k{n}"),
            body: Some(Bytes::new()),
            ..Request::default()
        })
    }

    fn batch(&self, gets: usize) -> Answer {
        let operations: Vec<String> = (0..gets)
            .map(|n| format!(r#"{{"type":"get","key":"k{n}"}}"#))
            .collect();
        let (_, answer) = self.ask(Request {
            method: "POST".to_owned(),
            path: "/api/vultr/valkey/batch".to_owned(),
            content_type: Some("application/json".to_owned()),
            body: Some(format!(r#"{{"operations":[{}]}}"#, operations.join(",")).into()),
            ..Request::default()
        });
        answer
    }

    fn pass_ms(&self, duration_ms: u64) {
        let until_us = self.world.now_us() + duration_ms * 1_000;
        // Time passes although nothing happens.
        self.world.at(until_us, || {});
        self.world.run_until(until_us);
    }

    fn is_right(&self, n: usize, answer: &Answer) {
        let answer = answer.borrow();
        let answer = answer
            .as_ref()
            .unwrap_or_else(|| panic!("k{n} has no answer"));
        assert_eq!(answer.status, 200, "k{n}");
        assert_eq!(answer.body, self.value(n), "k{n}");
    }
}

#[test]
fn requests_that_come_together_share_flights_and_connections() {
    let there = There::new();
    for _ in 0..2 {
        let before = there.arrivals.get();
        let answers: Vec<_> = (0..TOGETHER).map(|n| there.get(n)).collect();
        there.pass_ms(1_000);
        for (n, (_, answer)) in answers.iter().enumerate() {
            there.is_right(n, answer);
        }
        let flights = there.arrivals.get() - before;
        assert!(flights <= 2 * SHARED_FLIGHTS_MAX, "{flights} flights");
    }
    let connections = there.place.kept.as_ref().unwrap().valkey.count();
    assert!(
        connections <= 2 * SHARED_FLIGHTS_MAX,
        "{connections} connections"
    );
}

#[test]
fn one_request_alone_costs_one_round_trip() {
    let there = There::new();
    let (_, first) = there.get(1);
    there.pass_ms(1_000);
    there.is_right(1, &first);
    let (before, began_us) = (there.arrivals.get(), there.world.now_us());
    let (_, second) = there.get(2);
    while second.borrow().is_none() {
        there.pass_ms(1);
    }
    there.is_right(2, &second);
    assert_eq!(there.arrivals.get() - before, 1);
    assert!(there.world.now_us() - began_us <= 2 * (ONE_WAY_US + JITTER_US) + 1_000);
}

#[test]
fn whoever_gave_up_leaves_the_others_their_own_replies() {
    // Before the flight leaves, on the way there, and on the way back.
    for gone_after_ms in [0, 5, 15, 25, 35] {
        let there = There::new();
        let answers: Vec<_> = (0..TOGETHER).map(|n| there.get(n)).collect();
        there.pass_ms(gone_after_ms);
        for (id, _) in answers.iter().step_by(3) {
            there.world.cancel(*id);
        }
        there.pass_ms(1_000);
        for (n, (_, answer)) in answers.iter().enumerate() {
            if n % 3 != 0 {
                there.is_right(n, answer);
            }
        }
    }
}

#[test]
fn when_all_have_given_up_the_next_request_finds_a_way() {
    let there = There::new();
    let answers: Vec<_> = (0..TOGETHER).map(|n| there.get(n)).collect();
    there.pass_ms(5);
    for (id, _) in answers {
        there.world.cancel(id);
    }
    let (_, answer) = there.get(3);
    there.pass_ms(100);
    there.is_right(3, &answer);
}

#[test]
fn a_connection_that_breaks_under_several_costs_none_its_answer() {
    let there = There::new();
    let (_, first) = there.get(0);
    there.pass_ms(1_000);
    there.is_right(0, &first);
    let answers: Vec<_> = (0..TOGETHER).map(|n| there.get(n)).collect();
    there.pass_ms(5);
    there.stores.break_all(To::Valkey);
    there.pass_ms(1_000);
    for (n, (_, answer)) in answers.iter().enumerate() {
        there.is_right(n, answer);
    }
}

#[test]
fn a_large_flight_travels_alone_and_makes_nobody_wait() {
    let there = There::new();
    let batches: Vec<_> = (0..2 * SHARED_FLIGHTS_MAX)
        .map(|_| there.batch(40))
        .collect();
    let (_, answer) = there.get(5);
    // A new connection, and there and back.
    there.pass_ms(2 * (2 * (ONE_WAY_US + JITTER_US)) / 1_000 + 1);
    there.is_right(5, &answer);
    there.pass_ms(1_000);
    for batch in batches {
        assert_eq!(batch.borrow().as_ref().unwrap().status, 200);
    }
}

#[test]
fn flights_that_are_late_make_nobody_wait() {
    let there = There::new();
    let good = there.stores.to_valkey.get();
    there.stores.to_valkey.set(Weather {
        is_silent: true,
        ..good
    });
    let late: Vec<_> = (0..SHARED_FLIGHTS_MAX)
        .map(|n| {
            let answer = there.get(n);
            there.pass_ms(1);
            answer
        })
        .collect();
    there.stores.to_valkey.set(good);
    let (_, answer) = there.get(5);
    there.pass_ms(SHARED_FLIGHT_LATE_MS + 50);
    there.is_right(5, &answer);
    assert!(late.iter().all(|(_, answer)| answer.borrow().is_none()));
}

#[test]
fn a_value_that_is_too_large_with_others_spoils_their_flight_and_no_answer() {
    let there = There::new();
    // Together more than a flight may hold.
    let large = format!("\"{}\"", "x".repeat(9 << 20));
    for n in 0..8 {
        let mut valkey = there.stores.valkey.borrow_mut();
        valkey.set(&format!("large{n}"), large.as_bytes(), None, START_MS);
    }
    let answers: Vec<_> = (0..16).map(|n| there.get(n)).collect();
    let large: Vec<_> = (0..8)
        .map(|n| {
            there.ask(Request {
                method: "GET".to_owned(),
                path: format!("/api/vultr/valkey/cache/large{n}"),
                body: Some(Bytes::new()),
                ..Request::default()
            })
        })
        .collect();
    there.pass_ms(2_000);
    for (n, (_, answer)) in answers.iter().enumerate() {
        there.is_right(n, answer);
    }
    for (_, answer) in large {
        assert_eq!(answer.borrow().as_ref().unwrap().status, 200);
    }
}

#[test]
fn a_store_that_says_nothing_is_given_up_by_each_in_its_own_time() {
    let there = There::new();
    let good = there.stores.to_valkey.get();
    there.stores.to_valkey.set(Weather {
        is_silent: true,
        ..good
    });
    let early: Vec<_> = (0..8).map(|n| there.get(n)).collect();
    there.pass_ms(500);
    let late: Vec<_> = (8..16).map(|n| there.get(n)).collect();
    there.pass_ms(450);
    let is_slow =
        |answer: &Answer| answer.borrow().as_ref().map(|answer| answer.status) == Some(504);
    assert!(early.iter().all(|(_, answer)| is_slow(answer)));
    assert!(late.iter().all(|(_, answer)| answer.borrow().is_none()));
    there.stores.to_valkey.set(good);
    there.pass_ms(500);
    assert!(late.iter().all(|(_, answer)| answer.borrow().is_some()));
    let (_, answer) = there.get(1);
    there.pass_ms(100);
    there.is_right(1, &answer);
}
