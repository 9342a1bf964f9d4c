//! Servers that break the protocol or want to fill our memory.

use super::server::*;
use super::*;
use crate::limits::{
    PG_COLUMNS_MAX, PG_MESSAGE_BYTES_MAX, PG_RESULT_BYTES_MAX, PG_STARTUP_MESSAGES_MAX,
};

const TEXT: u32 = 25;
const LIMIT: fn(&WireError) -> bool = |error| matches!(error, WireError::Limit(_));
const PROTOCOL: fn(&WireError) -> bool = |error| matches!(error, WireError::Protocol(_));

fn breaks(answer: &[u8]) -> WireError {
    let outcome = answer_to_one(answer);
    assert_eq!(outcome.answers, []);
    outcome
        .error
        .unwrap_or_else(|| panic!("no error for {answer:?}"))
}

/// Up to the rows of a result with one column.
fn one_column() -> Vec<u8> {
    [
        parse_complete(),
        bind_complete(),
        row_description(&[("t", TEXT)]),
    ]
    .concat()
}

#[test]
fn lengths_are_checked_before_anything_is_reserved() {
    for (length, check) in [
        (0_u32, PROTOCOL),
        (3, PROTOCOL),
        (PG_MESSAGE_BYTES_MAX as u32, LIMIT),
        (0x7FFF_FFFF, LIMIT),
        (0x8000_0000, PROTOCOL),
        (0xFFFF_FFFF, PROTOCOL),
    ] {
        for tag in [b'D', b'1', b'E', b'R', b'Z'] {
            let header = [&[tag][..], &length.to_be_bytes()].concat();
            assert!(check(&breaks(&header)), "{length:#x}");
            let mut connection = connection(login(SslMode::Disable, None));
            let error = connection.handle_input(&header).unwrap_err();
            assert!(check(&error), "{length:#x} in the start-up");
        }
    }
    for tag in [0, b'v', b'W', b'Q', b'V', 0xFF] {
        assert!(PROTOCOL(&breaks(&[tag, 0, 0, 0, 4])), "{tag}");
    }
}

#[test]
fn the_largest_message_is_taken_byte_by_byte_in_linear_time() {
    let overhead = 5 + 2 + 4;
    let text = vec![b'x'; PG_MESSAGE_BYTES_MAX - overhead];
    let answer = rows(&[("t", TEXT)], &[vec![Some(&text)]]);
    for size in [1, 1000, usize::MAX] {
        let (mut connection, _) = ready();
        connection.submit(&statement("SELECT", &[])).unwrap();
        connection.take_output();
        for piece in answer.chunks(size) {
            connection.handle_input(piece).unwrap();
        }
        let rows = connection.take_answer().unwrap().unwrap();
        assert_eq!(rows.text(0, 0).unwrap().len(), text.len());
        assert_eq!(connection.held_bytes(), 0);
    }
    let text = vec![b'x'; PG_MESSAGE_BYTES_MAX - overhead + 1];
    assert!(LIMIT(&breaks(&rows(&[("t", TEXT)], &[vec![Some(&text)]]))));
}

/// Feeds the same bytes until an error, and watches what is kept.
fn endless(connection: &mut Connection, bytes: &[u8]) -> WireError {
    for _ in 0..=PG_RESULT_BYTES_MAX / bytes.len() + 1 {
        if let Err(error) = connection.handle_input(bytes) {
            assert_eq!(connection.held_bytes(), 0, "kept after the end");
            return error;
        }
        assert!(connection.held_bytes() <= PG_RESULT_BYTES_MAX + bytes.len());
    }
    panic!("no end");
}

#[test]
fn endless_answers_end() {
    let long = "x".repeat(1 << 20);
    for (before, repeated) in [
        (Vec::new(), notice(&long)),
        (Vec::new(), notification().repeat(10_000)),
        (one_column(), data_row(&[Some(long.as_bytes())])),
        (one_column(), notice(&long)),
        (error("ERROR", "22012", "no"), notice(&long)),
        (
            error("ERROR", "22012", "no"),
            error("ERROR", "22012", &long),
        ),
    ] {
        let (mut connection, _) = ready();
        connection.submit(&statement("SELECT", &[])).unwrap();
        connection.take_output();
        connection.handle_input(&before).unwrap();
        assert!(LIMIT(&endless(&mut connection, &repeated)));
    }
    // Idle, too.
    let (mut connection, _) = ready();
    assert!(LIMIT(&endless(&mut connection, &notice(&long))));
}

#[test]
fn tiny_rows_are_charged_for_what_they_cost_to_keep() {
    let (mut connection, _) = ready();
    connection.submit(&statement("SELECT", &[])).unwrap();
    connection.take_output();
    connection
        .handle_input(&[parse_complete(), bind_complete(), row_description(&[])].concat())
        .unwrap();
    let row = data_row(&[]);
    let chunk = row.repeat(10_000);
    let mut rows = 0;
    while connection.handle_input(&chunk).is_ok() {
        rows += 10_000;
    }
    assert!(rows * (row.len() + size_of::<super::super::Row>()) <= PG_RESULT_BYTES_MAX);
}

/// A read's buffer lives as long as the row in it, and its count of owners,
/// five words, with it.
#[test]
fn rows_that_come_alone_are_charged_for_their_buffers() {
    let (mut connection, _) = ready();
    connection.submit(&statement("SELECT", &[])).unwrap();
    connection.take_output();
    connection.handle_input(&one_column()).unwrap();
    let row = data_row(&[None]);
    let mut rows = 0;
    while connection.handle_input(&row).is_ok() {
        rows += 1;
    }
    let kept = row.len() + 5 * size_of::<usize>() + size_of::<super::super::Row>();
    assert!(rows * kept <= PG_RESULT_BYTES_MAX, "{rows} rows");
}

#[test]
fn each_statement_has_the_whole_limit() {
    let (mut connection, mut server) = ready();
    let long = "x".repeat(PG_MESSAGE_BYTES_MAX * 3 / 4);
    for _ in 0..4 {
        server
            .answers
            .push_back(rows(&[("t", TEXT)], &[vec![Some(long.as_bytes())]]));
        connection.submit(&statement("SELECT", &[])).unwrap();
    }
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    assert_eq!((outcome.answers.len(), outcome.error), (4, None));
}

#[test]
fn the_start_up_has_an_end() {
    for message in [notice("x"), parameter_status("a", "b")] {
        let mut connection = connection(login(SslMode::Disable, None));
        connection.handle_input(&authentication(0, &[])).unwrap();
        for _ in 1..PG_STARTUP_MESSAGES_MAX {
            connection.handle_input(&message).unwrap();
        }
        assert!(LIMIT(&connection.handle_input(&message).unwrap_err()));
    }
    let mut connection = connection(login(SslMode::Disable, None));
    connection.handle_input(&authentication(0, &[])).unwrap();
    assert!(LIMIT(&endless(
        &mut connection,
        &notice(&"x".repeat(1 << 20))
    )));
}

#[test]
fn messages_out_of_order_in_the_start_up() {
    let first = [
        ready_for_query(),
        parameter_status("a", "b"),
        message(b'K', &[0; 8]),
        parse_complete(),
        data_row(&[]),
        notification(),
    ];
    for message in &first {
        let mut connection = connection(login(SslMode::Disable, None));
        connection.submit(&statement("SELECT", &[])).unwrap();
        connection.take_output();
        assert!(
            PROTOCOL(&connection.handle_input(message).unwrap_err()),
            "{message:?}"
        );
    }
    let second = [
        authentication(0, &[]),
        authentication(10, b"SCRAM-SHA-256\0\0"),
        parse_complete(),
        data_row(&[]),
        command_complete("SELECT 0"),
        notification(),
        message(b'Z', b"T"),
        message(b'K', &[0; 4]),
    ];
    for message in &second {
        let mut connection = connection(login(SslMode::Disable, None));
        connection.submit(&statement("SELECT", &[])).unwrap();
        connection.take_output();
        connection.handle_input(&authentication(0, &[])).unwrap();
        assert!(
            PROTOCOL(&connection.handle_input(message).unwrap_err()),
            "{message:?}"
        );
    }
}

/// Every message at every point of an answer: it goes on exactly where the
/// protocol lets it.
#[test]
fn messages_out_of_order_in_an_answer() {
    let begin: [Vec<u8>; 6] = [
        Vec::new(),
        parse_complete(),
        [parse_complete(), bind_complete()].concat(),
        one_column(),
        [parse_complete(), bind_complete(), no_data()].concat(),
        [one_column(), command_complete("SELECT 0")].concat(),
    ];
    // A message, and the points of `begin` behind which it may come.
    let messages: [(Vec<u8>, &[usize]); 17] = [
        (parse_complete(), &[0]),
        (bind_complete(), &[1]),
        (row_description(&[("t", TEXT)]), &[2]),
        (no_data(), &[2]),
        (data_row(&[None]), &[3]),
        (command_complete("SELECT 0"), &[3, 4]),
        (message(b'I', b""), &[3, 4]),
        (ready_for_query(), &[5]),
        (message(b's', b""), &[]),
        (message(b't', &[0, 0]), &[]),
        (message(b'3', b""), &[]),
        (message(b'G', &[0, 0, 0]), &[]),
        (message(b'H', &[0, 0, 0]), &[]),
        (message(b'd', b"x"), &[]),
        (message(b'c', b""), &[]),
        (message(b'K', &[0; 8]), &[]),
        (authentication(0, &[]), &[]),
    ];
    for (message, allowed) in &messages {
        for (point, before) in begin.iter().enumerate() {
            let outcome = answer_to_one(&[&before[..], &message[..]].concat());
            let what = format!("{:?} at {point}", message[0] as char);
            match outcome.error {
                None => assert!(allowed.contains(&point), "{what} was taken"),
                Some(error) => {
                    assert!(
                        PROTOCOL(&error) && !allowed.contains(&point),
                        "{what}: {error}"
                    );
                }
            }
        }
        let (mut idle, _) = ready();
        assert!(PROTOCOL(&idle.handle_input(message).unwrap_err()), "idle");
    }
}

#[test]
fn an_answer_before_the_question_is_no_answer() {
    let (mut connection, _) = ready();
    connection.submit(&statement("SELECT", &[])).unwrap();
    let error = connection
        .handle_input(&rows(&[("t", TEXT)], &[]))
        .unwrap_err();
    assert!(PROTOCOL(&error));
    assert_eq!(connection.take_answer(), None);
}

#[test]
fn wrong_rows() {
    let field = |length: i32, bytes: &[u8]| [&length.to_be_bytes()[..], bytes].concat();
    for fields in [
        field(-2, b""),
        field(i32::MIN, b""),
        field(2, b"x"),
        field(i32::MAX, b"x"),
        field(1, b"xy"),
        field(-1, b"x"),
        field(1, b"\xff"),
        field(2, "ß".repeat(2).as_bytes()),
        vec![0, 0, 0],
        Vec::new(),
    ] {
        let row = message(b'D', &[&[0, 1][..], &fields].concat());
        assert!(
            PROTOCOL(&breaks(&[one_column(), row].concat())),
            "{fields:?}"
        );
    }
    for body in [&b""[..], &[0], &[0, 0], &[0, 2], &[0xFF, 0xFF]] {
        let row = message(b'D', body);
        assert!(PROTOCOL(&breaks(&[one_column(), row].concat())), "{body:?}");
    }
    for fields in [&[][..], &[None, None]] {
        assert!(PROTOCOL(&breaks(
            &[one_column(), data_row(fields)].concat()
        )));
    }
}

#[test]
fn wrong_columns() {
    let begin = [parse_complete(), bind_complete()].concat();
    let mut binary = row_description(&[("t", TEXT)]);
    *binary.last_mut().unwrap() = 1;
    let mut latin = row_description(&[("t", TEXT)]);
    latin[7] = 0xFF;
    for description in [
        binary,
        latin,
        message(b'T', &[0, 1]),
        message(b'T', &[0, 0, 0]),
        message(b'T', b"\0\x01name without an end"),
        message(b'T', b"\0\x01n\0short"),
        message(b'T', b""),
    ] {
        assert!(
            PROTOCOL(&breaks(&[begin.clone(), description.clone()].concat())),
            "{description:?}"
        );
    }
    let columns = vec![("c", TEXT); PG_COLUMNS_MAX + 1];
    assert!(LIMIT(&breaks(
        &[begin.clone(), row_description(&columns)].concat()
    )));
    let outcome = answer_to_one(&[begin, row_description(&columns[1..])].concat());
    assert_eq!(outcome.error, None);
}

#[test]
fn messages_with_wrong_bodies() {
    for message in [
        message(b'1', b"x"),
        message(b'Z', b""),
        message(b'Z', b"II"),
        message(b'C', b"no end"),
        message(b'S', b"only one\0"),
        message(b'A', b"\0\0"),
        message(b'E', b"SERROR\0C22012\0Mno end"),
        message(b'E', b"Mno sqlstate\0\0"),
        message(b'E', b""),
    ] {
        assert!(PROTOCOL(&breaks(&message)), "{message:?}");
    }
    let status = [
        one_column(),
        command_complete("SELECT 0"),
        message(b'Z', b"X"),
    ]
    .concat();
    assert!(PROTOCOL(&breaks(&status)));
    let tag = [one_column(), message(b'C', b"\xff\0")].concat();
    assert!(PROTOCOL(&breaks(&tag)));
}
