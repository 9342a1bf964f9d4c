//! How many requests a second a replay in virtual time takes: the edge itself
//! down to its bytes, and the same policies without bytes. One thread.
//!
//! `cargo bench --bench replay` prints requests/s as elements/s. Before it
//! measures it says what the replay says, against the guide's latency targets.

use std::sync::Arc;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use indicatif::ProgressBar;
use mimalloc::MiMalloc;
use sim::simulation::setup::{Arguments, Level, Mode, Setup};
use sim::simulation::{fast, full};
use sim::trace;
use sim::traffic::{Traffic, mapped};

/// As in the simulator's own program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// With four places: 160 in all.
const ISOLATES_PER_PLACE: u32 = 40;
/// So that copies in memory count as well.
const SPEED: u64 = 60;

fn traffic() -> Result<Traffic> {
    let mut traffic = mapped::traffic(&trace::excerpt()?, usize::MAX);
    for request in &mut traffic.requests {
        request.time_ms /= SPEED;
    }
    Ok(traffic)
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
    criterion.final_summary();
    Ok(())
}
