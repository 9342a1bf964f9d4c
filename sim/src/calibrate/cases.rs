//! Requests that one known tier answers, and how long they take.
//!
//! Knows what the edge keeps where and for how long: an isolate answers from L1
//! what it read a moment ago; what it has not seen comes from L2; products that
//! nobody asked for come from L3 and lie in L2 afterwards. Says so when another
//! tier answers after all. Knows nothing of the stores themselves.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use tokio::time::sleep_until;

use super::fit::Measured;
use crate::cache_status::Tier;
use crate::load::Edge;
use crate::load::fill::{Needed, fill};
use crate::load::open::{self, Counts, Plan};
use crate::load::schedule::{Arrivals, Limits, Pace};
use crate::load::target::Target;
use crate::operation::Operation;
use crate::report::Row;
use crate::steps;
use crate::tally::Tally;
use crate::traffic::{Request, Traffic};

/// More than are ever needed at once at a low rate.
pub const CONNECTIONS: usize = 16;
/// Requests of each kind before those that count: compilers warm up.
const WARM: usize = 60;
/// One case lasts so long before the next one has its turn, so that what else
/// the machine does meets all: well below the age at which an isolate asks for a
/// thing again.
const TURN: Duration = Duration::from_millis(2_500);
/// By then no copy in L1 answers any more, and none in L2 is due to be read anew.
const L1_OLD: Duration = Duration::from_secs(6);
/// Of four answers from L2 that Valkey is the truth of, so many of rows.
const ROWS_PART: usize = 4;
/// Of the rate, for what L3 answers: each is a connection to PostgreSQL, where a
/// process begins, and too many of these wait for one another.
const L3_RATE_PART: f64 = 0.25;
/// No tier, L2 and L3, each of these alone and in bursts; L1, writes.
const CASES: usize = 8;
/// So many requests at once, and how often, in ms: a burst is answered long before the
/// next one is sent.
pub const BURST: usize = 8;
const BURST_EVERY_MS: u64 = 160;
const FILLED_TTL_S: u32 = 600;
/// Fewer answers by the tier that a case is made for make it another case.
const ANSWERED_PART_MIN: f64 = 0.97;

/// Reads of what Valkey is the truth of.
const READS: [Operation; 4] = [
    Operation::Session,
    Operation::Conversation,
    Operation::Preferences,
    Operation::Recommendations,
];
const WRITES: [Operation; 3] = [
    Operation::StoreContext,
    Operation::StorePreferences,
    Operation::StoreRecommendations,
];

/// Latencies as a client sees them, by who answered.
#[derive(Debug, Clone, Default)]
pub struct Cases {
    pub none: Measured,
    pub l1: Measured,
    pub l2: Measured,
    pub l3: Measured,
    pub write: Measured,
    pub bursts: Bursts,
}

/// The same, where [`BURST`] were sent at once.
#[derive(Debug, Clone, Default)]
pub struct Bursts {
    pub none: Measured,
    pub l2: Measured,
    pub l3: Measured,
}

/// Measures all of them.
///
/// # Errors
/// The edge fails, or answers from another tier.
pub async fn measure(target: &Arc<Target>, samples: usize, rate: u32) -> Result<Cases> {
    let bench = Bench {
        target: Arc::clone(target),
        rate,
        bar: steps::bar("Measuring the edge", 0),
        run: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis(),
    };
    let turn = ((TURN.as_secs_f64() * f64::from(rate)) as usize).clamp(1, samples.max(1));
    let turns = samples.div_ceil(turn);
    // Of each turn: the few for L1, and those for L2, alone and in bursts.
    let each = READS.len() + 2 * turn;
    let reads = bench.of(&READS, "read", WARM + turns * each);
    let edge = Edge::at(target.url());
    fill(&edge, Needed::of(&reads, FILLED_TTL_S))
        .await
        .context("the cases cannot be set up")?;
    let of_turn = READS.len() + CASES * turn + turn.div_ceil(ROWS_PART);
    bench.bar.set_length((4 * WARM + turns * of_turn) as u64);
    bench.warm_up(&part(&reads, 0, WARM)).await?;
    let mut cases = Cases::default();
    let mut rows: Option<(Traffic, Instant)> = None;
    for number in 0..turns {
        let begin = WARM + number * each;
        cases.none.extend(bench.floor(number, turn).await?);
        let floors = bench.of(&[Operation::Floor], &format!("burst-{number}"), turn);
        let burst = bench.burst(floors).await?;
        cases.bursts.none.extend(latencies(&burst));
        let few = part(&reads, begin, READS.len());
        cases.l1.extend(bench.l1(&few, turn).await?);
        let many = part(&reads, begin + READS.len(), turn);
        let alone = bench.fire(many).await?;
        cases.l2.extend(answered(&alone, Tier::L2)?);
        let many = part(&reads, begin + READS.len() + turn, turn);
        let burst = bench.burst(many).await?;
        cases.bursts.l2.extend(answered(&burst, Tier::L2)?);
        if let Some((rows, since)) = rows {
            sleep_until((since + L1_OLD).into()).await;
            // The youngest, as the others are soon due to be read anew.
            let count = turn.div_ceil(ROWS_PART);
            let some = part(&rows, turn - count, count);
            let copies = bench.fire(some).await?;
            cases.l2.extend(answered(&copies, Tier::L2)?);
        }
        let new = bench.of(&[Operation::Products], &format!("row-{number}"), turn);
        let found = bench.fire(new.clone()).await?;
        cases.l3.extend(answered(&found, Tier::L3)?);
        let more = bench.of(&[Operation::Products], &format!("burst-{number}"), turn);
        let burst = bench.burst(more).await?;
        cases.bursts.l3.extend(answered(&burst, Tier::L3)?);
        rows = Some((new, Instant::now()));
        let writes = bench.of(&WRITES, &format!("write-{number}"), turn);
        cases.write.extend(latencies(&bench.fire(writes).await?));
    }
    bench.bar.finish_and_clear();
    Ok(cases)
}

struct Bench {
    target: Arc<Target>,
    rate: u32,
    bar: ProgressBar,
    /// Makes the keys this run's own.
    run: u128,
}

impl Bench {
    /// Each request with a key of its own.
    fn of(&self, operations: &[Operation], name: &str, count: usize) -> Traffic {
        let mut traffic = Traffic::default();
        for (number, operation) in operations.iter().cycle().take(count).enumerate() {
            let key = format!("calibrate-{}-{name}-{number}", self.run);
            let key = traffic.keys.number(&key);
            traffic.push(Request::new(0, *operation, key));
        }
        traffic
    }

    async fn fire(&self, traffic: Traffic) -> Result<Counts> {
        let asks_l3 = traffic.requests.iter().any(|one| one.operation.has_l3());
        let part = if asks_l3 { L3_RATE_PART } else { 1.0 };
        let pace = Pace::Rate {
            per_s: f64::from(self.rate) * part,
            arrivals: Arrivals::Even,
        };
        self.fire_at(traffic, pace).await
    }

    async fn fire_at(&self, traffic: Traffic, pace: Pace) -> Result<Counts> {
        let plan = Plan {
            traffic,
            targets: vec![Arc::clone(&self.target)],
            pace,
            limits: Limits::default(),
            bar: self.bar.clone(),
        };
        let counts = open::run(plan, pending()).await?;
        let errors: u64 = counts.tallies.iter().map(|(_, tally)| tally.errors).sum();
        ensure!(
            errors == 0,
            "{errors} requests failed while the edge was measured; the first: {}",
            counts.first_error.as_deref().unwrap_or_default()
        );
        Ok(counts)
    }

    async fn warm_up(&self, reads: &Traffic) -> Result<()> {
        self.fire(reads.clone()).await?;
        self.fire(reads.clone()).await?;
        for (operations, name) in [(&[Operation::Products][..], "warm"), (&WRITES, "warm")] {
            self.fire(self.of(operations, name, WARM)).await?;
        }
        Ok(())
    }

    async fn floor(&self, turn: usize, count: usize) -> Result<Vec<u64>> {
        let requests = self.of(&[Operation::Floor], &format!("floor-{turn}"), count);
        Ok(latencies(&self.fire(requests).await?))
    }

    /// The isolate does one after the other, whoever waits for them.
    async fn burst(&self, mut requests: Traffic) -> Result<Counts> {
        // Half of a burst would be another one.
        let count = requests.requests.len();
        requests.requests.truncate((count / BURST).max(1) * BURST);
        for (number, request) in requests.requests.iter_mut().enumerate() {
            request.time_ms = (number / BURST) as u64 * BURST_EVERY_MS;
        }
        self.fire_at(requests, Pace::Recorded { speed: 1.0 }).await
    }

    /// A few keys, read once, which does not count, and then again and again for
    /// as long as an isolate answers them at once.
    async fn l1(&self, few: &Traffic, count: usize) -> Result<Vec<u64>> {
        self.fire(few.clone()).await?;
        let again = Traffic {
            requests: few.requests.iter().copied().cycle().take(count).collect(),
            ..few.clone()
        };
        answered(&self.fire(again).await?, Tier::L1)
    }
}

/// Latencies, when nearly all of them are of the tier that they should be of.
fn answered(counts: &Counts, tier: Tier) -> Result<Vec<u64>> {
    let of_tier = |tally: &Tally| match tier {
        Tier::L1 => tally.l1,
        Tier::L2 => tally.l2,
        Tier::L3 => tally.l3,
    };
    let by_tier: u64 = counts.tallies.iter().map(|(_, tally)| of_tier(tally)).sum();
    let all = counts.tallies.sum(|tally| tally.requests);
    let answered = Row::all_of(&counts.tallies)
        .into_iter()
        .map(|row| {
            let Row {
                operation,
                l1,
                l2,
                l3,
                ..
            } = row;
            format!("{operation}: {l1} L1, {l2} L2, {l3} L3")
        })
        .collect::<Vec<_>>()
        .join("; ");
    ensure!(
        by_tier as f64 >= ANSWERED_PART_MIN * all as f64,
        "of {all} requests that {tier:?} should answer {by_tier} did ({answered}): does another \
         client ask the same edge, or do its settings keep nothing?"
    );
    Ok(latencies(counts))
}

fn part(traffic: &Traffic, from: usize, count: usize) -> Traffic {
    let requests = traffic.requests.iter().copied().skip(from).take(count);
    Traffic {
        requests: requests.collect(),
        ..traffic.clone()
    }
}

fn latencies(counts: &Counts) -> Vec<u64> {
    counts
        .tallies
        .iter()
        .flat_map(|(_, tally)| {
            let values = tally.latency_us.iter_recorded();
            values.flat_map(|value| {
                std::iter::repeat_n(value.value_iterated_to(), value.count_at_value() as usize)
            })
        })
        .collect()
}
