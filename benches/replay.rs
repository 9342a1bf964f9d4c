//! How many requests a second a replay in virtual time takes: the edge itself
//! down to its bytes, and the same policies without bytes. One thread.
//!
//! `cargo bench --bench replay` prints requests/s as elements/s. Before it
//! measures it says what the replay says, against the guide's latency targets; and at
//! last how much sooner several replays are done on two threads than on one.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use indicatif::ProgressBar;
use mimalloc::MiMalloc;
use rayon::ThreadPoolBuilder;
use sim::simulation::setup::{Arguments, Level, Mode, Setup};
use sim::simulation::{self, fast, full};
use sim::trace;
use sim::traffic::{Traffic, mapped};

/// As in the simulator's own program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// With four places: 160 in all.
const ISOLATES_PER_PLACE: u32 = 40;
/// So that copies in memory count as well.
const SPEED: u64 = 60;
/// What a sweep does, with another seed instead of other settings: replays on each
/// number of threads, enough for a second of work at either level, and how often. The
/// quickest counts.
const REPLAYS: [(Level, u64); 2] = [(Level::Full, 4), (Level::Fast, 64)];
const ROUNDS: usize = 3;

/// Fewer where it is only tried out.
const VISITS_MAX: usize = if cfg!(debug_assertions) {
    1_000
} else {
    usize::MAX
};

fn traffic() -> Result<Traffic> {
    let mut traffic = mapped::traffic(&trace::excerpt()?, VISITS_MAX);
    for request in &mut traffic.requests {
        request.time_ms /= SPEED;
    }
    Ok(traffic)
}

fn on_two_threads(traffic: &Traffic, level: Level, replays: u64) -> Result<()> {
    let setup = |seed| {
        Setup::of(Arguments {
            level,
            seed,
            isolates: Some(ISOLATES_PER_PLACE),
            ..Arguments::default()
        })
    };
    let setups = (1..=replays).map(setup).collect::<Result<Vec<_>>>()?;
    let mut quickest_s = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (threads, quickest_s) in (1..).zip(&mut quickest_s) {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
            let traffic = traffic.clone();
            let began = Instant::now();
            pool.install(|| simulation::replay_all(traffic, &setups))?;
            *quickest_s = quickest_s.min(began.elapsed().as_secs_f64());
        }
    }
    let [one_s, two_s] = quickest_s;
    println!(
        "{level:?}, {replays} replays: {one_s:.2} s on one thread, {two_s:.2} s on two: {:.2} × as fast",
        one_s / two_s
    );
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let traffic = Arc::new(traffic()?);
    let bar = ProgressBar::hidden();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(traffic.requests.len() as u64));
    for (level, mode) in [
        (Level::Full, Mode::Direct),
        (Level::Full, Mode::Gateway),
        (Level::Fast, Mode::Direct),
        (Level::Fast, Mode::Gateway),
    ] {
        let setup = Setup::of(Arguments {
            level,
            mode,
            isolates: Some(ISOLATES_PER_PLACE),
            ..Arguments::default()
        })?;
        let replay = || match level {
            Level::Full => full::replay(&traffic, &setup, &bar),
            Level::Fast => fast::replay(&traffic, &setup, &bar),
        };
        println!("{level:?}, {}:\n{}", mode.name(), replay()?);
        let name = BenchmarkId::new(format!("{level:?}").to_lowercase(), mode.name());
        group.bench_function(name, |bencher| bencher.iter(replay));
    }
    group.finish();
    for (level, replays) in REPLAYS {
        on_two_threads(&traffic, level, replays)?;
    }
    criterion.final_summary();
    Ok(())
}
