//! Valkey's connection against whatever a server sends.

use edge::limits::RESP_FLIGHT_BYTES_MAX;
use edge::wire::resp::{Command, Connection, Login, Reply};
use edge::wire::{Machine, Wants, WireError};

use crate::allocator::{live_bytes, with_slack};
use crate::script::Script;

pub const PASSWORD: &str = "tr0ub4dor&3";

/// How this situation logs in.
fn login(situation: u8) -> Login {
    Login {
        user: (situation & 2 == 2).then(|| "edge".to_owned()),
        password: (situation & 1 == 1).then(|| PASSWORD.to_owned()),
    }
}

/// How many commands a flight has: up to four, or many.
fn commands(situation: u8) -> usize {
    match situation >> 2 & 7 {
        7 => 1000,
        few => usize::from(few & 3) + 1,
    }
}

fn submit(connection: &mut Connection, situation: u8) {
    let command = || Command::new("GET").arg("k");
    connection.submit((0..commands(situation)).map(|_| command()).collect());
}

/// A conversation of some flights, as `transport.rs` would have it.
pub fn converse(mut script: Script) {
    let mut connection = Connection::new(login(script.situation));
    submit(&mut connection, script.situation);
    let before = live_bytes();
    let mut later = 2;
    loop {
        connection.take_output();
        if connection.wants() == Wants::Nothing && later > 0 {
            let replies = connection.take_replies().expect("all have arrived");
            assert_eq!(replies.len(), commands(script.situation));
            later -= 1;
            submit(&mut connection, script.situation);
            continue;
        }
        let Some(chunk) = script.next_chunk() else {
            break;
        };
        let result = connection.handle_input(chunk);
        let (held, said) = (live_bytes().saturating_sub(before), connection.held_bytes());
        assert!(said <= RESP_FLIGHT_BYTES_MAX);
        assert!(
            held <= with_slack(said + 64 * commands(script.situation)),
            "{held} bytes held of {said}"
        );
        if let Err(error) = result {
            check_failed(connection, &error, script.situation);
            break;
        }
    }
}

/// A connection that failed has nothing to say, now and later.
fn check_failed(mut connection: Connection, error: &WireError, situation: u8) {
    let shown = format!("{error} {error:?} {connection:?}");
    let is_secret = login(situation).password.is_some();
    assert!(!(is_secret && shown.contains(PASSWORD)), "{shown}");
    for more in [&b""[..], b"+OK\r\n"] {
        assert_eq!(connection.handle_input(more), Err(error.clone()));
    }
    submit(&mut connection, 0);
    assert!(connection.take_output().is_empty());
    assert_eq!(connection.wants(), Wants::Nothing);
    assert_eq!(connection.take_replies(), None);
    assert_eq!(connection.held_bytes(), 0);
    assert_eq!(connection.handle_input(b"+OK\r\n"), Err(error.clone()));
}

/// What came of a script, for a comparison.
#[derive(Debug)]
pub struct Outcome {
    pub wrote: Vec<Vec<u8>>,
    pub replies: Vec<Option<Vec<Reply>>>,
    pub error: Option<WireError>,
    pub wants: Wants,
    pub held_bytes: usize,
}

/// Sends the chunks of a script, each cut into pieces of this size. We write
/// between chunks only, see [`crate::pg::outcome`].
pub fn outcome(mut script: Script, piece: usize) -> Outcome {
    let mut connection = Connection::new(login(script.situation));
    let mut outcome = Outcome {
        wrote: Vec::new(),
        replies: Vec::new(),
        error: None,
        wants: Wants::Nothing,
        held_bytes: 0,
    };
    while outcome.error.is_none() {
        if connection.wants() == Wants::Nothing {
            outcome.replies.push(connection.take_replies());
            submit(&mut connection, script.situation);
        }
        outcome.wrote.push(connection.take_output().to_vec());
        let Some(chunk) = script.next_chunk() else {
            break;
        };
        outcome.error = chunk
            .chunks(piece)
            .find_map(|piece| connection.handle_input(piece).err());
    }
    outcome.wants = connection.wants();
    outcome.held_bytes = connection.held_bytes();
    outcome
}
