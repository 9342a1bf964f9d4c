//! What the two protocols cost without a network: one whole exchange on a new
//! connection, from the log-in to the last reply, bytes made beforehand.

#![allow(clippy::expect_used, clippy::indexing_slicing)] // A benchmark of a wrong answer must stop.

mod scripted;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scripted::exchange;

fn valkey(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("valkey");
    for (name, keys, value_bytes) in [("get 1 KiB", 1, 1024), ("batch of 50 × 1 KiB", 50, 1024)] {
        let reads = [[scripted::HELLO, &scripted::values(keys, value_bytes)].concat()];
        group.throughput(Throughput::Bytes(reads[0].len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut connection = scripted::valkey();
                connection.submit(scripted::gets(keys));
                exchange(&mut connection, &reads);
                let replies = connection.take_replies().expect("replies");
                assert_eq!(replies.len(), keys);
                replies
            });
        });
    }
    group.finish();
}

fn postgres(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("postgres");
    for (name, rows) in [("1 row as JSON", 1), ("100 rows as JSON", 100)] {
        let statement = scripted::page();
        let reads = [scripted::products(rows)];
        group.throughput(Throughput::Bytes(reads[0].len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut connection = scripted::postgres();
                connection.submit(&statement).expect("a small statement");
                exchange(&mut connection, &reads);
                let answer = connection.take_answer().expect("an answer").expect("rows");
                assert_eq!(answer.len(), rows);
                answer.json_array().expect("JSON")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, valkey, postgres);
criterion_main!(benches);
