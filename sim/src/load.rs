//! Fires traffic at an edge over a few connections and counts what comes back.
//!
//! A closed loop: each connection sends its next request when the last one is
//! answered. Knows HTTP and the clock. Does not judge.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cache_status::tier;
use crate::operation::{Method, Operation};
use crate::steps;
use crate::tally::{Tallies, Tally};
use crate::traffic::call::{self, Call};
use crate::traffic::{Request as Asked, Traffic};

/// Far beyond any deadline of the edge; a later answer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// The edge keeps a copy of its own writes this long at most.
const L1_MAX_AGE: Duration = Duration::from_secs(5);
/// Long enough for any replay; the rest of the store's life is not ours.
const FILLED_TTL_S: u32 = 600;

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
    pub async fn send(&self, call: &Call) -> Result<Answer> {
        let Call {
            method,
            target,
            body,
        } = call;
        let mut request = Request::builder()
            .uri(format!("{}{target}", self.base))
            .method(match method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
                Method::Delete => hyper::Method::DELETE,
            });
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Bytes::from(body.clone().unwrap_or_default());
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

/// All that was counted, and the conditions.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub tallies: Tallies,
    pub elapsed: Duration,
    pub connections: usize,
    /// What went wrong first, in words.
    pub first_error: Option<String>,
}

/// Stores what the traffic reads, through the API, and lets the edge's own
/// copies of it grow old.
///
/// # Errors
/// The edge does not answer or does not store.
pub async fn fill(edge: &Edge, traffic: &Traffic) -> Result<()> {
    for call in call::fill(&call::stored(traffic), FILLED_TTL_S) {
        let answer = edge.send(&call).await?;
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

/// Sends all requests, as fast as the answers come.
///
/// # Errors
/// Only a fault of ours; what goes wrong with the edge is counted.
pub async fn run(edge: &Edge, traffic: Traffic, connections: usize) -> Result<Outcome> {
    let bar = steps::bar("Replaying recorded traffic", traffic.requests.len() as u64);
    let shared = Arc::new(Shared {
        edge: edge.clone(),
        visits: visits(&traffic),
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

/// Requests that one client sends one after the other: those of a flow.
fn visits(traffic: &Traffic) -> Vec<Range<usize>> {
    let mut end = 0;
    traffic
        .requests
        .chunk_by(|one, next| one.flow != 0 && one.flow == next.flow)
        .map(|visit| {
            let begin = end;
            end += visit.len();
            begin..end
        })
        .collect()
}

struct Shared {
    edge: Edge,
    traffic: Traffic,
    visits: Vec<Range<usize>>,
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
        let requests = shared.traffic.requests.get(visit.clone()).unwrap_or(&[]);
        let started = Instant::now();
        for request in requests {
            let call = Call::of(&shared.traffic, request, 0);
            let tally = tallies.of(request.operation)?;
            let problem = send(&shared.edge, request, &call, tally).await;
            first_error = first_error.or(problem);
            shared.bar.inc(1);
        }
        if requests.first().is_some_and(|first| first.flow != 0) {
            tallies.of(Operation::VoiceQuery)?.time(us_since(started));
        }
    }
    Ok((tallies, first_error))
}

fn us_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Sends one request and counts it; says what went wrong, if anything did.
async fn send(edge: &Edge, request: &Asked, call: &Call, tally: &mut Tally) -> Option<String> {
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
