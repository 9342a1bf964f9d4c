//! Fires a workload at an edge over a few connections and counts what comes back.
//!
//! A closed loop: each connection sends its next request when the last one is
//! answered. Knows HTTP and the clock. Does not judge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cache_status::{Tier, tier};
use crate::steps;
use crate::workload::{Call, Method, Operation, Workload, fill_target};

/// Far beyond any deadline of the edge; a later answer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// The edge keeps a copy of its own writes this long at most.
const L1_MAX_AGE: Duration = Duration::from_secs(5);
const LATENCY_US_MAX: u64 = 60_000_000;

/// An edge to talk to.
#[derive(Debug, Clone)]
pub struct Edge {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub cache_status: String,
    pub body: Bytes,
}

impl Edge {
    /// `base` is `http://host:port`.
    pub fn at(base: &str) -> Self {
        let mut connector = HttpConnector::new();
        // Small requests must not wait for acknowledgements.
        connector.set_nodelay(true);
        Self {
            base: base.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// Nobody answers, or not in time.
    pub async fn send(&self, method: Method, target: &str, body: Option<&str>) -> Result<Answer> {
        let mut request = Request::builder()
            .uri(format!("{}{target}", self.base))
            .method(match method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
            });
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body
            .map(|text| Bytes::copy_from_slice(text.as_bytes()))
            .unwrap_or_default();
        let request = request
            .body(Full::new(body))
            .with_context(|| format!("{} is not a URL", self.base))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            let values = head.headers.get_all("cache-status");
            let values: Vec<&str> = values
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect();
            Ok(Answer {
                status: head.status,
                cache_status: values.join(", "),
                body: body.collect().await?.to_bytes(),
            })
        };
        timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| {
                anyhow!(
                    "{} does not answer {target} within {ANSWER_WITHIN:?}",
                    self.base
                )
            })?
            .map_err(|error: anyhow::Error| error.context(format!("{} does not answer", self.base)))
    }
}

/// Counts of one operation.
#[derive(Debug, Clone)]
pub struct Tally {
    pub requests: u64,
    pub l1: u64,
    pub l2: u64,
    pub l3: u64,
    /// No answer, or a status that says that something is wrong.
    pub errors: u64,
    /// A 404: an answer, but not what a filled store should give.
    pub absent: u64,
    pub latency_us: Histogram<u64>,
}

impl Tally {
    /// # Errors
    /// The bounds of the histogram are wrong.
    pub fn new() -> Result<Self> {
        Ok(Self {
            requests: 0,
            l1: 0,
            l2: 0,
            l3: 0,
            errors: 0,
            absent: 0,
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.l1 += other.l1;
        self.l2 += other.l2;
        self.l3 += other.l3;
        self.errors += other.errors;
        self.absent += other.absent;
        self.latency_us.add(&other.latency_us)?;
        Ok(())
    }

    fn time(&mut self, elapsed: Duration) {
        self.requests += 1;
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latency_us.saturating_record(us);
    }

    fn count(&mut self, operation: Operation, answer: &Result<Answer>) {
        let Ok(answer) = answer else {
            self.errors += 1;
            return;
        };
        match answer.status {
            StatusCode::NOT_FOUND if operation == Operation::Floor => {}
            StatusCode::NOT_FOUND => self.absent += 1,
            status if !status.is_success() => self.errors += 1,
            _ => {}
        }
        match tier(&answer.cache_status) {
            Some(Tier::L1) => self.l1 += 1,
            Some(Tier::L2) => self.l2 += 1,
            Some(Tier::L3) if operation.has_l3() => self.l3 += 1,
            // No cache had it and Valkey is the truth: then Valkey said so.
            Some(Tier::L3) => self.l2 += 1,
            None => {}
        }
    }
}

pub type Tallies = BTreeMap<Operation, Tally>;

/// All that was counted, and the conditions.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub tallies: Tallies,
    pub elapsed: Duration,
    pub connections: usize,
    /// What went wrong first, in words.
    pub first_error: Option<String>,
}

/// Stores what the workload reads, through the API, and lets the edge's own
/// copies of it grow old.
///
/// # Errors
/// The edge does not answer or does not store.
pub async fn fill(edge: &Edge, workload: &Workload) -> Result<()> {
    for batch in &workload.fill {
        let answer = edge.send(Method::Post, &fill_target(), Some(batch)).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status.is_success() && !text.contains("\"success\":false"),
            "{} does not store what the replay needs (status {}): {}",
            edge.base(),
            answer.status.as_u16(),
            text.chars().take(200).collect::<String>()
        );
    }
    sleep(L1_MAX_AGE).await;
    Ok(())
}

/// Sends every visit of the workload.
///
/// # Errors
/// Only a fault of ours; what goes wrong with the edge is counted.
pub async fn run(edge: &Edge, workload: Workload, connections: usize) -> Result<Outcome> {
    let bar = steps::bar("Replaying recorded traffic", workload.calls() as u64);
    let shared = Arc::new(Shared {
        edge: edge.clone(),
        workload,
        next: AtomicUsize::new(0),
        bar,
    });
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..connections.max(1) {
        clients.spawn(client(Arc::clone(&shared)));
    }
    let mut outcome = Outcome {
        tallies: Tallies::new(),
        elapsed: Duration::ZERO,
        connections,
        first_error: None,
    };
    while let Some(done) = clients.join_next().await {
        let (tallies, first_error) = done??;
        outcome.first_error = outcome.first_error.or(first_error);
        for (operation, tally) in tallies {
            tally_of(&mut outcome.tallies, operation)?.add(&tally)?;
        }
    }
    outcome.elapsed = started.elapsed();
    shared.bar.finish_and_clear();
    Ok(outcome)
}

struct Shared {
    edge: Edge,
    workload: Workload,
    next: AtomicUsize,
    bar: ProgressBar,
}

/// One client: takes the next visit until there is none.
async fn client(shared: Arc<Shared>) -> Result<(Tallies, Option<String>)> {
    let mut tallies = Tallies::new();
    let mut first_error = None;
    while let Some(visit) = shared
        .workload
        .visits
        .get(shared.next.fetch_add(1, Ordering::Relaxed))
    {
        let started = Instant::now();
        for call in &visit.calls {
            let problem = send(&shared.edge, call, tally_of(&mut tallies, call.operation)?).await;
            first_error = first_error.or(problem);
            shared.bar.inc(1);
        }
        if let Some(flow) = visit.flow {
            tally_of(&mut tallies, flow)?.time(started.elapsed());
        }
    }
    Ok((tallies, first_error))
}

/// Sends one request and counts it; says what went wrong, if anything did.
async fn send(edge: &Edge, call: &Call, tally: &mut Tally) -> Option<String> {
    let started = Instant::now();
    let answer = edge
        .send(call.method, &call.target, call.body.as_deref())
        .await;
    tally.time(started.elapsed());
    let errors = tally.errors;
    tally.count(call.operation, &answer);
    (tally.errors > errors).then(|| match answer {
        Err(error) => format!("{error:#}"),
        Ok(answer) => format!(
            "{} was answered with status {}: {}",
            call.target,
            answer.status.as_u16(),
            String::from_utf8_lossy(&answer.body)
                .chars()
                .take(200)
                .collect::<String>()
        ),
    })
}

fn tally_of(tallies: &mut Tallies, operation: Operation) -> Result<&mut Tally> {
    use std::collections::btree_map::Entry;
    Ok(match tallies.entry(operation) {
        Entry::Occupied(tally) => tally.into_mut(),
        Entry::Vacant(place) => place.insert(Tally::new()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, cache_status: &str) -> Result<Answer> {
        Ok(Answer {
            status: StatusCode::from_u16(status)?,
            cache_status: cache_status.to_owned(),
            body: Bytes::new(),
        })
    }

    #[test]
    fn an_answer_no_cache_had_is_postgresqls_or_the_truth_in_valkey() -> Result<()> {
        let mut tally = Tally::new()?;
        tally.count(
            Operation::Products,
            &answer(200, "L2; fwd=miss; stored, L1; fwd=miss"),
        );
        assert_eq!((tally.l2, tally.l3), (0, 1));
        tally.count(
            Operation::Session,
            &answer(404, "L2; fwd=miss, L1; fwd=miss"),
        );
        assert_eq!((tally.l2, tally.l3, tally.absent), (1, 1, 1));
        Ok(())
    }

    #[test]
    fn errors_are_counted_whoever_made_them() -> Result<()> {
        let mut tally = Tally::new()?;
        tally.count(Operation::Session, &Err(anyhow!("gone")));
        tally.count(Operation::Session, &answer(503, ""));
        tally.count(Operation::Floor, &answer(404, ""));
        assert_eq!((tally.errors, tally.absent), (2, 0));
        Ok(())
    }
}
