//! Many seeds on all cores, and a report that says how to see a failure again.

use std::fmt::Write;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge::mutation::Mutation;

use super::{Mood, Run, Size, run};

/// Which seeds, and until when.
#[derive(Debug, Clone)]
pub struct Plan {
    pub first_seed: u64,
    pub seeds: u64,
    /// No seed begins after that.
    pub time: Option<Duration>,
    pub mutation: Option<Mutation>,
    pub size: Size,
}

/// What came of all of them.
pub struct Campaign {
    pub runs: u64,
    pub requests: u64,
    /// Answers by class, see [`Run::answers`].
    pub answers: [u64; 4],
    pub took: Duration,
    /// The runs that broke a promise, by seed.
    pub failures: Vec<Run>,
}

impl Campaign {
    /// For people.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for run in &self.failures {
            let _ = writeln!(text, "seed {} ({:?}) broke a promise:", run.seed, run.mood);
            for violation in &run.violations {
                let _ = writeln!(text, "  {violation}");
            }
        }
        let [fine, refused, failed, cut_off] = self.answers;
        let seconds = self.took.as_secs_f64();
        let _ = writeln!(
            text,
            "{} seeds, {} requests in {seconds:.1} s ({:.0} a minute): {fine} with 2xx, {refused} with 4xx, \
            {failed} with 5xx, {cut_off} cut off; {} seeds broke a promise",
            self.runs,
            self.requests,
            self.requests as f64 / seconds * 60.0,
            self.failures.len(),
        );
        text
    }
}

/// The mood of a seed: one of three is calm.
pub fn mood(seed: u64) -> Mood {
    if seed.is_multiple_of(3) {
        Mood::Calm
    } else {
        Mood::Stormy
    }
}

/// Runs all seeds; stops early once `enough` failures are found.
pub fn campaign(plan: &Plan, enough: usize) -> Campaign {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let all = Mutex::new(Campaign {
        runs: 0,
        requests: 0,
        answers: [0; 4],
        took: Duration::ZERO,
        failures: Vec::new(),
    });
    let work = || {
        loop {
            let count = next.fetch_add(1, Ordering::Relaxed);
            let is_late = plan.time.is_some_and(|time| began.elapsed() > time);
            if count >= plan.seeds || is_late {
                return;
            }
            let seed = plan.first_seed.wrapping_add(count);
            let run = run(seed, mood(seed), &plan.size, plan.mutation, false);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.runs += 1;
            all.requests += run.requests;
            for (sum, count) in all.answers.iter_mut().zip(run.answers) {
                *sum += count;
            }
            if !run.violations.is_empty() {
                all.failures.push(run);
            }
            if all.failures.len() >= enough {
                return;
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.failures.sort_by_key(|run| run.seed);
    all.took = began.elapsed();
    all
}
