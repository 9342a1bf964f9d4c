//! Statements and their answers on a connection that is logged in.

use super::server::*;
use super::*;

const TEXT: u32 = 25;

fn select_one(text: &str) -> Vec<u8> {
    rows(&[("t", TEXT)], &[vec![Some(text.as_bytes())]])
}

fn failing(severity: &str, sqlstate: &str) -> Vec<u8> {
    [
        parse_complete(),
        error(severity, sqlstate, "no"),
        ready_for_query(),
    ]
    .concat()
}

fn first_text(answer: &Result<Rows, ServerError>) -> Option<&str> {
    answer.as_ref().unwrap().text(0, 0)
}

#[test]
fn one_flight_each_and_one_for_many() {
    let (mut connection, mut server) = ready();
    for turn in ["a", "b"] {
        server.answers.push_back(select_one(turn));
        connection
            .submit(&statement("SELECT $1", &[Some(turn)]))
            .unwrap();
        let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
        assert_eq!(
            (outcome.flights, first_text(&outcome.answers[0])),
            (1, Some(turn))
        );
    }
    for turn in ["c", "d", "e"] {
        server.answers.push_back(select_one(turn));
        connection
            .submit(&statement("SELECT $1, $2", &[Some(turn), None]))
            .unwrap();
    }
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    let texts: Vec<_> = outcome.answers.iter().map(first_text).collect();
    assert_eq!(
        (outcome.flights, texts),
        (1, vec![Some("c"), Some("d"), Some("e")])
    );
    assert_eq!(server.statements[4].1, [Some("e".to_owned()), None]);
}

#[test]
fn an_error_concerns_its_statement_only() {
    for cut in [Cut::Nowhere, Cut::Everywhere] {
        let (mut connection, mut server) = ready();
        for answer in [select_one("a"), failing("ERROR", "23505"), select_one("c")] {
            server.answers.push_back(answer);
            connection.submit(&statement("SELECT", &[])).unwrap();
        }
        let outcome = drive(&mut connection, &mut server, &cut);
        assert_eq!(outcome.error, None);
        assert_eq!(first_text(&outcome.answers[0]), Some("a"));
        assert_eq!(
            outcome.answers[1],
            Err(ServerError {
                sqlstate: "23505".to_owned(),
                severity: "ERROR".to_owned(),
                message: "no".to_owned(),
            })
        );
        assert_eq!(first_text(&outcome.answers[2]), Some("c"));

        server.answers.push_back(select_one("later"));
        connection.submit(&statement("SELECT", &[])).unwrap();
        let outcome = drive(&mut connection, &mut server, &cut);
        assert_eq!(first_text(&outcome.answers[0]), Some("later"));
    }
}

#[test]
fn an_error_may_come_at_any_point_even_after_the_command() {
    let whole = [
        parse_complete(),
        bind_complete(),
        row_description(&[("t", TEXT)]),
        data_row(&[Some(b"x")]),
        command_complete("SELECT 1"),
    ];
    for point in 0..=whole.len() {
        let answer = [
            whole[..point].concat(),
            error("ERROR", "40001", "no"),
            ready_for_query(),
        ]
        .concat();
        let outcome = answer_to_one(&answer);
        assert_eq!(outcome.error, None, "{point}");
        assert_eq!(
            outcome.answers[0].as_ref().unwrap_err().sqlstate,
            "40001",
            "{point}"
        );
    }
}

#[test]
fn nothing_is_answered_before_the_server_is_ready() {
    let answer = select_one("x");
    let (mut connection, mut server) = ready();
    server
        .answers
        .push_back(answer[..answer.len() - 1].to_vec());
    connection.submit(&statement("SELECT", &[])).unwrap();
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    assert_eq!(
        (outcome.answers.len(), outcome.done, outcome.error),
        (0, false, None)
    );
    assert!(connection.statement_sent());
    connection.handle_input(b"I").unwrap();
    assert!(connection.take_answer().is_some());
    assert!(!connection.statement_sent());
}

#[test]
fn statements_without_rows_and_command_tags() {
    for (tag, affected) in [
        ("INSERT 0 3", 3),
        ("UPDATE 0", 0),
        ("DELETE 12", 12),
        ("CREATE TABLE", 0),
        ("SELECT 99999999999999999999", 0),
        ("", 0),
    ] {
        let answer = [
            parse_complete(),
            bind_complete(),
            no_data(),
            command_complete(tag),
            ready_for_query(),
        ]
        .concat();
        let rows = answer_to_one(&answer).answers.remove(0).unwrap();
        assert_eq!(
            (rows.affected, rows.is_empty(), rows.columns.len()),
            (affected, true, 0)
        );
    }
    let empty = [
        parse_complete(),
        bind_complete(),
        no_data(),
        message(b'I', b""),
        ready_for_query(),
    ];
    assert!(answer_to_one(&empty.concat()).answers[0].is_ok());
}

#[test]
fn text_of_fields() {
    let answer = rows(
        &[("a", TEXT), ("b", TEXT)],
        &[
            vec![Some("ß".as_bytes()), None],
            vec![Some(b""), Some(b"z")],
        ],
    );
    let rows = answer_to_one(&answer).answers.remove(0).unwrap();
    assert_eq!((rows.len(), rows.affected), (2, 2));
    assert_eq!(
        (rows.text(0, 0), rows.text(0, 1), rows.text(0, 2)),
        (Some("ß"), None, None)
    );
    assert_eq!(
        (rows.text(1, 0), rows.text(1, 1), rows.text(2, 0)),
        (Some(""), Some("z"), None)
    );
    assert_eq!(rows.columns[1].name, "b");
}

#[test]
fn what_may_come_at_any_time_may_come_at_any_time() {
    let aside = [
        notice("hm"),
        parameter_status("TimeZone", "UTC"),
        notification(),
    ]
    .concat();
    let answer = [
        aside.clone(),
        parse_complete(),
        aside.clone(),
        bind_complete(),
        aside.clone(),
        row_description(&[("t", TEXT)]),
        aside.clone(),
        data_row(&[Some(b"x")]),
        aside.clone(),
        command_complete("SELECT 1"),
        aside.clone(),
        ready_for_query(),
        aside.clone(),
    ]
    .concat();
    let (mut connection, mut server) = ready();
    connection.handle_input(&aside).unwrap();
    server.answers.push_back(answer);
    connection.submit(&statement("SELECT", &[])).unwrap();
    let outcome = drive(&mut connection, &mut server, &Cut::Everywhere);
    assert_eq!(
        (first_text(&outcome.answers[0]), outcome.error),
        (Some("x"), None)
    );
}

#[test]
fn a_shutdown_answers_all_that_was_asked_and_ends_the_connection() {
    let (mut connection, mut server) = ready();
    server.answers.push_back(select_one("a"));
    server
        .answers
        .push_back(error("FATAL", "57P01", "terminating connection"));
    for _ in 0..3 {
        connection.submit(&statement("SELECT", &[])).unwrap();
    }
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    assert_eq!((outcome.error, outcome.done), (None, true));
    assert_eq!(first_text(&outcome.answers[0]), Some("a"));
    for answer in &outcome.answers[1..] {
        assert_eq!(answer.as_ref().unwrap_err().sqlstate, "57P01");
    }
    assert_eq!(outcome.answers.len(), 3);
    assert!(!connection.is_usable() && !connection.statement_sent());
    let refused = connection.submit(&statement("SELECT", &[]));
    assert_eq!(
        refused,
        Err(WireError::Refused(
            "57P01 terminating connection".to_owned()
        ))
    );
    assert_eq!(connection.handle_input(b"x"), refused);

    let (mut connection, _) = ready();
    let idle = connection.handle_input(&error("FATAL", "57P01", "terminating connection"));
    assert_eq!(idle, refused);
}

#[test]
fn a_shutdown_while_an_error_is_skipped() {
    let answer = [
        error("ERROR", "22012", "no"),
        error("FATAL", "57P01", "bye"),
    ]
    .concat();
    let outcome = answer_to_one(&answer);
    assert_eq!(outcome.answers[0].as_ref().unwrap_err().sqlstate, "57P01");
}

#[test]
fn sent_is_known_exactly() {
    let (mut connection, mut server) = ready();
    connection.submit(&statement("SELECT", &[])).unwrap();
    assert!(!connection.statement_sent(), "still in the output");
    assert_eq!(connection.wants(), Wants::Input);
    let output = connection.take_output();
    assert!(connection.statement_sent());
    server.answers.push_back(select_one("a"));
    let answer = server.receive(&output);
    connection.handle_input(&answer).unwrap();
    assert!(!connection.statement_sent(), "answered");
    assert_eq!(connection.wants(), Wants::Nothing);

    connection.submit(&statement("SELECT", &[])).unwrap();
    connection.take_output();
    assert!(connection.handle_input(b"Z\0\0\0\x05I").is_err());
    assert!(connection.statement_sent(), "nobody knows whether it ran");
}

#[test]
fn what_the_protocol_cannot_carry_is_not_submitted() {
    let (mut connection, mut server) = ready();
    let many = Statement {
        sql: "SELECT",
        parameters: vec![None; 65_536],
    };
    assert!(matches!(connection.submit(&many), Err(WireError::Limit(_))));
    let nul = Statement {
        sql: "SEL\0ECT",
        parameters: Vec::new(),
    };
    assert!(matches!(
        connection.submit(&nul),
        Err(WireError::Protocol(_))
    ));
    assert!(connection.take_output().is_empty());

    let most = Statement {
        sql: "SELECT",
        parameters: vec![None; 65_535],
    };
    connection.submit(&most).unwrap();
    server.answers.push_back(select_one("a"));
    assert!(drive(&mut connection, &mut server, &Cut::Nowhere).done);
    assert_eq!(server.statements[0].1.len(), 65_535);
}

#[test]
fn terminate_is_the_message() {
    assert_eq!(Connection::terminate()[..], *b"X\0\0\0\x04");
}

#[test]
fn a_kept_connection_has_each_statement_parsed_once() {
    let (mut connection, _) = ready();
    connection = connection.preparing_statements();
    let parsed = |sent: &[u8]| sent.first() == Some(&b'P');
    let named = |sent: &[u8], name: &str| {
        let bind = [&[0], name.as_bytes(), &[0]].concat();
        sent.windows(bind.len()).any(|part| part == bind)
    };
    let mut ask = |sql: &'static str, answer: Vec<u8>| {
        connection.submit(&statement(sql, &[])).unwrap();
        let sent = connection.take_output();
        for byte in answer {
            connection.handle_input(&[byte]).unwrap();
        }
        (sent, connection.take_answer().unwrap().is_ok())
    };
    let known = || select_one("a").split_off(parse_complete().len());

    let (sent, is_good) = ask("SELECT 1", select_one("a"));
    assert!(parsed(&sent) && named(&sent, "s0") && is_good);
    let (sent, is_good) = ask("SELECT 1", known());
    assert!(!parsed(&sent) && named(&sent, "s0") && is_good);

    // What the server could not parse it does not have.
    let refused = [error("ERROR", "42601", "no"), ready_for_query()].concat();
    let (sent, is_good) = ask("SELECT 2", refused);
    assert!(parsed(&sent) && named(&sent, "s1") && !is_good);
    // What it could not execute it has all the same.
    let (sent, is_good) = ask("SELECT 2", failing("ERROR", "22003"));
    assert!(parsed(&sent) && named(&sent, "s1") && !is_good);
    let (sent, is_good) = ask("SELECT 2", known());
    assert!(!parsed(&sent) && named(&sent, "s1") && is_good);
}
