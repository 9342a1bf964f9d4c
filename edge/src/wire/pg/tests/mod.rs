//! Transcripts, hostile servers and arbitrary bytes against [`super::Connection`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod hostile;
mod json;
mod log_in;
mod properties;
mod server;
mod statements;

use std::rc::Rc;

use unicode_normalization::UnicodeNormalization;

use super::{Connection, Login, Rows, Scram, ServerError, SslMode, Statement};
use crate::wire::{Machine, Wants, WireError};
use server::Server;

/// Where the server's bytes are cut on their way.
#[derive(Clone, Debug)]
enum Cut {
    Nowhere,
    Everywhere,
    /// Once, after so many bytes of the whole conversation.
    After(usize),
    /// Into pieces of these sizes, over and over.
    Sizes(Vec<usize>),
}

impl Cut {
    fn piece(&self, turn: usize, position: usize, available: usize) -> usize {
        match self {
            Self::Nowhere => available,
            Self::Everywhere => 1,
            Self::After(cut) if *cut > position => available.min(cut - position),
            Self::After(_) => available,
            Self::Sizes(sizes) => sizes[turn % sizes.len()].clamp(1, available),
        }
    }
}

/// What came of a conversation.
#[derive(PartialEq, Debug)]
struct Outcome {
    /// How often the client wrote: each time, the server has to be waited for.
    flights: usize,
    answers: Vec<Result<Rows, ServerError>>,
    error: Option<WireError>,
    /// Bytes that the server sent.
    received: usize,
    /// Whether everything submitted was answered.
    done: bool,
}

/// Moves bytes between the two until the client wants nothing, an error ends
/// it, or the server has nothing to say.
fn drive(connection: &mut Connection, server: &mut Server, cut: &Cut) -> Outcome {
    let mut outcome = Outcome {
        flights: 0,
        answers: Vec::new(),
        error: None,
        received: 0,
        done: false,
    };
    let mut arriving: Vec<u8> = Vec::new();
    for turn in 0.. {
        let output = connection.take_output();
        if !output.is_empty() {
            outcome.flights += 1;
            arriving.extend(server.receive(&output));
        }
        outcome
            .answers
            .extend(std::iter::from_fn(|| connection.take_answer()));
        match connection.wants() {
            Wants::Tls => {
                server.tls = true;
                connection.tls_started();
                continue;
            }
            Wants::Nothing => {
                outcome.done = true;
                break;
            }
            Wants::Input if arriving.is_empty() => break,
            Wants::Input => {}
        }
        let size = cut.piece(turn, outcome.received, arriving.len());
        let piece: Vec<u8> = arriving.drain(..size).collect();
        outcome.received += size;
        if let Err(error) = connection.handle_input(&piece) {
            assert_eq!(
                connection.handle_input(b"more"),
                Err(error.clone()),
                "errors stay"
            );
            assert!(!connection.is_usable());
            outcome.error = Some(error);
            break;
        }
    }
    outcome
}

fn login(ssl: SslMode, password: Option<&str>) -> Login {
    Login {
        user: "alice".to_owned(),
        password: password.map(str::to_owned),
        database: "shop".to_owned(),
        ssl,
    }
}

/// The first connection of an isolate.
fn connection(login: Login) -> Connection {
    Connection::new(login, scram())
}

fn scram() -> Scram {
    Scram {
        nonce: *b"fresh every time",
        nfkc: |text| text.nfkc().collect(),
        remembered: Rc::default(),
    }
}

fn statement(sql: &'static str, parameters: &[Option<&str>]) -> Statement {
    Statement {
        sql,
        parameters: parameters
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect(),
    }
}

/// A connection that is logged in and idle.
fn ready() -> (Connection, Server) {
    let mut server = Server::trust();
    let mut connection = connection(login(SslMode::Disable, None));
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    assert!(outcome.done && outcome.error.is_none(), "{outcome:?}");
    (connection, server)
}

/// Feeds an answer to one statement on a fresh connection.
fn answer_to_one(bytes: &[u8]) -> Outcome {
    let (mut connection, mut server) = ready();
    server.answers.push_back(bytes.to_vec());
    connection.submit(&statement("SELECT 1", &[])).unwrap();
    drive(&mut connection, &mut server, &Cut::Nowhere)
}
