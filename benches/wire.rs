//! What the two protocols cost without a network: one whole exchange on a new
//! connection, from the log-in to the last reply, bytes made beforehand.

#![allow(clippy::expect_used, clippy::indexing_slicing)] // A benchmark of a wrong answer must stop.

use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edge::wire::{Machine, Wants, pg, resp};

/// Runs a machine against a script: the reads of one exchange.
fn exchange<M: Machine>(machine: &mut M, reads: &[Vec<u8>]) {
    let mut reads = reads.iter();
    loop {
        machine.take_output();
        match machine.wants() {
            Wants::Nothing => return,
            Wants::Tls => machine.tls_started(),
            Wants::Input => {
                let read = reads.next().expect("the script is long enough");
                machine.handle_input(read).expect("the script is right");
            }
        }
    }
}

fn valkey(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("valkey");
    for (name, keys, value_bytes) in [("get 1 KiB", 1, 1024), ("batch of 50 × 1 KiB", 50, 1024)] {
        let mut reply = b"%1\r\n+proto\r\n:3\r\n".to_vec();
        for _ in 0..keys {
            reply.extend_from_slice(format!("${value_bytes}\r\n").as_bytes());
            reply.extend(std::iter::repeat_n(b'x', value_bytes));
            reply.extend_from_slice(b"\r\n");
        }
        let login = resp::Login {
            user: None,
            password: Some("secret".to_owned()),
        };
        group.throughput(Throughput::Bytes(reply.len() as u64));
        let reads = [reply];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut connection = resp::Connection::new(login.clone());
                let command = |n: usize| resp::Command::new("GET").arg(format!("session:{n}"));
                connection.submit((0..keys).map(command).collect());
                exchange(&mut connection, &reads);
                let replies = connection.take_replies().expect("replies");
                assert_eq!(replies.len(), keys);
                replies
            });
        });
    }
    group.finish();
}

/// One backend message ("Message Formats").
fn message(tag: u8, body: &[u8], output: &mut BytesMut) {
    output.put_u8(tag);
    output.put_i32(i32::try_from(body.len() + 4).expect("a short message"));
    output.put_slice(body);
}

/// Log-in without a password and an answer of `rows` products, as one read.
fn products(rows: usize) -> Vec<u8> {
    const TEXT: i32 = 25;
    const NUMERIC: i32 = 1700;
    const JSONB: i32 = 3802;
    let columns: [(&str, i32, &str); 5] = [
        ("id", TEXT, "product-0001"),
        ("name", TEXT, "Aster & Vale white leather belt"),
        (
            "description",
            TEXT,
            "A belt of white leather, with a \"brass\" buckle",
        ),
        ("price", NUMERIC, "19.99"),
        ("sizes", JSONB, r#"["S", "M", "L"]"#),
    ];
    let mut output = BytesMut::new();
    message(b'R', &0_i32.to_be_bytes(), &mut output);
    message(b'Z', b"I", &mut output);
    message(b'1', b"", &mut output);
    message(b'2', b"", &mut output);
    let mut body = BytesMut::new();
    body.put_i16(5);
    for (name, kind, _) in columns {
        body.put_slice(name.as_bytes());
        body.put_slice(&[0; 7]);
        body.put_i32(kind);
        body.put_slice(&[0; 8]);
    }
    message(b'T', &body, &mut output);
    for _ in 0..rows {
        let mut body = BytesMut::new();
        body.put_i16(5);
        for (_, _, value) in columns {
            body.put_i32(i32::try_from(value.len()).expect("a short value"));
            body.put_slice(value.as_bytes());
        }
        message(b'D', &body, &mut output);
    }
    message(b'C', format!("SELECT {rows}\0").as_bytes(), &mut output);
    message(b'Z', b"I", &mut output);
    output.to_vec()
}

fn postgres(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("postgres");
    for (name, rows) in [("1 row as JSON", 1), ("100 rows as JSON", 100)] {
        let login = pg::Login {
            user: "shop".to_owned(),
            password: None,
            database: "shop".to_owned(),
            ssl: pg::SslMode::Disable,
        };
        let scram = pg::Scram {
            nonce: [0; 16],
            nfkc: str::to_owned,
            remembered: Rc::default(),
        };
        let statement = pg::Statement {
            sql: edge::tiers::postgres::PRODUCTS,
            parameters: vec![
                Some("belts".to_owned()),
                None,
                None,
                None,
                Some("100".to_owned()),
            ],
        };
        let reads = [products(rows)];
        group.throughput(Throughput::Bytes(reads[0].len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut connection = pg::Connection::new(login.clone(), scram.clone());
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
