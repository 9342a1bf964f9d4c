//! How many instructions the hot paths take, for `benches/instructions.mjs`, which
//! runs this under Valgrind's callgrind: counts say what a noisy clock does not.
//!
//! Knows what is done and how often. The counting knows two functions here by
//! name: of each call of [`case`] it counts what happens in [`counted`]. Run
//! without Valgrind, this only shows that everything works.

#![allow(clippy::expect_used)] // A benchmark of a wrong answer must stop.

mod scripted;

use std::hint::black_box;
use std::rc::Rc;

use bytes::Bytes;
use edge::isolate::Isolate;
use edge::route::{self, Request};
use edge::settings::Settings;
use edge::tiers::entry::Entry;
use edge::tiers::memory::{L1Policy, Memory};
use edge::wire::Machine;
use futures_util::FutureExt;
use sim::virtual_network::{Place, Stores};
use sim::virtual_time::World;

const KEYS: usize = 1_000;
const BODY_BYTES: usize = 1_000;
const NOW_MS: u64 = 1_750_000_000_000;

#[inline(never)]
fn counted(times: usize, work: &mut dyn FnMut()) {
    for _ in 0..times {
        work();
    }
}

/// Says what comes, and how often; the first time is not counted, which allocates
/// what is kept.
#[inline(never)]
fn case(name: &str, times: usize, work: &mut dyn FnMut()) {
    println!("{name}\t{times}");
    work();
    counted(times, work);
}

fn main() {
    memory();
    valkey();
    postgres();
    session();
}

fn entry() -> Entry {
    Entry {
        body: Some(Bytes::from(vec![b'x'; BODY_BYTES])),
        read_at_ms: NOW_MS,
        refresh_at_ms: NOW_MS + 3_000,
        fresh_until_ms: NOW_MS + 5_000,
        stale_until_ms: NOW_MS + 5_000,
    }
}

fn memory() {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("session:{n}")).collect();
    let mut keys = keys.iter().cycle();
    let mut next = move || keys.next().expect("a cycle has no end");
    let entry = entry();
    // Room for all keys, and for a tenth of them.
    let mut all = Memory::new(L1Policy::Adaptive, 64 << 20);
    let mut few = Memory::new(L1Policy::Adaptive, 128 << 10);
    for memory in [&mut all, &mut few] {
        for _ in 0..KEYS {
            memory.keep(next(), "", entry.clone(), NOW_MS);
        }
    }
    case("L1: hit", KEYS, &mut || {
        black_box(all.copy(next(), "", NOW_MS).expect("it was filled"));
    });
    case("L1: miss and fill", KEYS, &mut || {
        let key = next();
        all.forget(key);
        assert!(all.copy(key, "", NOW_MS).is_none());
        assert!(all.keep(key, "", entry.clone(), NOW_MS));
    });
    case("L1: miss and fill when full", KEYS, &mut || {
        let key = next();
        if few.copy(key, "", NOW_MS).is_none() {
            black_box(few.keep(key, "", entry.clone(), NOW_MS));
        }
    });
}

fn valkey() {
    let mut connection = scripted::valkey();
    connection.submit(scripted::gets(1));
    scripted::exchange(
        &mut connection,
        &[scripted::HELLO.into(), scripted::values(1, 1)],
    );
    connection.take_replies().expect("replies");

    case("Valkey: log-in and 50 gets as bytes", 100, &mut || {
        let mut new = scripted::valkey();
        new.submit(scripted::gets(50));
        black_box(new.take_output());
    });
    for (name, keys) in [
        ("Valkey: a get of 1 KiB, there and back", 1),
        ("Valkey: 50 gets of 1 KiB, there and back", 50),
    ] {
        let reads = [scripted::values(keys, 1024)];
        case(name, 100, &mut || {
            connection.submit(scripted::gets(keys));
            scripted::exchange(&mut connection, &reads);
            let replies = connection.take_replies().expect("replies");
            assert_eq!(black_box(replies).len(), keys);
        });
    }
}

fn postgres() {
    const ROWS: usize = 20;
    let statement = scripted::page();
    let reads = [scripted::products(ROWS)];
    case(
        "PostgreSQL: log-in and 20 products as JSON",
        20,
        &mut || {
            let mut connection = scripted::postgres();
            connection.submit(&statement).expect("a small statement");
            scripted::exchange(&mut connection, &reads);
            let answer = connection.take_answer().expect("an answer").expect("rows");
            black_box(answer.json_array().expect("JSON"));
        },
    );
}

/// From [`Request`] to response, by all that a Worker runs but its host.
fn session() {
    let world = World::new(1, NOW_MS);
    let place = Place::new(&world, &Rc::new(Stores::new(Box::new(|_, _| {}))));
    let isolate = Rc::new(Isolate::new(Settings::read(&|_| None)));
    let now_ms = isolate.now_ms(NOW_MS);
    let mut memory = isolate.memory.borrow_mut();
    assert!(memory.keep("session:a", "", entry(), now_ms));
    drop(memory);
    case("a session from L1, request to response", 100, &mut || {
        let request = Request {
            method: "GET".to_owned(),
            path: "/api/vultr/valkey/session/a".to_owned(),
            body: Some(Bytes::new()),
            ..Request::default()
        };
        let answer = route::answer(place.clone(), Rc::clone(&isolate), request);
        let response = answer.now_or_never().expect("L1 waits for nothing");
        assert_eq!(black_box(response).status, 200);
    });
}
