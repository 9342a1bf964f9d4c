//! What L1 costs: a hit, a miss that fills, and filling when it is full.

#![allow(clippy::expect_used, clippy::indexing_slicing)] // A benchmark of a wrong answer must stop.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use edge::tiers::entry::Entry;
use edge::tiers::memory::{L1Policy, Memory};

const KEYS: usize = 10_000;
const BODY_BYTES: usize = 1_000;

fn entry() -> Entry {
    Entry {
        body: Some(Bytes::from(vec![b'x'; BODY_BYTES])),
        read_at_ms: 0,
        refresh_at_ms: 3_000,
        fresh_until_ms: 5_000,
        stale_until_ms: 5_000,
    }
}

fn filled(bytes_max: u64) -> Memory {
    let mut memory = Memory::new(L1Policy::Adaptive, bytes_max);
    for n in 0..KEYS {
        memory.keep(&format!("session:{n}"), "", entry(), 0);
    }
    memory
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("L1");
    let keys: Vec<String> = (0..KEYS).map(|n| format!("session:{n}")).collect();
    // Room for all keys, and for a tenth of them.
    let (roomy, tight) = (64 << 20, 1 << 20);
    let mut all = filled(roomy);
    let mut next = keys.iter().cycle();
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let key = next.next().expect("a cycle has no end");
            all.copy(key, "", 1).expect("it was filled")
        });
    });
    let mut next = keys.iter().cycle();
    let body = entry();
    for (name, mut memory) in [
        ("miss and fill", Memory::new(L1Policy::Adaptive, roomy)),
        ("miss and fill when full", filled(tight)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (next.next().expect("a cycle has no end"), body.clone()),
                |(key, entry)| {
                    memory.forget(key);
                    memory.keep(key, "", entry, 0)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, memory);
criterion_main!(benches);
