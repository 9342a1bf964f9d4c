//! The edge's own trace lines (`edge/src/trace.rs` writes them): one JSON object a
//! request, wherever a log puts it in a line. Their ids are hashed already.

use std::borrow::Cow;

use serde::Deserialize;

use super::Recording;
use crate::operation::{Method, Operation};
use crate::traffic::Request;

/// How one begins; nothing else of the edge's does.
pub(super) const BEGINS: &str = r#"{"trace":1,"#;

#[derive(Debug, Deserialize)]
struct Line<'a> {
    time_ms: u64,
    method: &'a str,
    route: &'a str,
    #[serde(borrow)]
    key: Cow<'a, str>,
    size_bytes: u32,
    #[serde(borrow, default)]
    client: Cow<'a, str>,
    #[serde(borrow, default)]
    place: Cow<'a, str>,
}

/// Whether there was one in this text; one that is damaged is counted.
pub(super) fn read(text: &str, place: &str, where_: &str, recording: &mut Recording) -> bool {
    let Some(at) = text.find(BEGINS) else {
        return false;
    };
    let (_, text) = text.split_at(at);
    // A log may put something behind it.
    let mut lines = serde_json::Deserializer::from_str(text).into_iter::<Line>();
    match lines.next() {
        Some(Ok(line)) => add(&line, place, recording),
        Some(Err(error)) => {
            recording.reject(|| format!("{where_}: a trace line is damaged: {error}"))
        }
        None => {}
    }
    true
}

fn add(line: &Line, place: &str, recording: &mut Recording) {
    let method = Method::ALL
        .into_iter()
        .find(|method| method.name() == line.method);
    let operation = method.and_then(|method| Operation::of_route(method, line.route));
    let Some(operation) = operation else {
        recording.own.unknown(line.method, line.route);
        return;
    };
    let key = match operation {
        Operation::Products if recording.hash_all => recording.pseudonyms.of(&line.key),
        _ => line.key.clone().into_owned(),
    };
    let traffic = &mut recording.own.traffic;
    let place = if line.place.is_empty() {
        place
    } else {
        &line.place
    };
    traffic.requests.push(Request {
        size_bytes: line.size_bytes,
        client: traffic.clients.number(&line.client),
        place: traffic.places.number(place),
        ..Request::new(line.time_ms, operation, traffic.keys.number(&key))
    });
}
