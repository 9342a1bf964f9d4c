//! From a run that broke a promise to a smaller one that breaks one, too.
//!
//! A run is the same up to the moment of its first violation when it ends there.
//! With fewer isolates or things it is another run, so some seeds are tried.

use edge::mutation::Mutation;

use super::{Run, START_MS, Size, run};

/// Seeds of each smaller size; every twelfth has the same mood, back end and watch.
const SEEDS: u64 = 20;
const STEP: u64 = 12;

/// The smallest run that was found, beginning with one that failed.
pub fn shrink(failed: Run, size: Size, mutation: Option<Mutation>) -> (Run, Size) {
    let mut smallest = end_at_violation(failed, size);
    while let Some(smaller) = smaller(&smallest.0, &smallest.1, mutation) {
        smallest = smaller;
    }
    smallest
}

fn smaller(failed: &Run, size: &Size, mutation: Option<Mutation>) -> Option<(Run, Size)> {
    let mut sizes = Vec::new();
    let thing = failed.violations.iter().find_map(|one| one.thing);
    if let Some(thing) = thing.filter(|_| size.things.len() > 1) {
        sizes.push(Size {
            things: vec![thing],
            ..size.clone()
        });
    }
    if size.isolates > 1 {
        sizes.push(Size {
            isolates: size.isolates - 1,
            ..size.clone()
        });
    }
    sizes.into_iter().find_map(|size| {
        let seeds = (0..SEEDS).map(|count| failed.seed.wrapping_add(STEP * count));
        let mut runs = seeds.map(|seed| run(seed, failed.mood, &size, mutation, false));
        let failed = runs.find(|run| !run.violations.is_empty())?;
        Some(end_at_violation(failed, size))
    })
}

fn end_at_violation(failed: Run, size: Size) -> (Run, Size) {
    let first = failed.violations.first().and_then(|one| one.at_us);
    let traffic_ms = first.map_or(size.traffic_ms, |at_us| {
        (at_us / 1000 + 1)
            .saturating_sub(START_MS)
            .min(size.traffic_ms)
    });
    (failed, Size { traffic_ms, ..size })
}

/// The command that repeats a run and says all that happens in it.
pub fn command(seed: u64, size: &Size) -> String {
    let whole = Size::default();
    let mut command = format!("cargo run -p sim -- chaos --trace --seed {seed}");
    if size.isolates != whole.isolates {
        command += &format!(" --isolates {}", size.isolates);
    }
    if size.things != whole.things {
        let ids: Vec<String> = size.things.iter().map(|thing| thing.id()).collect();
        command += &format!(" --things {}", ids.join(","));
    }
    if size.traffic_ms != whole.traffic_ms {
        command += &format!(" --traffic-ms {}", size.traffic_ms);
    }
    command
}
