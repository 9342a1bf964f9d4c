//! PostgreSQL's connection against whatever a server sends.

use std::rc::Rc;

use base64::prelude::{BASE64_STANDARD, Engine};
use edge::limits::PG_RESULT_BYTES_MAX;
use edge::wire::pg::{Cancel, Connection, Login, Rows, Scram, ServerError, SslMode, Statement};
use edge::wire::{Machine, Wants, WireError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::allocator::{live_bytes, with_slack};
use crate::grammar;
use crate::script::{Script, find};

pub const PASSWORD: &str = "wool and silk";
/// A server's bytes cannot know the client's nonce, nor the signature over it:
/// these stand for them, and are as long.
pub const NONCE_MARK: &[u8] = &[b'n'; 24];
pub const SIGNATURE_MARK: &[u8] = &[b'v'; 44];

/// The least that a row can cost a server, and what it then costs us: without
/// fields it needs no buffer.
const ROW_WIRE_BYTES: usize = 7;
const ROW_KEPT_BYTES: usize = size_of::<bytes::Bytes>();

/// Whether and how this situation begins with TLS, and how it logs in.
pub fn login(situation: u8) -> Login {
    Login {
        user: "alice".to_owned(),
        password: (situation & 4 == 4).then(|| PASSWORD.to_owned()),
        database: "shop".to_owned(),
        ssl: [
            SslMode::Disable,
            SslMode::Private,
            SslMode::Require,
            SslMode::VerifyFull,
        ][usize::from(situation & 3)],
    }
}

/// That of an isolate's first log-in; its clones are of the same isolate.
pub fn scram() -> Scram {
    Scram {
        nonce: *b"sixteen nonsense",
        nfkc: str::to_owned,
        remembered: Rc::default(),
    }
}

/// How many statements are submitted before the server says anything.
fn statements(situation: u8) -> usize {
    usize::from(situation >> 3 & 3)
}

/// The byte that answers SSLRequest is no message.
pub fn script(input: &[u8]) -> Option<Script> {
    let begins_with_tls = input.first()? & 2 == 2;
    Script::read(input, usize::from(begins_with_tls))
}

fn submit(connection: &mut Connection) -> Result<(), WireError> {
    connection.submit(&Statement {
        sql: "SELECT $1, $2",
        parameters: vec![None, Some("ü\0".to_owned())],
    })
}

/// A conversation, as `transport.rs` would have it.
pub fn converse(mut script: Script) {
    let login = login(script.situation);
    let ssl = login.ssl;
    let before = live_bytes();
    let mut connection = Connection::new(login, scram());
    let mut scram = Exchange::default();
    for _ in 0..statements(script.situation) {
        assert_eq!(submit(&mut connection), Ok(()));
    }
    let mut later = 2;
    loop {
        scram.watch(&connection.take_output(), &mut script);
        while let Some(answer) = connection.take_answer() {
            check_answer(answer);
        }
        if !connection.is_usable() {
            break;
        }
        match connection.wants() {
            Wants::Tls => {
                connection.tls_started();
                continue;
            }
            Wants::Nothing if later > 0 => {
                later -= 1;
                assert_eq!(submit(&mut connection), Ok(()));
                continue;
            }
            // Also when nothing was asked: notices may come at any time.
            Wants::Nothing | Wants::Input => {}
        }
        let Some(chunk) = script.next_chunk() else {
            break;
        };
        let result = connection.handle_input(chunk);
        let sent = script.sent().len();
        // All that was asked may have been answered with this chunk.
        let limit = (1 + statements(script.situation)) * PG_RESULT_BYTES_MAX;
        let charged = sent + sent / ROW_WIRE_BYTES * ROW_KEPT_BYTES;
        let held = live_bytes().saturating_sub(before);
        assert!(
            held <= with_slack(charged.min(limit)),
            "{held} bytes held after {sent} were sent"
        );
        if let Err(error) = result {
            check_broken(&mut connection, &error);
            break;
        }
    }
    if !connection.is_usable() {
        let error = connection.handle_input(b"").expect_err("errors stay");
        check_broken(&mut connection, &error);
    }
    if let Some(request) = connection.cancel_request() {
        cancel(Cancel::new(request, ssl), script);
    }
}

/// A connection that failed has nothing to say, now and later.
fn check_broken(connection: &mut Connection, error: &WireError) {
    for more in [&b""[..], b"Z\0\0\0\x05I"] {
        assert_eq!(connection.handle_input(more), Err(error.clone()));
    }
    assert_eq!(submit(connection), Err(error.clone()));
    assert!(!connection.is_usable());
    assert_eq!(connection.wants(), Wants::Nothing);
    connection.tls_started();
    assert!(connection.take_output().is_empty());
}

fn check_answer(answer: Result<Rows, ServerError>) {
    let Ok(rows) = answer else { return };
    let Ok(array) = rows.json_array() else { return };
    assert!(array.len() <= PG_RESULT_BYTES_MAX + 2);
    assert!(grammar::depth(&array).is_some(), "{}", array.escape_ascii());
    let object = rows.json_object(0).expect("a part of a sound array");
    if rows.is_empty() {
        assert_eq!((&array[..], &object[..]), (&b"[]"[..], &b"null"[..]));
    } else {
        assert!(array[1..].starts_with(&object));
    }
}

fn cancel(mut cancel: Cancel, mut script: Script) {
    let mut secret = cancel.wants() == Wants::Nothing;
    loop {
        // 16 bytes are the request with its secret, 8 are SSLRequest.
        let output = cancel.take_output();
        assert!(secret || output.len() <= 8);
        match cancel.wants() {
            Wants::Tls => {
                cancel.tls_started();
                secret = true;
            }
            Wants::Nothing => break,
            Wants::Input => {
                let Some(chunk) = script.next_chunk() else {
                    break;
                };
                if cancel.handle_input(chunk).is_err() {
                    break;
                }
            }
        }
    }
}

/// What came of a script, for a comparison.
#[derive(PartialEq, Debug)]
pub struct Outcome {
    wrote: Vec<usize>,
    answers: Vec<Result<Rows, ServerError>>,
    error: Option<WireError>,
    wants: Wants,
}

/// Sends the chunks of a script, each cut into pieces of this size. The keys of
/// an earlier log-in may be remembered, which is not to be seen. We write
/// between chunks only: what we write may depend on the cut, as nobody may
/// answer before being asked.
pub fn outcome(mut script: Script, piece: usize, scram: Scram) -> Outcome {
    let mut connection = Connection::new(login(script.situation), scram);
    let mut scram = Exchange::default();
    for _ in 0..statements(script.situation) {
        assert_eq!(submit(&mut connection), Ok(()));
    }
    let mut wrote = Vec::new();
    let mut answers = Vec::new();
    let mut error = None;
    while connection.is_usable() {
        let output = connection.take_output();
        wrote.push(output.len());
        scram.watch(&output, &mut script);
        if connection.wants() == Wants::Tls {
            connection.tls_started();
            continue;
        }
        let Some(chunk) = script.next_chunk() else {
            break;
        };
        error = chunk
            .chunks(piece)
            // Behind a fatal error nothing is read.
            .find_map(|piece| match connection.is_usable() {
                true => connection.handle_input(piece).err(),
                false => None,
            });
        answers.extend(std::iter::from_fn(|| connection.take_answer()));
    }
    Outcome {
        wrote,
        answers,
        error,
        wants: connection.wants(),
    }
}

/// The server's part of SCRAM that cannot stand in an input (RFC 5802).
#[derive(Default)]
struct Exchange {
    nonce: Vec<u8>,
}

impl Exchange {
    /// Looks at what the client wrote and fills in what follows from it.
    fn watch(&mut self, output: &[u8], script: &mut Script) {
        const FIRST: &[u8] = b"n,,n=,r=";
        if let Some(found) = find(output, FIRST) {
            self.nonce = output[found + FIRST.len()..][..NONCE_MARK.len()].to_vec();
            script.replace(NONCE_MARK, &self.nonce);
        } else if let Some(found) = find(output, b"c=biws,r=")
            && let Some(signature) = self.signature(&output[found..], script.sent())
        {
            script.replace(SIGNATURE_MARK, signature.as_bytes());
        }
    }

    fn signature(&self, client_final: &[u8], sent: &[u8]) -> Option<String> {
        let without_proof = &client_final[..find(client_final, b",p=")?];
        let begin = find(sent, &[b"r=", &self.nonce[..]].concat())?;
        // Tag, length and kind stand before it.
        let (header, server_first) = (sent.get(begin - 9..begin)?, &sent[begin..]);
        let length = u32::from_be_bytes(header[1..5].try_into().ok()?) as usize;
        let server_first = server_first.get(..length.checked_sub(8)?)?;
        let mut parts = std::str::from_utf8(server_first).ok()?.split(',').skip(1);
        let salt = BASE64_STANDARD
            .decode(parts.next()?.strip_prefix("s=")?)
            .ok()?;
        let iterations: u32 = parts.next()?.strip_prefix("i=")?.parse().ok()?;

        let mut last = hmac(PASSWORD.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
        let mut salted = last;
        for _ in 1..iterations {
            last = hmac(PASSWORD.as_bytes(), &last);
            salted = std::array::from_fn(|place| salted[place] ^ last[place]);
        }
        let transcript = [
            b"n=,r=",
            &self.nonce[..],
            b",",
            server_first,
            b",",
            without_proof,
        ]
        .concat();
        let key = hmac(&salted, b"Server Key");
        Some(BASE64_STANDARD.encode(hmac(&key, &transcript)))
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(text);
    mac.finalize().into_bytes().into()
}
