//! What the client makes of servers: good ones, old ones, and hostile ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use bytes::Bytes;
use proptest::prelude::*;

use super::{Command, Connection, Login, Reply, ServerError};
use crate::limits::{
    RESP_BULK_BYTES_MAX, RESP_DEPTH_MAX, RESP_ELEMENTS_MAX, RESP_FLIGHT_BYTES_MAX,
    RESP_LINE_BYTES_MAX,
};
use crate::wire::{Machine, Wants, WireError};

const ANONYMOUS: Login = Login {
    user: None,
    password: None,
};
const HELLO: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
const GET_K: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
/// As Valkey 8 sends it, with a module, whose map nests deepest.
const WELCOME: &[u8] = b"%7\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n8.1.0\r\n\
    $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n%4\r\n$4\r\nname\r\n$4\r\njson\r\n\
    $3\r\nver\r\n:1\r\n$4\r\npath\r\n$0\r\n\r\n$4\r\nargs\r\n*0\r\n";
const UNKNOWN_HELLO: &[u8] = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
const NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";

fn with_password(user: Option<&str>, password: &str) -> Login {
    Login {
        user: user.map(str::to_owned),
        password: Some(password.to_owned()),
    }
}

fn gets(count: usize) -> Vec<Command> {
    (0..count).map(|_| Command::new("GET").arg("k")).collect()
}

/// A connection that is logged in and waits for so many replies.
fn waiting_for(count: usize) -> Connection {
    let mut connection = Connection::new(ANONYMOUS);
    connection.submit(gets(1));
    connection.take_output();
    connection.handle_input(WELCOME).unwrap();
    connection.handle_input(b"_\r\n").unwrap();
    assert_eq!(connection.take_replies(), Some(vec![Reply::Null]));
    connection.submit(gets(count));
    connection.take_output();
    connection
}

/// A connection that has sent HELLO and so many commands.
fn greeted(login: Login, count: usize) -> Connection {
    let mut connection = Connection::new(login);
    connection.submit(gets(count));
    assert!(!connection.take_output().is_empty());
    connection
}

/// What one command's reply is, when it comes in chunks of this size.
fn decode_in(chunk_bytes: usize, input: &[u8]) -> Result<Option<Reply>, WireError> {
    let mut connection = waiting_for(1);
    for chunk in input.chunks(chunk_bytes) {
        connection.handle_input(chunk)?;
    }
    Ok(connection.take_replies().map(|mut replies| {
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }))
}

/// The same, at once and bytewise, which must agree.
fn decode(input: &[u8]) -> Result<Option<Reply>, WireError> {
    let at_once = decode_in(usize::MAX, input);
    let bytewise = decode_in(1, input);
    // NaN differs from itself.
    assert_eq!(format!("{at_once:?}"), format!("{bytewise:?}"));
    at_once
}

fn value(input: &[u8]) -> Reply {
    decode(input).unwrap().expect("a whole reply")
}

fn protocol_error(input: &[u8]) -> &'static str {
    match decode(input) {
        Err(WireError::Protocol(what)) => what,
        other => panic!("no protocol error: {other:?}"),
    }
}

fn limit_error(input: &[u8]) -> &'static str {
    match decode(input) {
        Err(WireError::Limit(what)) => what,
        other => panic!("no limit: {other:?}"),
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn error(code: &str, message: &str) -> Reply {
    Reply::Error(ServerError {
        code: code.to_owned(),
        message: message.to_owned(),
    })
}

fn refusal(result: Result<(), WireError>) -> String {
    match result {
        Err(WireError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

mod encoding {
    use super::*;

    fn encoded(command: Command) -> Vec<u8> {
        command.into_bytes().to_vec()
    }

    #[test]
    fn commands_are_arrays_of_bulks() {
        assert_eq!(encoded(Command::new("PING")), b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(
            encoded(
                Command::new("SET")
                    .arg("k")
                    .arg("")
                    .arg("PX")
                    .number(60_000)
            ),
            b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$2\r\nPX\r\n$5\r\n60000\r\n"
        );
        assert_eq!(
            encoded(Command::new("X").number(u64::MAX)),
            b"*2\r\n$1\r\nX\r\n$20\r\n18446744073709551615\r\n"
        );
    }

    #[test]
    fn arguments_are_binary_safe_and_cannot_become_commands() {
        assert_eq!(
            encoded(Command::new("GET").arg(b"\0\xff\r\n*1\r\n")),
            b"*2\r\n$3\r\nGET\r\n$8\r\n\0\xff\r\n*1\r\n\r\n"
        );
    }

    #[test]
    fn the_count_may_have_more_digits() {
        let command = (1..12_345).fold(Command::new("DEL"), |c, n| c.number(n));
        assert!(encoded(command).starts_with(b"*12345\r\n$3\r\nDEL\r\n$1\r\n1\r\n"));
    }

    #[test]
    fn a_large_value_is_held_once_also_with_arguments_behind_it() {
        let value = vec![b'x'; 10 << 20];
        let command = Command::new("SET").arg("k").arg(&value);
        let command = command.arg("PX").number(600_000).arg("NX");
        let bytes = command.into_bytes();
        assert!(
            bytes.capacity() < value.len() + 1024,
            "{}",
            bytes.capacity()
        );
    }

    #[test]
    fn a_large_value_is_not_copied_for_the_output() {
        let mut connection = waiting_for(1);
        connection.handle_input(b"_\r\n").unwrap();
        let command = Command::new("SET").arg("k").arg(vec![b'x'; 1 << 20]);
        let address = command.encoded_address();
        connection.submit(vec![command]);
        let output = connection.take_output();
        // The header is written into the room before the arguments.
        assert!((0..16).contains(&(output.as_ptr().addr() - address)));
    }

    #[test]
    fn debug_shows_no_argument() {
        let command = Command::new("AUTH").arg("hunter2");
        assert_eq!(
            format!("{command:?}"),
            "Command { arguments: 2, bytes: 36 }"
        );
    }
}

mod values {
    use super::*;

    #[test]
    fn simple_strings() {
        assert_eq!(value(b"+OK\r\n"), Reply::Simple("OK".into()));
        assert_eq!(value(b"+\r\n"), Reply::Simple(String::new()));
        protocol_error(b"+\xff\r\n");
    }

    #[test]
    fn errors() {
        assert_eq!(
            value(b"-WRONGTYPE Operation against\r\n"),
            error("WRONGTYPE", "Operation against")
        );
        assert_eq!(value(b"-OOM\r\n"), error("OOM", ""));
        assert_eq!(value(b"-\r\n"), error("", ""));
        assert_eq!(
            value(b"!21\r\nSYNTAX invalid syntax\r\n"),
            error("SYNTAX", "invalid syntax")
        );
        assert_eq!(value(b"!8\r\nERR a\r\nb\r\n"), error("ERR", "a\r\nb"));
        // An argument cut within a character.
        assert_eq!(value(b"-ERR '\xc3'\r\n"), error("ERR", "'\u{fffd}'"));
    }

    #[test]
    fn errors_are_shown_as_the_server_wrote_them() {
        let Reply::Error(shown) = value(b"-LOADING Valkey is loading\r\n") else {
            panic!()
        };
        assert_eq!(shown.to_string(), "LOADING Valkey is loading");
    }

    #[test]
    fn integers() {
        for (input, n) in [
            (&b":0\r\n"[..], 0),
            (b":-42\r\n", -42),
            (b":+7\r\n", 7),
            (b":9223372036854775807\r\n", i64::MAX),
            (b":-9223372036854775808\r\n", i64::MIN),
        ] {
            assert_eq!(value(input), Reply::Integer(n));
        }
        for input in [
            &b":\r\n"[..],
            b":-\r\n",
            b":1 \r\n",
            b":9223372036854775808\r\n",
            b":1.0\r\n",
        ] {
            protocol_error(input);
        }
    }

    #[test]
    fn bulks() {
        assert_eq!(value(b"$5\r\nhello\r\n"), bulk("hello"));
        assert_eq!(value(b"$0\r\n\r\n"), bulk(""));
        assert_eq!(value(b"$4\r\n\r\n\r\n\r\n"), bulk("\r\n\r\n"));
        assert_eq!(
            value(b"=15\r\ntxt:Some string\r\n"),
            Reply::Verbatim("Some string".into())
        );
        assert_eq!(value(b"=4\r\nmkd:\r\n"), Reply::Verbatim(Bytes::new()));
        protocol_error(b"=3\r\ntxt\r\n");
        protocol_error(b"=5\r\ntext:\r\n");
        protocol_error(b"$5\r\nhello!\r\n");
        protocol_error(b"$5\r\nhello\n\r");
        protocol_error(b"$5\r\nhello\r.");
    }

    #[test]
    fn nulls_of_both_versions_are_one() {
        for input in [&b"_\r\n"[..], b"$-1\r\n", b"*-1\r\n"] {
            assert_eq!(value(input), Reply::Null);
        }
        protocol_error(b"_x\r\n");
        for input in [
            &b"%-1\r\n"[..],
            b"~-1\r\n",
            b">-1\r\n",
            b"!-1\r\n",
            b"=-1\r\n",
            b"|-1\r\n",
        ] {
            protocol_error(input);
        }
    }

    #[test]
    fn booleans_and_numbers() {
        assert_eq!(value(b"#t\r\n"), Reply::Boolean(true));
        assert_eq!(value(b"#f\r\n"), Reply::Boolean(false));
        protocol_error(b"#true\r\n");
        for (input, n) in [
            (&b",1.23\r\n"[..], 1.23),
            (b",10\r\n", 10.0),
            (b",+1.5E-3\r\n", 0.0015),
            (b",-0\r\n", 0.0),
            (b",inf\r\n", f64::INFINITY),
            (b",-inf\r\n", f64::NEG_INFINITY),
        ] {
            assert_eq!(value(input), Reply::Double(n));
        }
        assert!(matches!(value(b",nan\r\n"), Reply::Double(n) if n.is_nan()));
        for input in [
            &b",\r\n"[..],
            b",.5\r\n",
            b",infinity\r\n",
            b",NaN\r\n",
            b",1e\r\n",
            b", 1\r\n",
        ] {
            protocol_error(input);
        }
        assert_eq!(
            value(b"(-34928903284092385\r\n"),
            Reply::BigNumber("-34928903284092385".into())
        );
        protocol_error(b"(\r\n");
        protocol_error(b"(-\r\n");
        protocol_error(b"(1.5\r\n");
    }

    #[test]
    fn aggregates() {
        assert_eq!(value(b"*0\r\n"), Reply::Array(vec![]));
        assert_eq!(
            value(b"*3\r\n$1\r\na\r\n$-1\r\n*1\r\n_\r\n"),
            Reply::Array(vec![
                bulk("a"),
                Reply::Null,
                Reply::Array(vec![Reply::Null])
            ])
        );
        assert_eq!(
            value(b"%2\r\n+a\r\n*0\r\n:1\r\n%0\r\n"),
            Reply::Map(vec![
                (Reply::Simple("a".into()), Reply::Array(vec![])),
                (Reply::Integer(1), Reply::Map(vec![])),
            ])
        );
        assert_eq!(value(b"~1\r\n~0\r\n"), Reply::Set(vec![Reply::Set(vec![])]));
    }

    #[test]
    fn attributes_are_skipped_wherever_they_stand() {
        assert_eq!(value(b"|1\r\n+ttl\r\n:3600\r\n$1\r\na\r\n"), bulk("a"));
        assert_eq!(value(b"|0\r\n_\r\n"), Reply::Null);
        assert_eq!(
            value(b"*2\r\n:1\r\n|1\r\n+k\r\n*1\r\n:9\r\n:2\r\n"),
            Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)])
        );
        // One stands for nothing: the value is still to come.
        assert_eq!(decode(b"|1\r\n+k\r\n+v\r\n"), Ok(None));
    }

    #[test]
    fn pushes_are_skipped_between_replies_only() {
        assert_eq!(
            value(b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n:1\r\n"),
            Reply::Integer(1)
        );
        assert_eq!(value(b">0\r\n:1\r\n"), Reply::Integer(1));
        protocol_error(b"*2\r\n:1\r\n>1\r\n+x\r\n:2\r\n");
    }

    #[test]
    fn bulks_share_the_memory_that_they_were_read_into() {
        let Reply::Array(values) = value(b"*2\r\n$3\r\nabc\r\n$3\r\ndef\r\n") else {
            panic!()
        };
        let address = |value: &Reply| match value {
            Reply::Bulk(bytes) => bytes.as_ptr().addr(),
            other => panic!("{other:?}"),
        };
        // `abc` CR LF `$3` CR LF `def`, in one piece.
        assert_eq!(address(&values[1]) - address(&values[0]), 9);
    }
}

mod flights {
    use super::*;

    #[test]
    fn hello_travels_with_the_first_flight_only() {
        let mut connection = Connection::new(ANONYMOUS);
        assert_eq!(connection.wants(), Wants::Nothing);
        assert!(connection.take_output().is_empty());
        connection.submit(gets(2));
        assert_eq!(connection.take_output(), [HELLO, GET_K, GET_K].concat());
        assert!(connection.take_output().is_empty());
        assert_eq!(connection.wants(), Wants::Input);
        connection.handle_input(WELCOME).unwrap();
        assert_eq!(connection.wants(), Wants::Input);
        connection.handle_input(b"$1\r\na\r\n").unwrap();
        assert_eq!(connection.take_replies(), None);
        connection.handle_input(b"$1\r\nb\r\n").unwrap();
        assert_eq!(connection.wants(), Wants::Nothing);
        assert_eq!(connection.take_replies(), Some(vec![bulk("a"), bulk("b")]));
        assert_eq!(connection.take_replies(), None);

        connection.submit(gets(1));
        assert_eq!(connection.take_output(), GET_K);
        connection.handle_input(b"-LOADING x\r\n").unwrap();
        assert_eq!(connection.take_replies(), Some(vec![error("LOADING", "x")]));
    }

    #[test]
    fn who_we_are_goes_into_hello() {
        let sent = |login| {
            let mut connection = Connection::new(login);
            connection.submit(gets(1));
            String::from_utf8(connection.take_output().to_vec()).unwrap()
        };
        let auth = "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n";
        let get = str::from_utf8(GET_K).unwrap();
        assert_eq!(
            sent(with_password(None, "pw")),
            format!("{auth}$7\r\ndefault\r\n$2\r\npw\r\n{get}")
        );
        assert_eq!(
            sent(with_password(Some("edge"), "p w")),
            format!("{auth}$4\r\nedge\r\n$3\r\np w\r\n{get}")
        );
        let nopass = Login {
            user: Some("edge".into()),
            password: None,
        };
        assert_eq!(sent(nopass), format!("{auth}$4\r\nedge\r\n$0\r\n\r\n{get}"));
    }

    #[test]
    fn a_flight_without_commands_is_answered_at_once_and_sends_nothing() {
        let mut connection = Connection::new(ANONYMOUS);
        connection.submit(vec![]);
        assert!(connection.take_output().is_empty());
        assert_eq!(connection.wants(), Wants::Nothing);
        assert_eq!(connection.take_replies(), Some(vec![]));
        connection.submit(gets(1));
        assert!(connection.take_output().starts_with(HELLO));
    }

    /// All that a server may send, in one stream: the same however it is cut.
    #[test]
    fn a_transcript_reads_the_same_wherever_it_is_cut() {
        let transcript = [
            WELCOME,
            b"+OK\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
            b"*4\r\n$3\r\none\r\n*2\r\n_\r\n*1\r\n$-1\r\n*-1\r\n|1\r\n+a\r\n+b\r\n,1.5\r\n",
            b"-MOVED 1 host:6379\r\n!5\r\nE a\r\n\r\n",
            b"%1\r\n$2\r\n\r\n\r\n~2\r\n#t\r\n(12\r\n",
            b"=6\r\ntxt:hi\r\n:-1\r\n",
            b">1\r\n+bye\r\n",
        ]
        .concat();
        let expected = vec![
            Reply::Simple("OK".into()),
            Reply::Array(vec![
                bulk("one"),
                Reply::Array(vec![Reply::Null, Reply::Array(vec![Reply::Null])]),
                Reply::Null,
                Reply::Double(1.5),
            ]),
            error("MOVED", "1 host:6379"),
            error("E", "a\r\n"),
            Reply::Map(vec![(
                bulk("\r\n"),
                Reply::Set(vec![Reply::Boolean(true), Reply::BigNumber("12".into())]),
            )]),
            Reply::Verbatim("hi".into()),
            Reply::Integer(-1),
        ];
        let replies_of = |chunks: &mut dyn Iterator<Item = &[u8]>| {
            let mut connection = greeted(ANONYMOUS, expected.len());
            for chunk in chunks {
                connection.handle_input(chunk).unwrap();
            }
            assert_eq!(connection.wants(), Wants::Nothing);
            connection.take_replies().unwrap()
        };
        assert_eq!(replies_of(&mut transcript.chunks(1)), expected);
        for at in 0..=transcript.len() {
            let (front, back) = transcript.split_at(at);
            assert_eq!(
                replies_of(&mut [front, back].into_iter()),
                expected,
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_truncated_transcript_never_completes() {
        let transcript = [WELCOME, b"*2\r\n$1\r\na\r\n%1\r\n:1\r\n:2\r\n"].concat();
        for end in 0..transcript.len() {
            let mut connection = greeted(ANONYMOUS, 1);
            connection.handle_input(&transcript[..end]).unwrap();
            assert_eq!(connection.wants(), Wants::Input, "ends at {end}");
            assert_eq!(connection.take_replies(), None);
        }
    }

    #[test]
    fn pushes_may_come_while_nothing_is_outstanding() {
        let mut connection = waiting_for(1);
        connection
            .handle_input(b":1\r\n>1\r\n+a\r\n>2\r\n+")
            .unwrap();
        assert_eq!(connection.take_replies(), Some(vec![Reply::Integer(1)]));
        connection.handle_input(b"b\r\n").unwrap();
        connection.submit(gets(1));
        assert_eq!(connection.take_output(), GET_K);
        // The end of the push, and then the reply.
        connection.handle_input(b"+c\r\n:2\r\n").unwrap();
        assert_eq!(connection.take_replies(), Some(vec![Reply::Integer(2)]));
    }

    #[test]
    fn more_replies_than_commands_are_an_error() {
        for extra in [&b":2\r\n"[..], b"+", b"|1\r\n", b"\r\n"] {
            let mut connection = waiting_for(1);
            let input = [b":1\r\n", extra].concat();
            assert!(matches!(
                connection.handle_input(&input),
                Err(WireError::Protocol(_))
            ));
            assert_eq!(connection.take_replies(), None);

            let mut connection = waiting_for(1);
            connection.handle_input(b":1\r\n").unwrap();
            assert!(matches!(
                connection.handle_input(extra),
                Err(WireError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_reply_that_comes_before_its_command_was_sent_is_an_error() {
        let mut connection = Connection::new(ANONYMOUS);
        assert!(matches!(
            connection.handle_input(b"+OK\r\n"),
            Err(WireError::Protocol(_))
        ));

        let mut connection = waiting_for(1);
        connection.handle_input(b":1\r\n").unwrap();
        connection.take_replies();
        connection.submit(gets(1));
        assert!(matches!(
            connection.handle_input(b":1\r\n"),
            Err(WireError::Protocol(_))
        ));
    }

    #[test]
    fn an_error_is_for_good() {
        let mut connection = waiting_for(2);
        connection.handle_input(b":1\r\n").unwrap();
        let failed = connection.handle_input(b"?\r\n");
        assert!(failed.is_err());
        assert_eq!(connection.handle_input(b":2\r\n"), failed);
        connection.submit(gets(1));
        assert!(connection.take_output().is_empty());
        assert_eq!(connection.wants(), Wants::Nothing);
        assert_eq!(connection.take_replies(), None);
        assert_eq!(connection.handle_input(b":2\r\n"), failed);
    }

    #[test]
    fn a_second_flight_never_gets_the_replies_of_the_first() {
        let mut connection = waiting_for(1);
        connection.submit(gets(1));
        assert!(connection.take_output().is_empty());
        assert_eq!(connection.wants(), Wants::Nothing);
        assert!(connection.handle_input(b"$6\r\nsecret\r\n").is_err());
        assert_eq!(connection.take_replies(), None);

        // Abandoned after the replies came: they are dropped.
        let mut connection = waiting_for(1);
        connection.handle_input(b"$6\r\nsecret\r\n").unwrap();
        connection.submit(gets(1));
        assert_eq!(connection.take_replies(), None);
        connection.take_output();
        connection.handle_input(b"$4\r\nmine\r\n").unwrap();
        assert_eq!(connection.take_replies(), Some(vec![bulk("mine")]));
    }
}

mod log_in {
    use super::*;

    #[test]
    fn hello_must_be_answered_with_a_map() {
        // An array is how servers answer that keep to RESP2.
        let mut connection = greeted(ANONYMOUS, 1);
        connection
            .handle_input(b"*2\r\n+proto\r\n:2\r\n$-1\r\n")
            .unwrap();
        assert_eq!(connection.take_replies(), Some(vec![Reply::Null]));
        for input in [&b"+OK\r\n"[..], b"_\r\n", b":3\r\n", b"$1\r\na\r\n"] {
            let mut connection = greeted(ANONYMOUS, 1);
            assert!(matches!(
                connection.handle_input(input),
                Err(WireError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_server_without_hello_that_needs_no_password_is_used_as_it_is() {
        for hello in [
            UNKNOWN_HELLO,
            b"-ERR unknown command 'hello'\r\n",
            b"-ERR Unknown Command\r\n",
            b"-NOPROTO unsupported protocol version\r\n",
        ] {
            for login in [ANONYMOUS, with_password(None, "pw")] {
                let mut connection = greeted(login, 2);
                connection.handle_input(hello).unwrap();
                connection.handle_input(b"$1\r\na\r\n").unwrap();
                connection.handle_input(b"-WRONGTYPE x\r\n").unwrap();
                assert_eq!(connection.wants(), Wants::Nothing);
                assert_eq!(
                    connection.take_replies(),
                    Some(vec![bulk("a"), error("WRONGTYPE", "x")])
                );
                connection.submit(gets(1));
                assert_eq!(connection.take_output(), GET_K);
            }
        }
    }

    #[test]
    fn a_server_without_hello_gets_auth_and_the_same_commands_again() {
        for (login, auth) in [
            (
                with_password(None, "pw"),
                &b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n"[..],
            ),
            (
                with_password(Some("edge"), "pw"),
                b"*3\r\n$4\r\nAUTH\r\n$4\r\nedge\r\n$2\r\npw\r\n",
            ),
        ] {
            let mut connection = greeted(login, 2);
            let refused = [UNKNOWN_HELLO, NOAUTH, NOAUTH].concat();
            for byte in refused.chunks(1) {
                assert!(connection.take_output().is_empty());
                connection.handle_input(byte).unwrap();
            }
            assert_eq!(connection.wants(), Wants::Input);
            assert_eq!(connection.take_replies(), None);
            assert_eq!(connection.take_output(), [auth, GET_K, GET_K].concat());
            connection
                .handle_input(b"+OK\r\n$1\r\na\r\n$-1\r\n")
                .unwrap();
            assert_eq!(connection.wants(), Wants::Nothing);
            assert_eq!(
                connection.take_replies(),
                Some(vec![bulk("a"), Reply::Null])
            );
            connection.submit(gets(1));
            assert_eq!(connection.take_output(), GET_K);
        }
    }

    #[test]
    fn commands_are_never_sent_twice_when_one_may_have_been_executed() {
        for replies in [
            [NOAUTH, b"+OK\r\n"],
            [b"+OK\r\n", NOAUTH],
            [b"-ERR x\r\n", NOAUTH],
        ] {
            let mut connection = greeted(with_password(None, "pw"), 2);
            connection.handle_input(UNKNOWN_HELLO).unwrap();
            connection.handle_input(replies[0]).unwrap();
            let last = connection.handle_input(replies[1]);
            assert!(matches!(last, Err(WireError::Protocol(_))), "{last:?}");
            assert!(connection.take_output().is_empty());
        }
    }

    #[test]
    fn commands_are_sent_twice_at_most() {
        let mut connection = greeted(with_password(None, "pw"), 1);
        connection
            .handle_input(&[UNKNOWN_HELLO, NOAUTH].concat())
            .unwrap();
        assert!(!connection.take_output().is_empty());
        connection
            .handle_input(&[b"+OK\r\n", NOAUTH].concat())
            .unwrap();
        assert!(connection.take_output().is_empty());
        let replies = connection.take_replies().unwrap();
        assert!(matches!(&replies[..], [Reply::Error(e)] if e.code == "NOAUTH"));
    }

    #[test]
    fn a_reply_to_auth_before_auth_was_sent_is_an_error() {
        let mut connection = greeted(with_password(None, "pw"), 1);
        let input = [UNKNOWN_HELLO, NOAUTH, b"+OK\r\n"].concat();
        assert!(matches!(
            connection.handle_input(&input),
            Err(WireError::Protocol(_))
        ));
    }

    #[test]
    fn auth_may_be_refused_or_answered_badly() {
        let asked = || {
            let mut connection = greeted(with_password(None, "tr0ub4dor"), 1);
            connection
                .handle_input(&[UNKNOWN_HELLO, NOAUTH].concat())
                .unwrap();
            connection.take_output();
            connection
        };
        assert_eq!(
            refusal(asked().handle_input(b"-ERR invalid password\r\n")),
            "ERR invalid password"
        );
        for input in [&b"+QUEUED\r\n"[..], b":1\r\n", b"_\r\n"] {
            assert!(matches!(
                asked().handle_input(input),
                Err(WireError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_server_without_hello_that_needs_a_password_we_do_not_have() {
        let mut connection = greeted(ANONYMOUS, 2);
        let input = [UNKNOWN_HELLO, NOAUTH, NOAUTH].concat();
        assert_eq!(
            refusal(connection.handle_input(&input)),
            "NOAUTH Authentication required."
        );
    }

    #[test]
    fn refusals_say_what_the_server_said() {
        for line in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH HELLO must be called with the client already authenticated",
            "NOPERM User edge has no permissions to run the 'hello' command",
            "ERR AUTH <password> called without any password configured for the default user.",
            "LOADING Valkey is loading the dataset in memory",
            "BUSY Valkey is busy running a script.",
            "MASTERDOWN Link with MASTER is down",
            "DENIED Running in protected mode",
            "ERR max number of clients reached",
        ] {
            let mut connection = greeted(with_password(Some("edge"), "tr0ub4dor&3"), 1);
            let why = refusal(connection.handle_input(format!("-{line}\r\n").as_bytes()));
            assert_eq!(why, line);
            assert_eq!(connection.wants(), Wants::Nothing);
            assert_eq!(connection.take_replies(), None);
        }
    }

    #[test]
    fn refusals_never_show_the_password() {
        let password = "tr0ub4dor&3";
        for line in [
            "ERR syntax error in HELLO option 'tr0ub4dor&3'",
            "ERR wrong, with args beginning with: '3' 'AUTH' 'edge' 'tr0ub",
            "ERR \"\\x74r0ub4dor\"",
            "tr0ub4dor&3",
            "tr0ub4dor&3 tr0ub4dor&3",
        ] {
            let mut connection = greeted(with_password(Some("edge"), password), 1);
            let failed = connection.handle_input(format!("-{line}\r\n").as_bytes());
            let shown = format!("{failed:?} {connection:?}");
            assert!(!shown.contains("r0ub"), "{shown}");
            let why = refusal(failed);
            assert!(
                why.starts_with("ERR ") || why.starts_with("an error"),
                "{why}"
            );
        }
    }

    #[test]
    fn refusals_are_short() {
        let mut connection = greeted(ANONYMOUS, 1);
        let line = format!("-ERR {}\r\n", "é".repeat(10_000));
        let why = refusal(connection.handle_input(line.as_bytes()));
        assert_eq!(why.chars().count(), 204);
    }

    #[test]
    fn debug_shows_no_password() {
        let login = with_password(Some("edge"), "hunter2");
        let mut connection = Connection::new(login.clone());
        connection.submit(vec![Command::new("SET").arg("k").arg("hunter2")]);
        let shown = format!("{login:?} {connection:?}");
        assert!(shown.contains("edge"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

mod hostile {
    use super::*;

    #[test]
    fn lengths_beyond_the_limits() {
        for input in [
            &b"$999999999999\r\n"[..],
            b"$2147483648\r\n",
            b"$12582913\r\n",
            b"=12582913\r\n",
            b"$18446744073709551616\r\n",
            b"$99999999999999999999999999999999999999999999\r\n",
            b"!65537\r\n",
            b"*9999999\r\n",
            b"*16385\r\n",
            b"~16385\r\n",
            b">16385\r\n",
            b"%8193\r\n",
            b"|8193\r\n",
            b"%9223372036854775808\r\n",
            b"*4294967297\r\n",
        ] {
            limit_error(input);
        }
    }

    #[test]
    fn lengths_that_are_no_lengths() {
        for text in [
            "-2", "-0", "+5", " 5", "5 ", "05", "00", "", "-", "0x5", "5.0", "1e3", "-1 ", "--1",
            "\u{661}", "\0",
        ] {
            for kind in "$*%~>|=!".chars() {
                protocol_error(format!("{kind}{text}\r\n").as_bytes());
            }
        }
    }

    #[test]
    fn streamed_types() {
        for input in [&b"$?\r\n"[..], b"*?\r\n", b"%?\r\n", b"~?\r\n"] {
            assert!(protocol_error(input).contains("streamed"));
        }
        protocol_error(b";4\r\n");
        protocol_error(b".\r\n");
    }

    #[test]
    fn garbage_is_noticed_at_its_first_byte() {
        for first in 0..=u8::MAX {
            let taken = b"+-:$*_#,(!=%~>|".contains(&first);
            assert_eq!(decode(&[first]).is_ok(), taken, "{first}");
        }
        // What a server that expects TLS answers.
        protocol_error(b"\x15\x03\x01\x00\x02\x02\x0a");
        protocol_error(b"HTTP/1.1 400 Bad Request\r\n");
    }

    #[test]
    fn line_ends() {
        for input in [
            &b"+OK\n"[..],
            b"+OK\r\r\n",
            b"+OK\rx",
            b"+O\nK\r\n",
            b":1\n",
            b"$1\n",
            b"$1\ra\r\n",
            b"$1\r\na\n\n",
            b"$1\r\nab\r\n",
        ] {
            protocol_error(input);
        }
    }

    #[test]
    fn endless_lines() {
        let longest = [b"+".as_slice(), &vec![b'x'; RESP_LINE_BYTES_MAX - 1]].concat();
        assert_eq!(decode(&longest), Ok(None));
        assert!(matches!(
            value(&[&longest, b"\r\n".as_slice()].concat()),
            Reply::Simple(_)
        ));
        for kind in [b'+', b'-', b':', b'$', b'(', b'*'] {
            let endless = [&[kind][..], &vec![b'1'; RESP_LINE_BYTES_MAX]].concat();
            limit_error(&endless);
            // Also when the end would come with it.
            limit_error(&[&endless, b"\r\n".as_slice()].concat());
        }
    }

    #[test]
    fn nesting() {
        let nested = |depth| [b"*1\r\n".repeat(depth), b"_\r\n".to_vec()].concat();
        let mut inner = &value(&nested(RESP_DEPTH_MAX));
        for _ in 0..RESP_DEPTH_MAX {
            let Reply::Array(items) = inner else { panic!() };
            inner = &items[0];
        }
        assert_eq!(inner, &Reply::Null);
        limit_error(&nested(RESP_DEPTH_MAX + 1));
        limit_error(&nested(100_000));
        limit_error(&b"|1\r\n".repeat(100_000));
        limit_error(&[b"*1\r\n".repeat(RESP_DEPTH_MAX), b"*0\r\n".to_vec()].concat());
    }

    #[test]
    fn many_values_of_few_bytes() {
        // Each array is as long as allowed; together they would be 800 MB.
        let row = [b"*16384\r\n".to_vec(), b"_\r\n".repeat(RESP_ELEMENTS_MAX)].concat();
        let mut connection = waiting_for(1);
        connection.handle_input(b"*16384\r\n").unwrap();
        let failed = (0..RESP_ELEMENTS_MAX).find_map(|rows| {
            connection
                .handle_input(&row)
                .err()
                .map(|error| (rows, error))
        });
        let Some((rows, WireError::Limit(_))) = failed else {
            panic!("{failed:?}")
        };
        // Long before as many bytes were sent.
        assert!(rows * RESP_ELEMENTS_MAX * size_of::<Reply>() <= RESP_FLIGHT_BYTES_MAX);
    }

    #[test]
    fn endless_attributes_and_pushes() {
        for endless in [
            &b"|0\r\n"[..],
            b"|1\r\n+a\r\n+b\r\n",
            b">0\r\n",
            b">1\r\n+a\r\n",
        ] {
            let chunk = endless.repeat((1 << 20) / endless.len());
            let mut connection = waiting_for(1);
            let failed = (0..64).find_map(|_| connection.handle_input(&chunk).err());
            assert!(matches!(failed, Some(WireError::Limit(_))));
        }
    }

    #[test]
    fn a_flight_of_values_that_are_too_large_together() {
        let value_bytes = RESP_BULK_BYTES_MAX;
        let input = [
            format!("${value_bytes}\r\n").into_bytes(),
            vec![b'x'; value_bytes],
            b"\r\n".to_vec(),
        ]
        .concat();
        let mut connection = waiting_for(3);
        connection.handle_input(&input).unwrap();
        connection.handle_input(&input).unwrap();
        let failed = input
            .chunks(64 << 10)
            .find_map(|chunk| connection.handle_input(chunk).err());
        assert!(matches!(failed, Some(WireError::Limit(_))));
        // In one flight each, all is well.
        let mut connection = waiting_for(1);
        for _ in 0..4 {
            connection.handle_input(&input).unwrap();
            assert_eq!(connection.take_replies().unwrap().len(), 1);
            connection.submit(gets(1));
            connection.take_output();
        }
        // One chunk beyond the limit is not even copied.
        let chunk = vec![b'+'; RESP_FLIGHT_BYTES_MAX + 1];
        assert!(matches!(
            waiting_for(1).handle_input(&chunk),
            Err(WireError::Limit(_))
        ));
    }

    #[test]
    fn a_push_counts_in_the_flight_that_it_reaches_into() {
        let half = [b"$10485760\r\n", &vec![b'x'; 10 << 20][..], b"\r\n"].concat();
        let mut connection = waiting_for(1);
        connection.handle_input(b":1\r\n>1\r\n*16384\r\n").unwrap();
        connection.handle_input(&half).unwrap();
        connection.handle_input(&half).unwrap();
        connection.submit(gets(1));
        connection.take_output();
        connection.handle_input(&half).unwrap();
        assert!(matches!(
            connection.handle_input(&half),
            Err(WireError::Limit(_))
        ));
    }

    #[test]
    fn commands_that_are_sent_again_may_be_answered_at_length() {
        let value = [b"$10485760\r\n", &vec![b'x'; 10 << 20][..], b"\r\n"].concat();
        let mut connection = greeted(with_password(None, "pw"), 2);
        let refused = [UNKNOWN_HELLO, b">2\r\n", &value, &value, NOAUTH, NOAUTH].concat();
        connection.handle_input(&refused).unwrap();
        connection.take_output();
        connection
            .handle_input(&[b"+OK\r\n", &value[..], &value].concat())
            .unwrap();
        assert_eq!(connection.take_replies().unwrap().len(), 2);
    }

    #[test]
    fn nothing_is_reserved_for_what_was_only_announced() {
        for input in ["$12582912\r\n", "*16384\r\n", "%8192\r\n", "=12582912\r\n"] {
            let mut connection = waiting_for(1);
            connection.handle_input(input.as_bytes()).unwrap();
            assert!(connection.buffer_capacity() < 1024);
        }
    }

    #[test]
    fn small_aggregates_have_no_room_that_is_not_charged() {
        // A vector that grows begins with room for four.
        for count in 1..=3 {
            for kind in ["*", "~"] {
                let input = format!("{kind}{count}\r\n{}", "_\r\n".repeat(count));
                let (Reply::Array(items) | Reply::Set(items)) = value(input.as_bytes()) else {
                    panic!()
                };
                assert_eq!(items.capacity(), count);
            }
            let input = format!("%{count}\r\n{}", "_\r\n_\r\n".repeat(count));
            let Reply::Map(pairs) = value(input.as_bytes()) else {
                panic!()
            };
            assert_eq!(pairs.capacity(), count);
        }
    }

    #[test]
    fn what_is_held_follows_what_was_fed() {
        let mut connection = waiting_for(1);
        connection.handle_input(b"$10485760\r\n").unwrap();
        let mut fed = 0;
        for _ in 0..100 {
            connection.handle_input(&[b'x'; 100_000]).unwrap();
            fed += 100_000;
            assert!(connection.held_bytes() >= fed);
            assert!(connection.buffer_capacity() <= 2 * fed + 1024);
        }
    }

    #[test]
    fn an_idle_connection_holds_no_large_buffer() {
        let mut connection = waiting_for(1);
        connection.handle_input(b"$1000000\r\n").unwrap();
        connection.handle_input(&[b'x'; 1_000_000]).unwrap();
        connection.handle_input(b"\r\n").unwrap();
        assert_eq!(connection.buffer_capacity(), 0);
    }

    /// With a search from the front for every chunk this would take hours.
    #[test]
    fn a_large_reply_in_single_bytes() {
        let body = vec![b'\r'; 2 << 20];
        let mut input = format!("*3\r\n${}\r\n", body.len()).into_bytes();
        input.extend_from_slice(&body);
        input.extend_from_slice(b"\r\n*16384\r\n");
        input.extend_from_slice(&b"$1\r\na\r\n".repeat(RESP_ELEMENTS_MAX));
        input.push(b'+');
        input.extend_from_slice(&vec![b'x'; RESP_LINE_BYTES_MAX - 1]);
        input.extend_from_slice(b"\r\n");
        let reply = decode_in(1, &input).unwrap().unwrap();
        assert_eq!(reply, decode_in(usize::MAX, &input).unwrap().unwrap());
    }
}

mod properties {
    use super::*;

    /// Encodes as a server does. Recursive, as the trees here are shallow.
    fn encode(reply: &Reply, out: &mut Vec<u8>) {
        let counted = |kind: char, data: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(format!("{kind}{}\r\n", data.len()).as_bytes());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        };
        match reply {
            Reply::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Reply::Error(error) if error.message.contains(['\r', '\n']) => {
                counted('!', error.to_string().as_bytes(), out);
            }
            Reply::Error(error) => out.extend_from_slice(format!("-{error}\r\n").as_bytes()),
            Reply::Integer(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
            Reply::Bulk(data) => counted('$', data, out),
            Reply::Null => out.extend_from_slice(b"_\r\n"),
            Reply::Double(n) => out.extend_from_slice(format!(",{n:?}\r\n").as_bytes()),
            Reply::Boolean(b) => out.extend_from_slice(if *b { b"#t\r\n" } else { b"#f\r\n" }),
            Reply::BigNumber(n) => out.extend_from_slice(format!("({n}\r\n").as_bytes()),
            Reply::Verbatim(data) => counted('=', &[b"txt:", &data[..]].concat(), out),
            Reply::Array(items) | Reply::Set(items) => {
                let kind = if matches!(reply, Reply::Set(_)) {
                    '~'
                } else {
                    '*'
                };
                out.extend_from_slice(format!("{kind}{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| encode(item, out));
            }
            Reply::Map(pairs) => {
                out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
                for (key, value) in pairs {
                    encode(key, out);
                    encode(value, out);
                }
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        let leaf = prop_oneof![
            "[a-zA-Z0-9 é]{0,20}".prop_map(Reply::Simple),
            ("[A-Z]{1,8}", "[a-z'é\r\n ]{0,20}").prop_map(|(code, text)| error(&code, &text)),
            any::<i64>().prop_map(Reply::Integer),
            bytes().prop_map(Reply::Bulk),
            Just(Reply::Null),
            (proptest::num::f64::NORMAL | proptest::num::f64::INFINITE | proptest::num::f64::ZERO)
                .prop_map(Reply::Double),
            any::<bool>().prop_map(Reply::Boolean),
            "[+-]?[0-9]{1,40}".prop_map(Reply::BigNumber),
            bytes().prop_map(Reply::Verbatim),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            let items = || proptest::collection::vec(inner.clone(), 0..8);
            prop_oneof![
                items().prop_map(Reply::Array),
                items().prop_map(Reply::Set),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..4)
                    .prop_map(Reply::Map),
            ]
        })
    }

    /// Bytes that go further into the decoder than mere noise does.
    fn nearly_resp() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => "[-+:$*_#,(!=%~>|][0-9]{0,2}\r\n".prop_map(String::into_bytes),
            4 => replies().prop_map(|reply| {
                let mut out = Vec::new();
                encode(&reply, &mut out);
                out
            }),
            1 => "[-+:$*_#,(!=%~>|][-+0-9?]{0,12}\r?\n?".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..16),
            1 => Just(WELCOME.to_vec()),
            1 => Just(UNKNOWN_HELLO.to_vec()),
            1 => Just(NOAUTH.to_vec()),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    /// Cuts `input` into chunks of these lengths, in turn.
    fn cut<'a>(mut input: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
        lengths.iter().cycle().map_while(move |&length| {
            if input.is_empty() {
                return None;
            }
            let (chunk, rest) = input.split_at(length.min(input.len()));
            input = rest;
            Some(chunk)
        })
    }

    fn chunk_lengths() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1_usize..40, 1..8)
    }

    proptest! {
        #[test]
        fn replies_decode_to_themselves(
            expected in proptest::collection::vec(replies(), 1..6),
            pushes in proptest::collection::vec(replies(), 0..2),
            lengths in chunk_lengths(),
        ) {
            let mut input = Vec::new();
            for reply in &expected {
                for push in &pushes {
                    input.extend_from_slice(b">1\r\n");
                    encode(push, &mut input);
                }
                encode(reply, &mut input);
            }
            let mut connection = waiting_for(expected.len());
            for chunk in cut(&input, &lengths) {
                prop_assert_eq!(connection.handle_input(chunk), Ok(()));
            }
            prop_assert_eq!(connection.wants(), Wants::Nothing);
            prop_assert_eq!(connection.take_replies(), Some(expected));
        }

        #[test]
        fn noise_neither_panics_nor_piles_up(
            input in proptest::collection::vec(any::<u8>(), 0..512),
            lengths in chunk_lengths(),
        ) {
            let mut connection = greeted(with_password(None, "pw"), 3);
            for chunk in cut(&input, &lengths) {
                if connection.handle_input(chunk).is_err() {
                    break;
                }
            }
            prop_assert!(connection.buffer_capacity() <= 4 * input.len() + 1024);
        }

        #[test]
        fn nearly_resp_means_the_same_however_it_is_cut(
            input in nearly_resp(),
            lengths in chunk_lengths(),
            is_new in any::<bool>(),
        ) {
            // Without password, as an answer of ours would depend on the cut.
            let outcome = |chunks: &mut dyn Iterator<Item = &[u8]>| {
                let mut connection = if is_new { greeted(ANONYMOUS, 3) } else { waiting_for(3) };
                let mut fed = 0;
                for chunk in chunks {
                    fed += chunk.len();
                    connection.handle_input(chunk)?;
                    // A value is at most so much larger than its shortest form.
                    assert!(connection.held_bytes() <= 64 * fed + 4096);
                    assert!(connection.held_bytes() <= RESP_FLIGHT_BYTES_MAX);
                    assert!(connection.buffer_capacity() <= 4 * fed + 1024);
                }
                Ok::<_, WireError>((connection.wants(), connection.take_replies()))
            };
            let at_once = outcome(&mut [&input[..]].into_iter());
            let in_parts = outcome(&mut cut(&input, &lengths));
            prop_assert_eq!(format!("{at_once:?}"), format!("{in_parts:?}"));
        }

        #[test]
        fn arguments_arrive_as_they_are(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20),
        ) {
            let command = args.iter().fold(Command::new("X"), |command, arg| command.arg(arg));
            let mut expected = vec![bulk("X")];
            expected.extend(args.into_iter().map(|arg| Reply::Bulk(arg.into())));
            // A command is an array of bulks, and so reads as a reply.
            let read = decode_in(7, &command.into_bytes());
            prop_assert_eq!(read, Ok(Some(Reply::Array(expected))));
        }
    }
}
