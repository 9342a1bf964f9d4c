//! What the clients of the simulation do, and the programs behind the edge.
//!
//! A request goes to [`edge::route::answer`], as a host would send it; what
//! comes back is read as a client reads it, and given to the oracle.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use edge::route::{Request, Response, answer};

use super::oracle::{Answered, Intent, Thing, number};
use super::{Chaos, START_MS};

/// Attempts of a client at one order.
const ATTEMPTS_MAX: u32 = 5;
/// Of a thousand requests, those whose client goes away.
const CANCELLED: u64 = 50;
/// Of a body, what stands in the trace.
const TRACED_CHARS_MAX: usize = 240;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Read,
    Write,
    Delete,
}

/// The clients of one isolate, one request after the other begun.
pub async fn clients(chaos: Rc<Chaos>, place: usize) {
    while !chaos.is_over() {
        chaos.pause().await;
        let world = &chaos.world;
        let thing = chaos.thing();
        let is_of_others = thing == Thing::OF_OTHERS && chaos.is_watched();
        let deed = match world.below(20) {
            0 | 1 if !is_of_others => Deed::Write,
            2 if matches!(thing, Thing::Session(_)) => Deed::Delete,
            _ => Deed::Read,
        };
        // Many want the same at once.
        let crowd = if deed == Deed::Read && world.happens(30) {
            8
        } else {
            1
        };
        for _ in 0..crowd {
            begin(&chaos, place, thing, deed);
        }
    }
}

fn begin(chaos: &Rc<Chaos>, place: usize, thing: Thing, deed: Deed) {
    let count = chaos.requests.get() + 1;
    chaos.requests.set(count);
    let inner = Rc::clone(chaos);
    let node_place = chaos.nodes.borrow()[place].place.clone();
    let task = node_place.spawn(async move {
        match (thing, deed) {
            (_, Deed::Read) => read(&inner, place, thing).await,
            (Thing::Orders(_), _) => order(&inner, place, thing, count).await,
            (_, Deed::Write) => write(&inner, place, thing, Some(count)).await,
            (_, Deed::Delete) => write(&inner, place, thing, None).await,
        }
    });
    if chaos.world.happens(CANCELLED) {
        let (world, after_us) = (chaos.world.clone(), chaos.world.below(30_000));
        chaos
            .world
            .at(world.now_us() + after_us, move || world.cancel(task));
    }
}

fn request(method: &str, path: String, body: Option<String>) -> Request {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (path, String::new()),
    };
    Request {
        method: method.to_owned(),
        path,
        query,
        content_type: body.is_some().then(|| "application/json".to_owned()),
        body: Some(Bytes::from(body.unwrap_or_default())),
        ..Request::default()
    }
}

async fn ask(chaos: &Chaos, place: usize, request: Request) -> Response {
    let (host, isolate) = {
        let nodes = chaos.nodes.borrow();
        (nodes[place].place.clone(), Rc::clone(&nodes[place].isolate))
    };
    let what = format!("{place} {} {}", request.method, request.path);
    let asked_ms = chaos.world.now_ms() - START_MS;
    // Counts also when its client goes away.
    let ended = Ended {
        chaos,
        class: Cell::new(3),
    };
    let response = answer(host, isolate, request).await;
    ended.class.set(match response.status {
        200..=299 => 0,
        400..=499 => 1,
        _ => 2,
    });
    chaos.note(|| trace_line(&what, asked_ms, &response));
    response
}

/// What was answered, and which tiers say so.
fn trace_line(what: &str, asked_ms: u64, response: &Response) -> String {
    let headers: String = response
        .headers
        .iter()
        .filter(|(name, _)| matches!(*name, "Cache-Status" | "Age"))
        .map(|(name, text)| format!(" [{name}: {text}]"))
        .collect();
    let body = String::from_utf8_lossy(&response.body);
    let body: String = body.chars().take(TRACED_CHARS_MAX).collect();
    let status = response.status;
    format!("{what}, asked at {asked_ms} ms -> {status}{headers} {body}")
}

struct Ended<'a> {
    chaos: &'a Chaos,
    class: Cell<usize>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut answers = self.chaos.answers.get();
        answers[self.class.get()] += 1;
        self.chaos.answers.set(answers);
    }
}

fn path(thing: Thing) -> String {
    let id = thing.id();
    match thing {
        Thing::Session(_) => format!("/api/vultr/valkey/session/{id}"),
        Thing::Profile(_) => format!("/api/vultr/postgres/users/{id}/profile"),
        Thing::Orders(_) => format!("/api/vultr/postgres/users/{id}/orders?limit=1000"),
    }
}

fn life(chaos: &Chaos, place: usize) -> usize {
    chaos.nodes.borrow()[place].life
}

async fn read(chaos: &Chaos, place: usize, thing: Thing) {
    let life = life(chaos, place);
    let now_us = chaos.world.now_us();
    let begun = chaos.oracle.borrow().begin(thing, life, now_us);
    let response = ask(chaos, place, request("GET", path(thing), None)).await;
    let text = String::from_utf8_lossy(&response.body);
    let value = match (response.status, thing) {
        (404, _) => None,
        (200, Thing::Orders(_)) => Some(text.matches("\"order_id\"").count() as u64),
        // An answer for another id is no value of this one.
        (200, _) if !text.contains(&format!("\"{}\"", thing.id())) => Some(u64::MAX),
        (200, _) => Some(number(&text).unwrap_or(0)),
        _ => return,
    };
    let header = |wanted| {
        let mut headers = response.headers.iter();
        headers.find_map(|(name, text)| (*name == wanted).then_some(text))
    };
    let answered = Answered {
        value,
        is_stale: header("Cache-Status").is_some_and(|text| text.contains("detail=stale-if-error")),
        age_s: header("Age").and_then(|text| text.parse().ok()),
    };
    let now_us = chaos.world.now_us();
    let mut oracle = chaos.oracle.borrow_mut();
    oracle.judge(thing, life, begun, now_us, answered);
}

async fn write(chaos: &Chaos, place: usize, thing: Thing, value: Option<u64>) {
    let life = life(chaos, place);
    let now_us = chaos.world.now_us();
    let begun = chaos.oracle.borrow().begin(thing, life, now_us);
    let id = thing.id();
    let asked = match (thing, value) {
        (_, None) => request("DELETE", path(thing), None),
        (Thing::Profile(_), Some(n)) => {
            let body = format!(r#"{{"preferences":{{"n":{n},"of":"{id}"}}}}"#);
            request("POST", path(thing), Some(body))
        }
        (_, Some(n)) => {
            let body = format!(r#"{{"sessionId":"{id}","n":{n}}}"#);
            request("POST", path(thing), Some(body))
        }
    };
    if ask(chaos, place, asked).await.status == 200 {
        let now_us = chaos.world.now_us();
        let mut oracle = chaos.oracle.borrow_mut();
        oracle.acknowledge(thing, life, begun, now_us, value);
    }
}

/// A client that wants one order, and asks again when it does not know.
async fn order(chaos: &Chaos, place: usize, thing: Thing, marker: u64) {
    let has_key = chaos.world.happens(600);
    let attempts = if has_key { ATTEMPTS_MAX } else { 1 };
    chaos
        .oracle
        .borrow_mut()
        .intents
        .insert(marker, Intent::default());
    for _ in 0..attempts {
        let life = life(chaos, place);
        let now_us = chaos.world.now_us();
        let begun = chaos.oracle.borrow().begin(thing, life, now_us);
        let body = format!(
            r#"{{"user_id":"{}","items":[{{"n":{marker}}}],"total_amount":1.5}}"#,
            thing.id()
        );
        let mut asked = request("POST", "/api/vultr/postgres/orders".to_owned(), Some(body));
        asked.idempotency_key = has_key.then(|| format!("key-{marker}"));
        let status = ask(chaos, place, asked).await.status;
        if status == 200 {
            let now_us = chaos.world.now_us();
            let mut oracle = chaos.oracle.borrow_mut();
            oracle.intents.insert(
                marker,
                Intent {
                    is_acknowledged: true,
                },
            );
            oracle.order_acknowledged(thing, life, begun, now_us);
            return;
        }
        chaos.pause().await;
    }
}

/// Other programs write where the edge cannot see it.
pub fn behind_the_edge(chaos: &Chaos) {
    let (world, stores) = (&chaos.world, &chaos.stores);
    let n = 1_000_000_000 + chaos.requests.get();
    let thing = match chaos.is_watched() && world.happens(500) {
        true => Thing::OF_OTHERS,
        false => chaos.thing(),
    };
    let id = thing.id();
    match thing {
        Thing::Session(_) => {
            let text = format!(r#"{{"sessionId":"{id}","n":{n}}}"#);
            let key = format!("session:{id}");
            let mut valkey = stores.valkey.borrow_mut();
            valkey.set(&key, text.as_bytes(), Some(60_000), world.now_ms());
        }
        Thing::Profile(_) => {
            let text = format!(r#"{{"n":{n},"of":"{id}"}}"#);
            let mut postgres = stores.postgres.borrow_mut();
            postgres.set_preferences(&id, &text, world.now_ms());
        }
        Thing::Orders(_) => return,
    }
    chaos.oracle.borrow_mut().look_anew(stores, world.now_us());
}
