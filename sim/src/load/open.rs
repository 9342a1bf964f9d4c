//! An open loop: every visit is sent when it is due, whether or not those before
//! it were answered.
//!
//! A latency counts from the moment a request was due, so that what had to wait
//! is as late as it was for its user. Nothing is dropped: what finds no free
//! connection waits for one. Knows the clock; judges nothing.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rustc_hash::FxHashMap;
use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::schedule::{Due, Limits, Pace, Schedule};
use super::target::{Lease, Prepared, Seen, Target};
use super::us;
use crate::cache_status::Tier;
use crate::operation::Operation;
use crate::report::{Bucket, Timeline};
use crate::tally::Tallies;
use crate::traffic::Traffic;
use crate::traffic::call::Call;
use crate::traffic::visits::{Visit, visits};

const LAG_US_MAX: u64 = 3_600_000_000;
/// Connections are open and the program is in the caches when the first is due.
const HEAD_START: Duration = Duration::from_millis(20);
pub const BUCKET_MS: u64 = 1_000;

/// What is sent to whom, and when.
pub struct Plan {
    pub traffic: Traffic,
    pub targets: Vec<Arc<Target>>,
    pub pace: Pace,
    pub limits: Limits,
    /// Goes on by one with each answer.
    pub bar: ProgressBar,
}

/// All that was counted.
#[derive(Debug)]
pub struct Counts {
    pub tallies: Tallies,
    /// How late each visit was sent, in µs.
    pub lag_us: Histogram<u64>,
    /// By the moment of the answer.
    pub timeline: Timeline,
    /// What went wrong first, in words.
    pub first_error: Option<String>,
    /// Requests that were sent, and when the last of them was due.
    pub sent: u64,
    pub sent_duration: Duration,
    /// More, that were not sent because somebody ended it.
    pub left: u64,
    /// From the first moment until the last answer.
    pub elapsed: Duration,
}

impl Counts {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            tallies: Tallies::default(),
            lag_us: Histogram::new_with_bounds(1, LAG_US_MAX, 3)?,
            timeline: Timeline {
                bucket_ms: BUCKET_MS,
                buckets: Vec::new(),
            },
            first_error: None,
            sent: 0,
            sent_duration: Duration::ZERO,
            left: 0,
            elapsed: Duration::ZERO,
        })
    }

    /// One request, and what came of it so long after it was due; true: it failed.
    fn count(
        &mut self,
        operation: Operation,
        latency: Duration,
        answer: Result<Seen>,
        since_start: Duration,
    ) -> Result<bool> {
        let tally = self.tallies.of(operation)?;
        tally.time(us(latency));
        let errors = tally.errors;
        let seen = answer.as_ref().ok();
        let status = seen.map(|seen| seen.status);
        let tier = tally.count(operation, status, seen.and_then(|seen| seen.tier));
        let is_error = tally.errors > errors;
        let place = since_start.as_millis() as usize / BUCKET_MS as usize;
        let buckets = &mut self.timeline.buckets;
        if buckets.len() <= place {
            buckets.resize(place + 1, Bucket::default());
        }
        if let Some(bucket) = buckets.get_mut(place) {
            bucket.requests += 1;
            bucket.errors += u64::from(is_error);
            match tier {
                Some(Tier::L1) => bucket.l1 += 1,
                Some(Tier::L2) => bucket.l2 += 1,
                Some(Tier::L3) => bucket.l3 += 1,
                None => {}
            }
        }
        if is_error && self.first_error.is_none() {
            self.first_error = match answer {
                Ok(seen) => seen.complaint,
                Err(error) => Some(format!("{error:#}")),
            };
        }
        Ok(is_error)
    }
}

/// Sends it all, or until `end`, and waits for all answers.
///
/// # Errors
/// There is nothing to send, or a fault of ours; what goes wrong with an edge is
/// counted.
pub async fn run(plan: Plan, end: impl Future<Output = ()>) -> Result<Counts> {
    let Plan {
        traffic,
        targets,
        pace,
        limits,
        bar,
    } = plan;
    let visits = visits(&traffic.requests);
    let schedule = Schedule::new(&traffic.requests, &visits, pace, limits);
    let (planned, _) = schedule.extent().context("there is too much to send")?;
    ensure!(planned > 0, "within these limits there is nothing to send");
    let (prepared, calls) = prepare(&traffic)?;
    let start = Instant::now() + HEAD_START;
    let shared = Arc::new(Shared {
        counts: Mutex::new(Counts::new()?),
        bar,
        traffic,
        targets,
        visits,
        prepared,
        calls,
        pace,
        start,
    });
    let mut due = pace_out(schedule, start);
    let mut under_way = JoinSet::new();
    let (mut sent, mut sent_duration, mut is_ended) = (0, Duration::ZERO, false);
    let mut end = pin!(end);
    loop {
        let next = select! {
            next = due.recv() => next,
            () = &mut end => {
                is_ended = true;
                None
            }
        };
        let Some(Due {
            after,
            visit,
            requests,
        }) = next
        else {
            break;
        };
        sent += requests as u64;
        sent_duration = after;
        let shared = Arc::clone(&shared);
        under_way.spawn(async move { shared.send(visit, start + after).await });
        while let Some(done) = under_way.try_join_next() {
            done??;
        }
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    ensure!(
        is_ended || sent == planned,
        "only {sent} of {planned} requests were sent: this is a fault of ours"
    );
    let shared = Arc::into_inner(shared).context("a request is still under way")?;
    let mut counts = shared
        .counts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    counts.elapsed = start.elapsed();
    (counts.sent, counts.sent_duration) = (sent, sent_duration);
    counts.left = planned - sent;
    Ok(counts)
}

/// Says of each visit when it is due, at that moment. A thread of its own,
/// because a timer of the event loop is up to a millisecond late.
fn pace_out(schedule: Schedule, start: Instant) -> UnboundedReceiver<Due> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        for due in schedule {
            let wait = (start + due.after).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            if sender.send(due).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The requests that differ, and which of them each request is.
fn prepare(traffic: &Traffic) -> Result<(Vec<Prepared>, Vec<usize>)> {
    let mut prepared = Vec::new();
    let mut known = FxHashMap::default();
    let mut calls = Vec::with_capacity(traffic.requests.len());
    for request in &traffic.requests {
        let content = (request.operation, request.key, request.size_bytes);
        let call = match known.get(&content) {
            Some(call) => *call,
            None => {
                prepared.push(Prepared::new(Call::of(traffic, request, 0))?);
                known.insert(content, prepared.len() - 1);
                prepared.len() - 1
            }
        };
        calls.push(call);
    }
    Ok((prepared, calls))
}

struct Shared {
    traffic: Traffic,
    targets: Vec<Arc<Target>>,
    visits: Vec<Visit>,
    prepared: Vec<Prepared>,
    /// Of each request.
    calls: Vec<usize>,
    pace: Pace,
    start: Instant,
    counts: Mutex<Counts>,
    bar: ProgressBar,
}

impl Shared {
    /// A client stays with one edge, as its connection would.
    fn target(&self, place: usize) -> Option<&Arc<Target>> {
        let client = match self.traffic.requests.get(place) {
            Some(request) if self.traffic.clients.len() > 1 => request.client as usize,
            _ => place,
        };
        self.targets.get(client.checked_rem(self.targets.len())?)
    }

    async fn send(&self, visit: usize, due: Instant) -> Result<()> {
        let Some(visit) = self.visits.get(visit) else {
            return Ok(());
        };
        let first = visit.places().first().copied().unwrap_or_default();
        let target = self.target(first).context("there is no target")?;
        let mut lease = target.lease().await?;
        let lag = due.elapsed();
        self.counts().lag_us.saturating_record(us(lag));
        let mut answered = due;
        let mut paused = Duration::ZERO;
        let mut has_failed = false;
        for place in visit.places() {
            // The time that its client took is not the edge's.
            let pause = self
                .due_in_flow(first, *place, due)
                .saturating_duration_since(answered);
            if !pause.is_zero() {
                sleep_until((answered + pause).into()).await;
                paused += pause;
            }
            let failed;
            (answered, failed) = self.ask(&mut lease, *place, answered + pause).await?;
            has_failed |= failed;
        }
        if visit.is_flow {
            let took = answered.duration_since(due).saturating_sub(paused);
            self.counts().tallies.flow(us(took), has_failed)?;
        }
        Ok(())
    }

    /// When a request of a flow is due at the earliest.
    fn due_in_flow(&self, first: usize, place: usize, due: Instant) -> Instant {
        let time_ms = |place: usize| {
            self.traffic
                .requests
                .get(place)
                .map_or(0, |one| one.time_ms)
        };
        let recorded = Duration::from_millis(time_ms(place).saturating_sub(time_ms(first)));
        due.checked_add(self.pace.pause(recorded)).unwrap_or(due)
    }

    /// When it was answered; true: it failed.
    async fn ask(&self, lease: &mut Lease, place: usize, due: Instant) -> Result<(Instant, bool)> {
        let request = self.traffic.requests.get(place).context("no request")?;
        let call = self
            .calls
            .get(place)
            .and_then(|call| self.prepared.get(*call));
        let answer = lease.send(call.context("no call")?).await;
        let answered = Instant::now();
        let has_failed = self.counts().count(
            request.operation,
            answered.duration_since(due),
            answer,
            answered.saturating_duration_since(self.start),
        )?;
        self.bar.inc(1);
        Ok((answered, has_failed))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
