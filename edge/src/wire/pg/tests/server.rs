//! The other side: builds the server's messages, and plays its part of a log-in.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

pub const PASSWORD: &str = "wool and silk";
const MD5_SALT: [u8; 4] = [1, 2, 3, 4];

// Messages -----------------------------------------------------------------

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

pub fn parse_complete() -> Vec<u8> {
    message(b'1', &[])
}

pub fn bind_complete() -> Vec<u8> {
    message(b'2', &[])
}

pub fn no_data() -> Vec<u8> {
    message(b'n', &[])
}

pub fn row_description(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, type_oid) in columns {
        body.extend(name.as_bytes());
        body.push(0);
        body.extend([0; 6]);
        body.extend(type_oid.to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend((-1_i32).to_be_bytes());
        body.extend([0, 0]);
    }
    message(b'T', &body)
}

pub fn data_row(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            Some(bytes) => {
                body.extend((bytes.len() as i32).to_be_bytes());
                body.extend(*bytes);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    message(b'D', &body)
}

pub fn command_complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

pub fn ready_for_query() -> Vec<u8> {
    message(b'Z', b"I")
}

pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let body = format!("SFEHLER\0V{severity}\0C{sqlstate}\0M{text}\0Fx.c\0\0");
    message(b'E', body.as_bytes())
}

pub fn notice(text: &str) -> Vec<u8> {
    message(
        b'N',
        format!("SNOTICE\0VNOTICE\0C00000\0M{text}\0\0").as_bytes(),
    )
}

pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

pub fn notification() -> Vec<u8> {
    message(b'A', b"\0\0\0\x07channel\0payload\0")
}

pub fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// What follows AuthenticationOk.
pub fn welcome() -> Vec<u8> {
    [
        authentication(0, &[]),
        parameter_status("server_version", "15.0"),
        parameter_status("TimeZone", "UTC"),
        message(b'K', &[0, 0, 0, 42, 0, 0, 0, 43]),
        ready_for_query(),
    ]
    .concat()
}

/// The answer to a statement that gives rows, up to ReadyForQuery.
pub fn rows(columns: &[(&str, u32)], rows: &[Vec<Option<&[u8]>>]) -> Vec<u8> {
    let mut bytes = [parse_complete(), bind_complete(), row_description(columns)].concat();
    for row in rows {
        bytes.extend(data_row(row));
    }
    bytes.extend(command_complete(&format!("SELECT {}", rows.len())));
    bytes.extend(ready_for_query());
    bytes
}

// The server's part --------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Trust,
    Md5,
    ClearText,
    Scram,
}

/// What a SCRAM server does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    None,
    Signature,
    NoSignature,
    Nonce,
    ErrorInFinal,
}

#[derive(PartialEq, Eq, Debug)]
enum State {
    Begin,
    Password,
    ClientFirst,
    ClientFinal {
        client_first_bare: String,
        server_first: String,
    },
    Ready,
}

/// A server that checks what a client says and answers statements from a list.
pub struct Server {
    pub method: Method,
    pub password: &'static str,
    pub lie: Lie,
    pub salt: Vec<u8>,
    /// As it stands in the challenge.
    pub iterations: String,
    pub mechanisms: Vec<&'static str>,
    /// The byte that answers SSLRequest, and what is sent behind it.
    pub ssl_answer: &'static [u8],
    pub tls: bool,
    /// One for each Sync.
    pub answers: VecDeque<Vec<u8>>,
    pub startup: Vec<String>,
    /// Statement and parameters of each Bind.
    pub statements: Vec<(String, Vec<Option<String>>)>,
    state: State,
    input: Vec<u8>,
    sql: String,
}

impl Server {
    pub fn new(method: Method) -> Self {
        Self {
            method,
            password: PASSWORD,
            lie: Lie::None,
            salt: b"0123456789abcdef".to_vec(),
            iterations: "3".to_owned(),
            mechanisms: vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
            ssl_answer: b"S",
            tls: false,
            answers: VecDeque::new(),
            startup: Vec::new(),
            statements: Vec::new(),
            state: State::Begin,
            input: Vec::new(),
            sql: String::new(),
        }
    }

    pub fn trust() -> Self {
        Self::new(Method::Trust)
    }

    /// Takes what the client wrote; returns what the server writes.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend(bytes);
        let mut output = Vec::new();
        loop {
            let header = usize::from(self.state != State::Begin);
            let Some(length) = self.input.get(header..header + 4) else {
                break;
            };
            let total = u32::from_be_bytes(length.try_into().unwrap()) as usize + header;
            if self.input.len() < total {
                break;
            }
            let message: Vec<u8> = self.input.drain(..total).collect();
            let (head, body) = message.split_at(header + 4);
            output.extend(self.handle(head[0], body));
        }
        output
    }

    fn handle(&mut self, tag: u8, body: &[u8]) -> Vec<u8> {
        match (std::mem::replace(&mut self.state, State::Ready), tag) {
            (State::Begin, _) if body == 80_877_103_u32.to_be_bytes() => {
                assert!(self.input.is_empty(), "bytes behind SSLRequest");
                self.state = State::Begin;
                self.ssl_answer.to_vec()
            }
            (State::Begin, _) => self.begin(body),
            (State::Password, b'p') => self.check_password(&cstrings(body)[0]),
            (State::ClientFirst, b'p') => self.challenge(body),
            (
                State::ClientFinal {
                    client_first_bare,
                    server_first,
                },
                b'p',
            ) => self.check_proof(&client_first_bare, &server_first, body),
            (State::Password, b'P') => {
                self.input.clear();
                error(
                    "FATAL",
                    "08P01",
                    "expected password response, got message type 80",
                )
            }
            (State::Ready, b'P') => {
                self.sql = cstrings(body)[1].clone();
                Vec::new()
            }
            (State::Ready, b'B') => {
                self.statements.push((self.sql.clone(), parameters(body)));
                Vec::new()
            }
            (State::Ready, b'D' | b'E' | b'X') => Vec::new(),
            (State::Ready, b'S') => self.answers.pop_front().unwrap_or_default(),
            (state, tag) => panic!("{:?} in {state:?}", tag as char),
        }
    }

    fn begin(&mut self, body: &[u8]) -> Vec<u8> {
        let (version, parameters) = body.split_at(4);
        assert_eq!(version, [0, 3, 0, 0]);
        self.startup = cstrings(parameters);
        match self.method {
            Method::Trust => welcome(),
            Method::ClearText => {
                self.state = State::Password;
                authentication(3, &[])
            }
            Method::Md5 => {
                self.state = State::Password;
                authentication(5, &MD5_SALT)
            }
            Method::Scram => {
                assert!(
                    self.input.is_empty(),
                    "a statement before the mechanism is known"
                );
                self.state = State::ClientFirst;
                authentication(10, format!("{}\0\0", self.mechanisms.join("\0")).as_bytes())
            }
        }
    }

    fn check_password(&mut self, given: &str) -> Vec<u8> {
        let expected = match self.method {
            Method::Md5 => postgres_protocol::authentication::md5_hash(
                b"alice",
                self.password.as_bytes(),
                MD5_SALT,
            ),
            _ => self.password.to_owned(),
        };
        self.welcome_if(given == expected)
    }

    fn welcome_if(&mut self, known: bool) -> Vec<u8> {
        if known {
            welcome()
        } else {
            self.input.clear();
            error(
                "FATAL",
                "28P01",
                "password authentication failed for user \"alice\"",
            )
        }
    }

    /// RFC 5802, "SCRAM Authentication Exchange": the server-first message.
    fn challenge(&mut self, body: &[u8]) -> Vec<u8> {
        assert!(self.input.is_empty(), "a statement before the proof");
        assert_eq!(cstrings(body)[0], "SCRAM-SHA-256");
        let client_first = std::str::from_utf8(&body["SCRAM-SHA-256".len() + 5..]).unwrap();
        let bare = client_first
            .strip_prefix("n,,")
            .expect("no channel binding");
        let nonce = bare.strip_prefix("n=,r=").unwrap();
        let nonce = if self.lie == Lie::Nonce {
            "other"
        } else {
            nonce
        };
        let server_first = format!(
            "r={nonce}SERVER,s={},i={}",
            base64(&self.salt),
            self.iterations
        );
        self.state = State::ClientFinal {
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
        };
        authentication(11, server_first.as_bytes())
    }

    fn check_proof(&mut self, client_first_bare: &str, server_first: &str, body: &[u8]) -> Vec<u8> {
        let client_final = std::str::from_utf8(body).unwrap();
        let (without_proof, proof) = client_final.split_once(",p=").unwrap();
        assert!(without_proof.starts_with("c=biws,r="));
        let transcript = format!("{client_first_bare},{server_first},{without_proof}");
        let keys = Keys::new(self.password, &self.salt, self.iterations.parse().unwrap());
        if proof != base64(&keys.proof(&transcript)) {
            return self.welcome_if(false);
        }
        let mut signature = keys.signature(&transcript);
        signature[0] ^= u8::from(self.lie == Lie::Signature);
        let last = match self.lie {
            Lie::NoSignature => Vec::new(),
            Lie::ErrorInFinal => authentication(12, b"e=invalid-proof"),
            _ => authentication(12, format!("v={}", base64(&signature)).as_bytes()),
        };
        [last, welcome()].concat()
    }
}

fn cstrings(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

/// The parameters of a Bind of the unnamed statement.
fn parameters(body: &[u8]) -> Vec<Option<String>> {
    // Two empty names, no format codes, the count.
    assert_eq!(body[..4], [0, 0, 0, 0]);
    let count = u16::from_be_bytes([body[4], body[5]]);
    let mut rest = &body[6..];
    let parameters = (0..count)
        .map(|_| {
            let (length, after) = rest.split_at(4);
            rest = after;
            let length = i32::from_be_bytes(length.try_into().unwrap());
            let (text, after) = rest.split_at(usize::try_from(length).ok().unwrap_or(0));
            rest = after;
            (length >= 0).then(|| String::from_utf8(text.to_vec()).unwrap())
        })
        .collect();
    assert_eq!(rest, [0, 0], "no result format codes");
    parameters
}

// RFC 5802, "SCRAM Algorithm Overview", written a second time -----------------

struct Keys {
    client: [u8; 32],
    server: [u8; 32],
}

impl Keys {
    fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut last = hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = last;
        for _ in 1..iterations {
            last = hmac(password.as_bytes(), &last);
            salted = xor(salted, last);
        }
        Self {
            client: hmac(&salted, b"Client Key"),
            server: hmac(&salted, b"Server Key"),
        }
    }

    fn proof(&self, transcript: &str) -> [u8; 32] {
        let stored = <[u8; 32]>::from(Sha256::digest(self.client));
        xor(self.client, hmac(&stored, transcript.as_bytes()))
    }

    fn signature(&self, transcript: &str) -> [u8; 32] {
        hmac(&self.server, transcript.as_bytes())
    }
}

fn xor(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|place| a[place] ^ b[place])
}

/// RFC 2104, for keys that are no longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let pad = |mark: u8| -> Vec<u8> {
        (0..64)
            .map(|place| key.get(place).copied().unwrap_or(0) ^ mark)
            .collect()
    };
    let inner = Sha256::digest([&pad(0x36), text].concat());
    Sha256::digest([&pad(0x5c), inner.as_slice()].concat()).into()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, place| {
            bits << 8 | usize::from(group.get(place).copied().unwrap_or(0))
        });
        for place in 0..4 {
            text.push(match place <= group.len() {
                true => ALPHABET[bits >> (18 - 6 * place) & 63] as char,
                false => '=',
            });
        }
    }
    text
}
