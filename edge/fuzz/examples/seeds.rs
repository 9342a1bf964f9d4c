//! Writes seeds/: what real and hostile servers and callers send, in the form
//! that each target reads. Their meaning stands here; the files are made by
//! `cargo run --manifest-path edge/fuzz/Cargo.toml --example seeds`.

use std::{fs, io};

use edge_fuzz::pg::{NONCE_MARK, SIGNATURE_MARK};
use edge_fuzz::resp::PASSWORD;

fn main() -> io::Result<()> {
    let (pg, resp) = (pg(), resp());
    for (name, bytes) in &pg {
        save("pg", name, bytes)?;
        save("split", &format!("pg-{name}"), &[&[0], &bytes[..]].concat())?;
    }
    for (name, bytes) in &resp {
        save("resp", name, bytes)?;
        save(
            "split",
            &format!("resp-{name}"),
            &[&[1], &bytes[..]].concat(),
        )?;
    }
    for (name, times, text) in JSON {
        save("json", name, &[&[*times], text.as_bytes()].concat())?;
    }
    for (name, bytes) in target() {
        save("target", name, &bytes)?;
    }
    Ok(())
}

fn save(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = format!("{}/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(&directory)?;
    fs::write(format!("{directory}/{name}"), bytes)
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

// PostgreSQL ---------------------------------------------------------------

const PRIVATE: u8 = 1;
const TLS: u8 = 3;
const PASSWORD_SET: u8 = 4;
const ONE: u8 = 1 << 3;
const TWO: u8 = 2 << 3;
/// The form in which lengths are left to the script.
const FRAMED: u8 = 1;

/// A message: tag and body.
type Message = (u8, Vec<u8>);

fn authentication(code: u8, data: &[u8]) -> Message {
    (b'R', [&[0, 0, 0, code], data].concat())
}

fn welcome() -> Vec<Message> {
    vec![
        authentication(0, b""),
        (b'S', b"server_version\x0015.0\0".to_vec()),
        (b'S', b"TimeZone\0UTC\0".to_vec()),
        (b'K', vec![0, 0, 0, 42, 0, 0, 0, 43]),
        ready(),
    ]
}

fn ready() -> Message {
    (b'Z', b"I".to_vec())
}

fn columns(columns: &[(&str, u16)]) -> Message {
    let mut body = vec![0, columns.len() as u8];
    for (name, type_oid) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 9]);
        body.extend(type_oid.to_be_bytes());
        body.extend([0xFF; 6]);
        body.extend([0; 2]);
    }
    (b'T', body)
}

fn row(fields: &[Option<&str>]) -> Message {
    let mut body = vec![0, fields.len() as u8];
    for field in fields {
        match field {
            Some(text) => {
                body.extend((text.len() as u32).to_be_bytes());
                body.extend(text.as_bytes());
            }
            None => body.extend([0xFF; 4]),
        }
    }
    (b'D', body)
}

/// Parsed, bound, described, executed, ready.
fn answer(described: Message, rows: &[Message], tag: &str) -> Vec<Message> {
    let mut messages = vec![(b'1', vec![]), (b'2', vec![]), described];
    messages.extend_from_slice(rows);
    messages.push((b'C', [tag.as_bytes(), b"\0"].concat()));
    messages.push(ready());
    messages
}

fn one_row() -> Vec<Message> {
    answer(
        columns(&[("id", 23), ("name", 1043)]),
        &[row(&[Some("1"), Some("ü \" \\")]), row(&[None, None])],
        "SELECT 2",
    )
}

fn all_types() -> Vec<Message> {
    let types = [
        (16, "t"),
        (20, "9007199254740993"),
        (701, "-1.5e-07"),
        (1700, "19.90"),
        (3802, "{\"a\": [1, null]}"),
        (1114, "2026-01-02 03:04:05.678"),
        (1184, "2026-01-02 03:04:05+00"),
    ];
    let described: Vec<_> = types.iter().map(|(oid, _)| ("v", *oid)).collect();
    let fields: Vec<_> = types.iter().map(|(_, text)| Some(*text)).collect();
    answer(columns(&described), &[row(&fields)], "SELECT 1")
}

fn failed(severity: &str, sqlstate: &str) -> Message {
    let body = format!("SFEHLER\0V{severity}\0C{sqlstate}\0Mtext\0Fx.c\0\0");
    (b'E', body.into_bytes())
}

fn notice() -> Message {
    (b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhi\0\0".to_vec())
}

fn scram() -> Vec<Message> {
    let nonce = str::from_utf8(NONCE_MARK).unwrap_or_default();
    let first = format!("r={nonce}SERVER,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=3");
    let last = [b"v=", SIGNATURE_MARK].concat();
    vec![
        authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        authentication(11, first.as_bytes()),
        authentication(12, &last),
    ]
}

/// The tag, a length of one byte, the body: see `Script::read`.
fn framed(messages: &[Vec<Message>]) -> Vec<u8> {
    let message = |(tag, body): &Message| [&[*tag, body.len() as u8], &body[..]].concat();
    messages.iter().flatten().flat_map(message).collect()
}

fn raw(messages: &[Vec<Message>]) -> Vec<u8> {
    let message = |(tag, body): &Message| {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[*tag][..], &length, body].concat()
    };
    messages.iter().flatten().flat_map(message).collect()
}

/// The messages, with a notice in front that makes them fill chunks of a size.
fn aligned(size: usize, messages: &[Vec<Message>]) -> Vec<Message> {
    let bytes = 5 + raw(messages).len();
    let fill = (bytes + 2).next_multiple_of(size) - bytes;
    let notice = [&vec![b'M'; fill - 2][..], b"\0\0"].concat();
    let messages = messages.iter().flatten().cloned();
    std::iter::once((b'N', notice)).chain(messages).collect()
}

fn pg() -> Seeds {
    let script = |header: [u8; 5], bytes: Vec<u8>| [&header[..], &bytes].concat();
    let in_frames = |situation: u8, messages: &[Vec<Message>]| {
        let tls = if situation & 2 == 2 { &b"S"[..] } else { b"" };
        script(
            [situation, FRAMED, 16, 0, 0],
            [tls, &framed(messages)].concat(),
        )
    };
    let md5 = vec![authentication(5, &[1, 2, 3, 4])];
    let clear_text = vec![authentication(3, b"")];
    let insert = answer((b'n', vec![]), &[], "INSERT 0 1");
    let error = vec![(b'1', vec![]), failed("ERROR", "22012"), ready()];
    let empty = vec![
        (b'1', vec![]),
        (b'2', vec![]),
        (b'n', vec![]),
        (b'I', vec![]),
        ready(),
    ];
    let begun = answer(columns(&[]), &[row(&[])], "");
    let begun = begun[..4].to_vec();
    let begun_null = answer(columns(&[("a", 25)]), &[row(&[None])], "");
    let begun_null = begun_null[..4].to_vec();
    vec![
        ("trust", in_frames(TWO, &[welcome(), one_row(), insert])),
        ("types", in_frames(ONE, &[welcome(), all_types()])),
        (
            "md5",
            in_frames(PASSWORD_SET | ONE, &[md5, welcome(), one_row()]),
        ),
        (
            "clear-text-private",
            in_frames(
                PRIVATE | PASSWORD_SET | ONE,
                &[clear_text.clone(), welcome(), error.clone()],
            ),
        ),
        (
            "clear-text-tls",
            in_frames(TLS | PASSWORD_SET, &[clear_text, welcome(), error, empty]),
        ),
        (
            "scram",
            in_frames(PASSWORD_SET | ONE, &[scram(), welcome(), one_row()]),
        ),
        (
            "scram-tls",
            in_frames(TLS | PASSWORD_SET | ONE, &[scram(), welcome(), all_types()]),
        ),
        (
            "refused",
            in_frames(PASSWORD_SET, &[vec![failed("FATAL", "28P01")]]),
        ),
        (
            "fatal",
            in_frames(TWO, &[welcome(), one_row(), vec![failed("FATAL", "57P01")]]),
        ),
        (
            "notices",
            in_frames(
                0,
                &[
                    vec![notice()],
                    welcome(),
                    vec![notice(), (b'A', b"\0\0\0\x07channel\0payload\0".to_vec())],
                    one_row(),
                ],
            ),
        ),
        (
            "bytewise",
            script([ONE, 0, 1, 1, 0], raw(&[welcome(), all_types()])),
        ),
        (
            "raw",
            script([TWO, 0, 0, 7, 0], raw(&[welcome(), one_row(), one_row()])),
        ),
        // The last seven bytes, 2¹⁵ times.
        (
            "many-rows",
            script([ONE, 0xF0, 1, 1, 7], raw(&[welcome(), begun.clone()])),
        ),
        // The same in reads of one row each, which keeps each read's buffer.
        (
            "rows-alone",
            script(
                [ONE, 0xA0, 11, 11, 11],
                [
                    raw(&[aligned(11, &[welcome(), begun_null.clone()])]),
                    raw(&[begun_null[3..].to_vec()]),
                ]
                .concat(),
            ),
        ),
        ("tls-refused", script([TLS, 0, 0, 0, 0], b"N".to_vec())),
        (
            "tls-injected",
            script([TLS, 0, 0, 0, 0], [b"S", &raw(&[welcome()])[..]].concat()),
        ),
    ]
}

// Valkey -------------------------------------------------------------------

const WELCOME: &[u8] = b"%7\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n8.1.0\r\n\
    $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
const UNKNOWN_HELLO: &[u8] = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
const NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";

fn resp() -> Seeds {
    let script = |header: [u8; 5], parts: &[&[u8]]| [&header[..], &parts.concat()].concat();
    let with_password = 3;
    let commands = |count: u8| (count - 1) << 2;
    let many = 7 << 2;
    let wrong = format!("-WRONGPASS {PASSWORD} is not it\r\n");
    vec![
        (
            "resp3",
            script(
                [with_password | commands(4), 0, 16, 0, 0],
                &[
                    WELCOME,
                    b"$5\r\nhello\r\n_\r\n:-42\r\n#t\r\n",
                    b",1.5\r\n(12\r\n=6\r\ntxt:hi\r\n~2\r\n+a\r\n*1\r\n%1\r\n:1\r\n,nan\r\n",
                ],
            ),
        ),
        (
            "resp2",
            script(
                [commands(2), 0, 0, 3, 0],
                &[UNKNOWN_HELLO, b"$-1\r\n*-1\r\n*2\r\n:1\r\n:2\r\n+OK\r\n"],
            ),
        ),
        (
            "resp2-auth",
            script(
                [1 | commands(2), 0, 70, 0, 0],
                &[
                    UNKNOWN_HELLO,
                    b"  ",
                    NOAUTH,
                    NOAUTH,
                    b"+OK\r\n$1\r\na\r\n$-1\r\n",
                ],
            ),
        ),
        (
            "pushes",
            script(
                [commands(1), 0, 9, 1, 0],
                &[
                    WELCOME,
                    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:1\r\n>1\r\n+bye\r\n",
                    b"|1\r\n+ttl\r\n:3600\r\n*2\r\n+a\r\n|1\r\n+k\r\n*0\r\n!7\r\nERR a\r\n\r\n",
                ],
            ),
        ),
        (
            "errors",
            script(
                [commands(3), 0, 0, 0, 0],
                &[
                    WELCOME,
                    b"-WRONGTYPE Operation\r\n-OOM\r\n!5\r\nE a\r\n\r\n",
                ],
            ),
        ),
        (
            "wrong-password",
            script([with_password, 0, 0, 0, 0], &[wrong.as_bytes()]),
        ),
        (
            "loading",
            script([0, 0, 0, 0, 0], &[b"-LOADING Valkey is loading\r\n"]),
        ),
        // The tails, many times.
        (
            "nulls",
            script([0, 0xF0, 1, 1, 3], &[WELCOME, b"*16384\r\n_\r\n"]),
        ),
        (
            "arrays-of-one",
            script(
                [many, 0xF0, 1, 1, 31],
                &[WELCOME, b"*16384\r\n", &b"*1\r\n".repeat(7), b"_\r\n"],
            ),
        ),
        (
            "maps",
            script([many, 0xF0, 1, 200, 12], &[WELCOME, b"%1\r\n:1\r\n:2\r\n"]),
        ),
        ("nested", script([0, 0x50, 0, 0, 4], &[WELCOME, b"*1\r\n"])),
        (
            "announced",
            script([0, 0, 0, 0, 0], &[WELCOME, b"$12582912\r\nx"]),
        ),
        (
            "long-line",
            script([0, 0xF0, 50, 0, 9], &[WELCOME, b"+123456789"]),
        ),
        (
            "http",
            script([0, 0, 0, 0, 0], &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
        ),
    ]
}

// Requests -----------------------------------------------------------------

const JSON: &[(&str, u8, &str)] = &[
    (
        "object",
        0,
        r#"{"a": 1.0e0 , "b":{"y":1, "x":-0}, "a":2, "n":null}"#,
    ),
    (
        "array",
        0,
        r#"[1, "two", {"3": [4]}, null, true, false, -5.5E+5]"#,
    ),
    (
        "string",
        0,
        r#""ü \" \\ \/ \b\f\n\r\t \u00fc \ud83d\ude00""#,
    ),
    ("lone-surrogate", 0, r#"{"v":"\ud800"}"#),
    ("lone-surrogate-name", 0, r#"{"\ud800":1}"#),
    ("large-number", 0, "[1e999, 18446744073709551616, -0.0]"),
    ("broken", 0, r#"{"a":01, }"#),
    (
        "batch",
        0,
        r#"{"operations":[{"type":"set","key":"k","value":{},"ttl":"60"}]}"#,
    ),
    ("deepest", 0xFC, "[]"),
    ("too-deep", 0xFD, "[]"),
    ("brackets-in-string", 0xF8, "\"[[[[{{\\\""),
];

fn target() -> Seeds {
    const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "HEAD"];
    let request = |method: &str, url: &str, body: &str, valkey: &[u8], postgres: Vec<u8>| {
        let method = METHODS.iter().position(|one| *one == method).unwrap_or(0);
        [
            &[method as u8, 3],
            url.as_bytes(),
            &[0xFF],
            body.as_bytes(),
            &[0xFF],
            WELCOME,
            valkey,
            &[0xFF],
            &postgres,
        ]
        .concat()
    };
    let none = Vec::new;
    let rows = || raw(&[welcome(), all_types()]);
    let no_copy = b"*2\r\n:-1\r\n:1\r\n";
    vec![
        ("openapi", request("GET", "/openapi.json", "", b"", none())),
        (
            "health",
            request(
                "HEAD",
                "/api/vultr/postgres/health",
                "",
                b"+PONG\r\n",
                rows(),
            ),
        ),
        (
            "stats",
            request("GET", "/api/vultr/postgres/stats", "", b"", rows()),
        ),
        (
            "metrics",
            request("GET", "/api/vultr/valkey/metrics", "", b"", none()),
        ),
        (
            "products",
            request(
                "GET",
                "/api/vultr/postgres/products?category=Sh%C3%B6es&brand=a+b&minPrice=1.5&maxPrice=2e3&limit=7",
                "",
                no_copy,
                rows(),
            ),
        ),
        (
            "profile",
            request(
                "GET",
                "/api/vultr/postgres/users/u%2F1/profile/",
                "",
                b"*2\r\n:5\r\n$2\r\n{}\r\n",
                none(),
            ),
        ),
        (
            "save-profile",
            request(
                "POST",
                "/api/vultr/postgres/users/u1/profile",
                r#"{"preferences":{"a":1},"bodyMeasurements":null}"#,
                b":1\r\n",
                rows(),
            ),
        ),
        (
            "orders",
            request(
                "GET",
                "/api/vultr/postgres/users/u1/orders?limit=0",
                "",
                no_copy,
                rows(),
            ),
        ),
        (
            "order",
            request(
                "POST",
                "/api/vultr/postgres/orders",
                r#"{"user_id":"u1","items":[],"total_amount":19.90,"status":"pending"}"#,
                b":1\r\n",
                rows(),
            ),
        ),
        (
            "returns",
            request(
                "GET",
                "/api/vultr/postgres/returns?userId=u&productId=p",
                "",
                b"",
                rows(),
            ),
        ),
        (
            "return",
            request(
                "POST",
                "/api/vultr/postgres/returns",
                r#"{"order_id":"o","user_id":"u","product_id":"p","reason":"too small"}"#,
                b":1\r\n",
                raw(&[welcome(), vec![failed("ERROR", "23503"), ready()]]),
            ),
        ),
        (
            "sql",
            request("POST", "/api/vultr/postgres/batch", "{}", b"", none()),
        ),
        (
            "session",
            request(
                "GET",
                "/api/vultr/valkey/session/s1",
                "",
                b"$7\r\n{\"a\":1}\r\n:60000\r\n",
                none(),
            ),
        ),
        (
            "store-session",
            request(
                "POST",
                "/api/vultr/valkey/session/s1",
                r#"{"userId":"u","ttl":60}"#,
                b"+OK\r\n",
                none(),
            ),
        ),
        (
            "touch",
            request(
                "POST",
                "/api/vultr/valkey/session/s1/touch",
                "",
                b":1\r\n",
                none(),
            ),
        ),
        (
            "conversation",
            request(
                "POST",
                "/api/vultr/valkey/cache/conversation/u",
                r#"{"context":{"a":1},"ttl":"60"}"#,
                b"+OK\r\n",
                none(),
            ),
        ),
        (
            "preferences",
            request(
                "GET",
                "/api/vultr/valkey/cache/preferences/u",
                "",
                b"$4\r\nnull\r\n:-1\r\n",
                none(),
            ),
        ),
        (
            "generic",
            request(
                "GET",
                "/api/vultr/valkey/cache/a%252Fb/c",
                "",
                b"$3\r\na b\r\n:-1\r\n",
                none(),
            ),
        ),
        (
            "delete",
            request("DELETE", "/api/vultr/valkey/cache/k", "", b":1\r\n", none()),
        ),
        (
            "own-key",
            request(
                "GET",
                "/api/vultr/valkey/cache/shepherd-edge%3Ax",
                "",
                b"",
                none(),
            ),
        ),
        (
            "batch",
            request(
                "POST",
                "/api/vultr/valkey/batch",
                r#"{"operations":[{"type":"get","key":"a"},{"type":"set","key":"b","value":[1],"ttl":5},{"type":"delete","key":"c"},1]}"#,
                b"$1\r\n1\r\n:-1\r\n+OK\r\n:1\r\n",
                none(),
            ),
        ),
    ]
}
