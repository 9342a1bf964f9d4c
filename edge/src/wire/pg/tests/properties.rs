//! Arbitrary bytes and arbitrary rows.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

use super::server::*;
use super::*;

/// A connection in each state that takes bytes.
fn in_state(state: usize) -> Connection {
    let mut connection = match state {
        0 => connection(login(SslMode::Require, Some(PASSWORD))),
        1 => {
            let mut connection = connection(login(SslMode::Require, Some(PASSWORD)));
            connection.handle_input(b"S").unwrap();
            connection
        }
        2 => connection(login(SslMode::Disable, Some(PASSWORD))),
        3..=5 => challenged(state),
        6 => {
            let mut connection = connection(login(SslMode::Disable, None));
            connection.handle_input(&authentication(0, &[])).unwrap();
            connection
        }
        _ => ready().0,
    };
    let before = match state {
        0..8 => return connection,
        8 => Vec::new(),
        9 => parse_complete(),
        10 => [parse_complete(), bind_complete()].concat(),
        11 => [
            parse_complete(),
            bind_complete(),
            row_description(&[("t", 25)]),
        ]
        .concat(),
        12 => [
            parse_complete(),
            bind_complete(),
            no_data(),
            command_complete("UPDATE 1"),
        ]
        .concat(),
        _ => error("ERROR", "22012", "no"),
    };
    connection.submit(&statement("SELECT", &[])).unwrap();
    connection.take_output();
    connection.handle_input(&before).unwrap();
    connection
}
const STATES: usize = 14;

/// In the middle of SCRAM: mechanism chosen, proof sent, signature seen.
fn challenged(state: usize) -> Connection {
    let mut connection = connection(login(SslMode::Disable, Some(PASSWORD)));
    let mut server = Server::new(Method::Scram);
    for _ in 3..state {
        let output = connection.take_output();
        connection.handle_input(&server.receive(&output)).unwrap();
    }
    if state == 3 {
        connection
            .handle_input(&authentication(10, b"SCRAM-SHA-256\0\0"))
            .unwrap();
    }
    connection
}

/// Bytes that are often nearly a message.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![
        proptest::sample::select(b"123ACcdDEGHIKnNRsStTZ".to_vec()),
        any::<u8>()
    ];
    let body = prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(
            proptest::sample::select(b"\0\0\0\0\x01\x04I-=,rsi".to_vec()),
            0..40
        ),
    ];
    let one = prop_oneof![
        4 => (tag, body).prop_map(|(tag, body)| message(tag, &body)),
        1 => vec(any::<u8>(), 0..20),
        1 => Just(data_row(&[Some(b"x")])),
        1 => Just(ready_for_query()),
        1 => Just(welcome()),
    ];
    vec(one, 0..6).prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        state in 0..STATES,
        chunks in vec(nearly_messages(), 1..8),
    ) {
        let mut connection = in_state(state);
        for chunk in chunks {
            let result = connection.handle_input(&chunk);
            prop_assert!(connection.held_bytes() <= crate::limits::PG_RESULT_BYTES_MAX + chunk.len());
            connection.take_output();
            while let Some(answer) = connection.take_answer() {
                if let Ok(rows) = answer {
                    let _ = rows.json_array();
                }
            }
            connection.tls_started();
            if result.is_err() {
                prop_assert_eq!(connection.wants(), Wants::Nothing);
                prop_assert!(connection.take_output().is_empty());
            }
            let _ = connection.submit(&statement("SELECT 1", &[None]));
        }
    }

    #[test]
    fn arbitrary_challenges_never_panic(
        nonce in prop_oneof![Just("{ours}theirs"), Just("{ours}"), Just("theirs")],
        salt in "[A-Za-z0-9+/=]{0,24}|.{0,8}",
        count in "[0-9]{0,4}|.{0,8}",
        before in "(m=x,)?",
        after in "(,.{0,8})?",
        last in prop_oneof!["v=[A-Za-z0-9+/=]{0,48}", "[ve]?=?.{0,8}"],
    ) {
        let nonce = nonce.replace("{ours}", "ZnJlc2ggZXZlcnkgdGltZQ==");
        let first = format!("{before}r={nonce},s={salt},i={count}{after}");
        let mut connection = challenged(3);
        connection.take_output();
        let taken = connection.handle_input(&authentication(11, first.as_bytes()));
        let proof = connection.take_output();
        let is_sane = before.is_empty() && after.is_empty() && nonce != "theirs";
        prop_assert!(taken.is_err() || is_sane);
        prop_assert_eq!(taken.is_err(), proof.is_empty());
        // Nobody guesses a signature.
        let checked = connection.handle_input(&authentication(12, last.as_bytes()));
        prop_assert!(checked.is_err());
    }

    #[test]
    fn cuts_do_not_change_what_arbitrary_bytes_mean(
        state in 6..STATES,
        bytes in nearly_messages(),
        size in 1..50_usize,
    ) {
        let run = |size: usize| {
            let mut connection = in_state(state);
            let error = bytes.chunks(size).find_map(|piece| connection.handle_input(piece).err());
            (error, std::iter::from_fn(move || connection.take_answer()).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(size), run(bytes.len().max(1)));
    }

    #[test]
    fn rows_come_back_as_they_were(
        fields in vec(vec(option::of(".*"), 3), 0..8),
        sizes in vec(1..100_usize, 1..10),
        parameters in vec(option::of(".*"), 0..5),
    ) {
        let raw: Vec<Vec<Option<&[u8]>>> = fields
            .iter()
            .map(|row| row.iter().map(|field| field.as_ref().map(String::as_bytes)).collect())
            .collect();
        let (mut connection, mut server) = ready();
        server.answers.push_back(rows(&[("a", 25), ("b", 25), ("ü\"", 25)], &raw));
        let asked = Statement { sql: "SELECT", parameters };
        connection.submit(&asked).unwrap();
        let outcome = drive(&mut connection, &mut server, &Cut::Sizes(sizes));
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(&server.statements[0].1, &asked.parameters);
        let rows = outcome.answers[0].as_ref().unwrap();
        prop_assert_eq!(rows.len(), fields.len());
        for (place, row) in fields.iter().enumerate() {
            for (column, field) in row.iter().enumerate() {
                prop_assert_eq!(rows.text(place, column), field.as_deref());
            }
        }
        let json: Vec<Value> = serde_json::from_slice(&rows.json_array().unwrap()).unwrap();
        prop_assert_eq!(json.len(), fields.len());
        for (object, row) in json.iter().zip(&fields) {
            for (key, field) in ["a", "b", "ü\""].iter().zip(row) {
                prop_assert_eq!(object[key].as_str(), field.as_deref());
            }
        }
    }

    #[test]
    fn json_is_json_or_an_error(
        type_oid in proptest::sample::select(vec![16, 20, 25, 114, 701, 1114, 1184, 1700, 3802]),
        text in prop_oneof![
            ".*", "[-+0-9.eE]{0,8}", r#"[\[\]{}",:0-9a ]{0,8}"#, "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.+BC ]{0,16}"
        ],
    ) {
        let answer = answer_to_one(&rows(&[("v", type_oid)], &[vec![Some(text.as_bytes())]]));
        if let Ok(json) = answer.answers[0].as_ref().unwrap().json_array() {
            let _: Vec<std::collections::HashMap<&str, &serde_json::value::RawValue>> =
                serde_json::from_slice(&json).unwrap();
        }
    }

    #[test]
    fn numbers_keep_every_digit(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?") {
        let answer = answer_to_one(&rows(&[("v", 1700)], &[vec![Some(text.as_bytes())]]));
        let json = answer.answers[0].as_ref().unwrap().json_array().unwrap();
        prop_assert_eq!(json, format!("[{{\"v\":{text}}}]").into_bytes());
    }
}
