//! How long the miss-ratio curve of 10 million requests takes, exact and from a
//! tenth of the things: a recorded trace twice, and a synthetic Zipf trace.

#![allow(clippy::expect_used)] // A benchmark of a wrong answer must stop.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sim::caches::{Requests, curve::Curve};
use sim::dice::Dice;
use sim::trace;

/// Fewer where it is only tried out.
const REQUESTS: usize = if cfg!(debug_assertions) {
    20_000
} else {
    10_000_000
};
const ZIPF_THINGS: u32 = 1_000_000;
const ZIPF_EXPONENT: f64 = 0.9;
const SEED: u64 = 52;
const RATE: f64 = 0.1;

fn recorded() -> Vec<u64> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces/orm-night.trace.xz");
    let trace = trace::open(&file, None).expect("it is in the checkout");
    let keys = trace.requests.iter().map(|request| request.key);
    keys.clone().chain(keys).take(REQUESTS).collect()
}

/// The n-th most popular thing is asked for in proportion to 1 / n^exponent.
fn zipf() -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=ZIPF_THINGS)
        .map(|rank| {
            sum += f64::from(rank).powf(-ZIPF_EXPONENT);
            sum
        })
        .collect();
    let mut dice = Dice::seeded(SEED);
    let mut drawn = || f64::from(dice.below(u32::MAX)) / f64::from(u32::MAX) * sum;
    (0..REQUESTS)
        .map(|_| {
            let draw = drawn();
            sums.partition_point(|sum| *sum < draw) as u64
        })
        .collect()
}

fn curves(criterion: &mut Criterion) {
    for (name, keys) in [
        ("orm-night twice", recorded()),
        ("Zipf 0.9 of a million", zipf()),
    ] {
        let all = Requests::of_keys(keys.iter().copied()).expect("they are few");
        let exact = Curve::exact(&all);
        let sampled = Curve::sampled(keys.iter().copied(), RATE).expect("they are few");
        println!(
            "{name}: mean absolute error of the sample {:.4}",
            sampled.mean_error(&exact, all.distinct)
        );
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Elements(keys.len() as u64))
            .sample_size(10)
            .measurement_time(Duration::from_secs(8));
        group.bench_function("numbers for keys", |bencher| {
            bencher.iter(|| black_box(Requests::of_keys(keys.iter().copied())));
        });
        group.bench_function("exact", |bencher| {
            bencher.iter(|| black_box(Curve::exact(&all)));
        });
        group.bench_function("a tenth of the things", |bencher| {
            bencher.iter(|| black_box(Curve::sampled(keys.iter().copied(), RATE)));
        });
        group.finish();
    }
}

criterion_group!(benches, curves);
criterion_main!(benches);
