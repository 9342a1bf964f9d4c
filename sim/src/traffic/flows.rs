//! Finds the voice queries in what was recorded: a recording knows requests, and
//! not what they are part of.
//!
//! A voice query is the guide's six requests of one client in their order, each
//! soon after the one before. Others of the same client may come in between.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::mapped::VOICE_QUERY;
use super::{Number, Traffic};

/// Whoever waits longer for the next step has begun something else.
const STEP_MS_MAX: u64 = 5_000;

/// One that has begun.
#[derive(Default)]
struct Begun {
    /// Places of its requests so far.
    steps: Vec<usize>,
    latest_ms: u64,
}

/// Gives each a number of its own. None may have one yet.
pub fn mark(traffic: &mut Traffic) {
    let mut begun: HashMap<Number, Begun, FxBuildHasher> = HashMap::default();
    let mut flows: Vec<Vec<usize>> = Vec::new();
    for (place, request) in traffic.requests.iter().enumerate() {
        if !VOICE_QUERY.contains(&request.operation) {
            continue;
        }
        let own = begun.entry(request.client).or_default();
        let is_late = request.time_ms > own.latest_ms + STEP_MS_MAX;
        let is_next = VOICE_QUERY.get(own.steps.len()) == Some(&request.operation);
        if is_late || !is_next {
            own.steps.clear();
        }
        if VOICE_QUERY.get(own.steps.len()) == Some(&request.operation) {
            own.steps.push(place);
            own.latest_ms = request.time_ms;
        }
        if own.steps.len() == VOICE_QUERY.len() {
            flows.push(std::mem::take(&mut own.steps));
        }
    }
    for (flow, steps) in (1..).zip(flows) {
        for place in steps {
            if let Some(request) = traffic.requests.get_mut(place) {
                request.flow = flow;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::traffic::Request;

    fn flows(requests: &[(u64, Number, Operation)]) -> Vec<Number> {
        let mut traffic = Traffic::default();
        for (time_ms, client, operation) in requests {
            traffic.push(Request {
                client: *client,
                ..Request::new(*time_ms, *operation, 0)
            });
        }
        mark(&mut traffic);
        traffic
            .requests
            .iter()
            .map(|request| request.flow)
            .collect()
    }

    fn query(began_ms: u64, step_ms: u64, client: Number) -> Vec<(u64, Number, Operation)> {
        let steps = VOICE_QUERY.into_iter().zip(0..);
        steps
            .map(|(operation, step)| (began_ms + step * step_ms, client, operation))
            .collect()
    }

    #[test]
    fn six_requests_of_one_client_in_their_order_are_a_voice_query() {
        let mut requests = query(0, 100, 1);
        requests.extend(query(10, 100, 2));
        requests.push((320, 1, Operation::Profile));
        requests.sort_by_key(|(time_ms, ..)| *time_ms);
        let found = flows(&requests);
        assert_eq!(found.iter().filter(|flow| **flow == 1).count(), 6);
        assert_eq!(found.iter().filter(|flow| **flow == 2).count(), 6);
        assert_eq!(found.iter().filter(|flow| **flow == 0).count(), 1);
    }

    #[test]
    fn what_comes_late_or_in_another_order_is_none() {
        assert!(
            flows(&query(0, STEP_MS_MAX + 1, 1))
                .iter()
                .all(|flow| *flow == 0)
        );
        let mut requests = query(0, 100, 1);
        requests.swap(1, 2);
        assert!(flows(&requests).iter().all(|flow| *flow == 0));
        // One that was broken off, and then a whole one.
        let mut requests = query(0, 100, 1);
        requests.truncate(3);
        requests.extend(query(1_000, 100, 1));
        assert_eq!(flows(&requests)[2..], [0, 1, 1, 1, 1, 1, 1]);
    }
}
