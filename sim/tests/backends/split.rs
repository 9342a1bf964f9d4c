//! Both simulated stores, without the real ones: bytes cut anywhere mean the
//! same, and bytes that mean nothing end a connection and no more.

use std::rc::Rc;

use edge::tiers::{postgres as sql, valkey as scripts};
use edge::wire::Machine;
use edge::wire::pg::{self, SslMode, Statement};
use edge::wire::resp::{self, Command};
use sim::backends::{postgres, valkey};
use sim::dice::Dice;

const NOW_MS: u64 = 1_700_000_000_123;

/// What a fresh server answers to a flight that comes in these parts, and
/// whether it closes the connection.
type Answer = fn(&[&[u8]]) -> (Vec<u8>, bool);

fn of_valkey(parts: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut server, mut session) = (valkey::Server::new(), valkey::Session::new());
    let mut answer = Vec::new();
    for part in parts {
        session.handle_input(&mut server, part, NOW_MS);
        answer.extend(session.take_output());
    }
    (answer, session.is_closed())
}

fn of_postgres(parts: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut server, mut session) = (postgres::Server::new(), postgres::Session::new());
    server.put_user("u", NOW_MS);
    let mut answer = Vec::new();
    for part in parts {
        session.handle_input(&mut server, part, NOW_MS);
        answer.extend(session.take_output());
    }
    (answer, session.is_closed())
}

fn commands() -> Vec<u8> {
    let mut connection = resp::Connection::new(resp::Login {
        user: Some("default".to_owned()),
        password: Some("any".to_owned()),
    });
    let keys = ["copy".to_owned()];
    connection.submit(vec![
        Command::new("SET")
            .arg("k")
            .arg("a\r\nb")
            .arg("EX")
            .number(5),
        Command::new("GET").arg("k"),
        Command::new("PTTL").arg("k"),
        Command::new("TIME"),
        scripts::read_copy(("copy", None), "1", "token", (10, 10), 0),
        scripts::fill_copy("copy", "1", "token", b"{}", 1000),
        Command::new("HGETALL").arg("copy"),
        scripts::block(&keys, "writer", 1000),
        scripts::touch("k", 5, NOW_MS),
        scripts::touch("copy", 5, NOW_MS),
        Command::new("NOSUCH").arg(""),
        Command::new("HKEYS").arg("none"),
    ]);
    connection.take_output().to_vec()
}

fn statements() -> Vec<u8> {
    let login = pg::Login {
        user: "u".to_owned(),
        password: None,
        database: "d".to_owned(),
        ssl: SslMode::Disable,
    };
    let scram = pg::Scram {
        nonce: [0; 16],
        nfkc: str::to_owned,
        remembered: Rc::default(),
    };
    let mut connection = pg::Connection::new(login, scram);
    let order = ["o", "u", "[1]", "2.5", "new"].map(|text| Some(text.to_owned()));
    let wrong = ["o", "u", "[1", "2.5", "new"].map(|text| Some(text.to_owned()));
    let flight = [
        (sql::PROBE, vec![]),
        (sql::PLACE_ORDER, order.to_vec()),
        (sql::PLACE_ORDER, wrong.to_vec()),
        ("SELECT 2", vec![]),
        (sql::ORDERS, vec![Some("u".to_owned()), None]),
        (sql::PROFILE, vec![Some("u".to_owned())]),
    ];
    for (sql, parameters) in flight {
        let statement = Statement { sql, parameters };
        assert_eq!(connection.submit(&statement), Ok(()));
    }
    let ssl_request: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
    let terminate = pg::Connection::terminate();
    [ssl_request, &connection.take_output(), &terminate].concat()
}

#[test]
fn a_flight_that_is_cut_anywhere_has_the_same_answer() {
    for (answer, flight) in [
        (of_valkey as Answer, commands()),
        (of_postgres, statements()),
    ] {
        let whole = answer(&[&flight]);
        assert!(whole.0.len() > 300, "{}", whole.0.escape_ascii());
        for place in 0..=flight.len() {
            let (head, tail) = flight.split_at(place);
            assert_eq!(answer(&[head, tail]), whole, "cut at {place}");
        }
        let bytes: Vec<&[u8]> = flight.chunks(1).collect();
        assert_eq!(answer(&bytes), whole);
    }
}

/// The edge's own decoders accept every answer.
#[test]
fn the_edge_understands_the_answers() {
    let mut connection = resp::Connection::new(resp::Login {
        user: None,
        password: None,
    });
    connection.submit(vec![scripts::read_copy(
        ("copy", None),
        "1",
        "token",
        (10, 10),
        0,
    )]);
    let (answer, _) = of_valkey(&[&connection.take_output()]);
    connection.handle_input(&answer).expect("RESP3");
    let replies = connection.take_replies().expect("a whole flight");
    let copy = scripts::copy(&replies[0]).expect("a copy");
    assert_eq!(copy.found, None);
    assert_eq!(copy.lease, scripts::Lease::Granted);
}

#[test]
fn a_server_that_loads_lets_in_and_answers_nothing() {
    let (mut server, mut session) = (valkey::Server::new(), valkey::Session::new());
    server.set("k", b"v", None, NOW_MS);
    server.fail(Some(valkey::Failure::Loading));
    let flight = b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\
        *3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n*1\r\n$4\r\nPING\r\n";
    session.handle_input(&mut server, flight, NOW_MS);
    let answer = String::from_utf8(session.take_output()).expect("text");
    let loading = "-LOADING Valkey is loading the dataset in memory\r\n";
    assert!(answer.starts_with("*14\r\n"), "{answer}");
    assert!(answer.ends_with(&loading.repeat(3)), "{answer}");
    server.fail(None);
    assert_eq!(server.get("k", NOW_MS).as_deref(), Some(b"v".as_slice()));
    assert_eq!(server.commands(), 4);
}

/// Flights with some bytes changed, cut off or twice there.
#[test]
fn nothing_from_outside_panics() {
    let mut dice = Dice::seeded(3);
    for (answer, flight) in [
        (of_valkey as Answer, commands()),
        (of_postgres, statements()),
    ] {
        let length = u32::try_from(flight.len()).expect("a short flight");
        for _ in 0..1500 {
            let mut bytes = flight.clone();
            for _ in 0..=dice.below(3) {
                let place = dice.below(length) as usize;
                match dice.below(3) {
                    0 => bytes.truncate(place),
                    1 => {
                        if let Some(byte) = bytes.get_mut(place) {
                            *byte = dice.choose(&[0, b'0', b'-', b'$', b'*', b'\r', 0x7f, 0xff]);
                        }
                    }
                    _ => {
                        let tail = bytes.get(place..).unwrap_or_default().to_vec();
                        bytes.extend(tail);
                    }
                }
            }
            let whole = answer(&[&bytes]);
            let cut = dice.below(length) as usize;
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            assert_eq!(answer(&[head, tail]), whole);
        }
    }
}
