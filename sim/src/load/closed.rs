//! A closed loop: each client sends its next visit when the last one is answered,
//! as fast as the answers come.
//!
//! What is slow also slows the asking down, so latencies look better than a user
//! would find them: [`super::open`] is the other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use super::target::complaint;
use super::{Edge, us_since};
use crate::cache_status::tier;
use crate::steps;
use crate::tally::{Tallies, Tally};
use crate::traffic::call::Call;
use crate::traffic::visits::{Visit, visits};
use crate::traffic::{Request, Traffic};

/// All that was counted, and the conditions.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub tallies: Tallies,
    pub elapsed: Duration,
    pub connections: usize,
    /// What went wrong first, in words.
    pub first_error: Option<String>,
}

/// Sends all requests, as fast as the answers come.
///
/// # Errors
/// Only a fault of ours; what goes wrong with the edge is counted.
pub async fn run(edge: &Edge, traffic: Traffic, connections: usize) -> Result<Outcome> {
    let bar = steps::bar("Replaying recorded traffic", traffic.requests.len() as u64);
    let shared = Arc::new(Shared {
        edge: edge.clone(),
        visits: visits(&traffic.requests),
        traffic,
        next: AtomicUsize::new(0),
        bar,
    });
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..connections.max(1) {
        clients.spawn(client(Arc::clone(&shared)));
    }
    let mut outcome = Outcome {
        tallies: Tallies::default(),
        elapsed: Duration::ZERO,
        connections,
        first_error: None,
    };
    while let Some(done) = clients.join_next().await {
        let (tallies, first_error) = done??;
        outcome.first_error = outcome.first_error.or(first_error);
        outcome.tallies.add(&tallies)?;
    }
    outcome.elapsed = started.elapsed();
    shared.bar.finish_and_clear();
    Ok(outcome)
}

struct Shared {
    edge: Edge,
    traffic: Traffic,
    visits: Vec<Visit>,
    next: AtomicUsize,
    bar: ProgressBar,
}

/// One client: takes the next visit until there is none.
async fn client(shared: Arc<Shared>) -> Result<(Tallies, Option<String>)> {
    let mut tallies = Tallies::default();
    let mut first_error = None;
    while let Some(visit) = shared
        .visits
        .get(shared.next.fetch_add(1, Ordering::Relaxed))
    {
        let started = Instant::now();
        let mut has_failed = false;
        for request in visit.of(&shared.traffic.requests) {
            let call = Call::of(&shared.traffic, request, 0);
            let tally = tallies.of(request.operation)?;
            let problem = send(&shared.edge, request, &call, tally).await;
            has_failed |= problem.is_some();
            first_error = first_error.or(problem);
            shared.bar.inc(1);
        }
        if visit.is_flow {
            tallies.flow(us_since(started), has_failed)?;
        }
    }
    Ok((tallies, first_error))
}

/// Sends one request and counts it; says what went wrong, if anything did.
async fn send(edge: &Edge, request: &Request, call: &Call, tally: &mut Tally) -> Option<String> {
    let started = Instant::now();
    let answer = edge.send(call).await;
    tally.time(us_since(started));
    let errors = tally.errors;
    let status = answer.as_ref().ok().map(|answer| answer.status.as_u16());
    let tier = answer
        .as_ref()
        .ok()
        .and_then(|answer| tier(&answer.cache_status));
    tally.count(request.operation, status, tier);
    (tally.errors > errors).then(|| match answer {
        Err(error) => format!("{error:#}"),
        Ok(answer) => complaint(&call.target, answer.status, &answer.body),
    })
}
