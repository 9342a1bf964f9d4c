//! The simulation of faults: that it repeats itself, and that it would notice
//! each promise that is broken on purpose.

#![allow(clippy::expect_used, clippy::panic)] // A test that is wrong must stop.

use edge::mutation::Mutation;
use sim::chaos::campaign::{Plan, campaign, mood};
use sim::chaos::shrink::shrink;
use sim::chaos::{Size, run};

/// Seeds within which each broken promise must be noticed.
const SEEDS_MAX: u64 = 24;

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    let again = [(); 2].map(|()| run(1, mood(1), &Size::default(), None, true));
    assert!(again[0].requests > 10_000);
    assert_eq!(again[0].trace, again[1].trace);
    assert_eq!(again[0].digest, again[1].digest);
    assert_ne!(
        again[0].digest,
        run(4, mood(4), &Size::default(), None, false).digest
    );
}

#[test]
fn every_broken_promise_is_noticed() {
    for mutation in Mutation::ALL {
        let plan = Plan {
            first_seed: 0,
            seeds: SEEDS_MAX,
            time: None,
            mutation: Some(mutation),
            size: Size::default(),
        };
        let all = campaign(&plan, 1);
        let Some(found) = all.failures.first() else {
            panic!("{mutation:?} was not noticed in {} requests", all.requests);
        };
        println!(
            "{mutation:?}: seed {} after {} runs: {}",
            found.seed,
            all.runs,
            found.violations.first().expect("one violation at least")
        );
    }
}

#[test]
fn a_run_that_fails_is_made_smaller() {
    let (whole, mutation) = (Size::default(), Some(Mutation::OwnWriteIsNotSeen));
    let failed = run(0, mood(0), &whole, mutation, false);
    assert!(!failed.violations.is_empty());
    let requests = failed.requests;
    let (small, size) = shrink(failed, whole.clone(), mutation);
    assert_eq!((size.isolates, size.things.len()), (1, 1));
    assert!(size.traffic_ms < whole.traffic_ms);
    let again = run(small.seed, small.mood, &size, mutation, false);
    assert!(!again.violations.is_empty());
    assert!(again.requests < requests / 10);
}
