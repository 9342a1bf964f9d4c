//! How many requests a second each cache policy takes, on a recorded trace in
//! memory, with room for a tenth of the things in it.

#![allow(clippy::expect_used, clippy::indexing_slicing)] // A benchmark of a wrong answer must stop.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edge::tiers::memory::L1Policy;
use sim::caches::{
    Cache, Clairvoyant, EdgeL1, Lru, MiniMoka, Moka, QuickCache, Requests, S3Fifo, Sieve,
    Unbounded, clairvoyant, hits,
};
use sim::trace;

/// Fewer where it is only tried out.
const REQUESTS_MAX: usize = if cfg!(debug_assertions) {
    20_000
} else {
    usize::MAX
};

fn policies(criterion: &mut Criterion) {
    for name in ["web12.trace.xz", "tw52_1m.csv.zst"] {
        let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces");
        let trace = trace::open(&traces.join(name), None).expect("it is in the checkout");
        let asked_for = trace.requests.len().min(REQUESTS_MAX);
        let all = Requests::of_trace(&trace.requests[..asked_for]).expect("it is short");
        let next_uses = clairvoyant::next_uses(&all.ids, all.distinct);
        let (capacity, distinct) = (all.distinct / 10, all.distinct);
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Elements(all.ids.len() as u64))
            .sample_size(20)
            .measurement_time(Duration::from_secs(2));
        let mut measure = |policy: &str, run: &dyn Fn() -> u64| {
            group.bench_function(policy, |bencher| bencher.iter(|| black_box(run())));
        };
        let ids = &all.ids;
        measure("unbounded", &|| asked(Unbounded::new(distinct), ids));
        measure("LRU", &|| asked(Lru::new(capacity, distinct), ids));
        measure("SIEVE", &|| asked(Sieve::new(capacity, distinct), ids));
        measure("S3-FIFO", &|| asked(S3Fifo::new(capacity, distinct), ids));
        measure("clairvoyant", &|| {
            asked(Clairvoyant::new(capacity, &next_uses), ids)
        });
        measure("clairvoyant with next uses", &|| {
            let next_uses = clairvoyant::next_uses(ids, distinct);
            asked(Clairvoyant::new(capacity, &next_uses), ids)
        });
        measure("quick_cache", &|| asked(QuickCache::new(capacity), ids));
        measure("mini-moka", &|| asked(MiniMoka::new(capacity), ids));
        measure("moka", &|| asked(Moka::new(capacity), ids));
        measure("the edge's L1", &|| {
            asked(EdgeL1::new(L1Policy::Adaptive, capacity), ids)
        });
        measure("the edge's L1, moka", &|| {
            asked(EdgeL1::new(L1Policy::Moka, capacity), ids)
        });
        group.finish();
    }
}

/// Making the policy is part of it.
fn asked(mut cache: impl Cache, ids: &[u32]) -> u64 {
    hits(&mut cache, ids)
}

criterion_group!(benches, policies);
criterion_main!(benches);
