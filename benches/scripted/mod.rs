//! What stores answer in benchmarks, as bytes made beforehand, and the loop that
//! hands them to a protocol without a network.

use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use edge::wire::{Machine, Wants, pg, resp};

/// Runs a machine against a script: the reads of one exchange.
pub fn exchange<M: Machine>(machine: &mut M, reads: &[Vec<u8>]) {
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

/// The reply to the log-in at Valkey.
pub const HELLO: &[u8] = b"%1\r\n+proto\r\n:3\r\n";

/// A new connection to Valkey.
pub fn valkey() -> resp::Connection {
    resp::Connection::new(resp::Login {
        user: None,
        password: Some("secret".to_owned()),
    })
}

pub fn gets(keys: usize) -> Vec<resp::Command> {
    let command = |n: usize| resp::Command::new("GET").arg(format!("session:{n}"));
    (0..keys).map(command).collect()
}

/// The replies to [`gets`].
pub fn values(keys: usize, value_bytes: usize) -> Vec<u8> {
    let mut reply = Vec::new();
    for _ in 0..keys {
        reply.extend_from_slice(format!("${value_bytes}\r\n").as_bytes());
        reply.extend(std::iter::repeat_n(b'x', value_bytes));
        reply.extend_from_slice(b"\r\n");
    }
    reply
}

/// A new connection to PostgreSQL.
pub fn postgres() -> pg::Connection {
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
    pg::Connection::new(login, scram)
}

pub fn page() -> pg::Statement {
    pg::Statement {
        sql: edge::tiers::postgres::PRODUCTS,
        parameters: vec![
            Some("belts".to_owned()),
            None,
            None,
            None,
            Some("100".to_owned()),
        ],
    }
}

/// One backend message ("Message Formats").
fn message(tag: u8, body: &[u8], output: &mut BytesMut) {
    output.put_u8(tag);
    output.put_i32(i32::try_from(body.len() + 4).expect("a short message"));
    output.put_slice(body);
}

/// Log-in without a password and the answer to [`page`], as one read.
pub fn products(rows: usize) -> Vec<u8> {
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
