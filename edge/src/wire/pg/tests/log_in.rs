//! Every way in, every way not in, and what each costs in round trips.

use super::server::{Lie, Method, PASSWORD, Server, authentication, error, message, rows};
use super::*;
use crate::limits::SCRAM_SALT_BYTES_MAX;

const INT4: u32 = 23;

/// Submits a statement at once, and logs in for it.
fn ask(ssl: SslMode, password: Option<&str>, server: &mut Server, cut: &Cut) -> Outcome {
    server
        .answers
        .push_back(rows(&[("n", INT4)], &[vec![Some(b"7")]]));
    let mut connection = connection(login(ssl, password));
    connection
        .submit(&statement("SELECT $1 AS n", &[Some("7")]))
        .unwrap();
    let outcome = drive(&mut connection, server, cut);
    if outcome.error.is_none() {
        let cancel = connection.cancel_request().expect("the key was told");
        assert_eq!(
            cancel[..],
            *b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x2a\0\0\0\x2b"
        );
    }
    outcome
}

fn error_of(password: Option<&str>, server: &mut Server) -> WireError {
    let outcome = ask(SslMode::Disable, password, server, &Cut::Nowhere);
    assert_eq!(outcome.answers, [], "an answer before the log-in");
    outcome.error.expect("an error")
}

#[test]
fn round_trips_are_as_documented() {
    for (method, password, ssl, flights) in [
        (Method::Trust, None, SslMode::Disable, 1),
        (Method::Trust, None, SslMode::Require, 1 + 1),
        (Method::Trust, Some(PASSWORD), SslMode::Disable, 2),
        (Method::Trust, Some(PASSWORD), SslMode::VerifyFull, 1 + 2),
        (Method::Md5, Some(PASSWORD), SslMode::Disable, 2),
        (Method::Md5, Some(PASSWORD), SslMode::Require, 1 + 2),
        (
            Method::ClearText,
            Some(PASSWORD),
            SslMode::VerifyFull,
            1 + 2,
        ),
        (Method::ClearText, Some(PASSWORD), SslMode::Private, 2),
        (Method::Scram, Some(PASSWORD), SslMode::Disable, 3),
        (Method::Scram, Some(PASSWORD), SslMode::VerifyFull, 1 + 3),
    ] {
        let mut server = Server::new(method);
        let outcome = ask(ssl, password, &mut server, &Cut::Nowhere);
        let what = format!("{method:?} {ssl:?} {outcome:?}");
        assert_eq!((&outcome.error, outcome.done), (&None, true), "{what}");
        assert_eq!(outcome.flights, flights, "{what}");
        assert_eq!(outcome.answers.len(), 1, "{what}");
        assert_eq!(
            outcome.answers[0].as_ref().unwrap().text(0, 0),
            Some("7"),
            "{what}"
        );
        assert_eq!(
            server.tls,
            matches!(ssl, SslMode::Require | SslMode::VerifyFull)
        );
        assert_eq!(
            server.statements,
            [("SELECT $1 AS n".to_owned(), vec![Some("7".to_owned())])],
            "{what}"
        );
    }
}

#[test]
fn cuts_change_nothing() {
    for (method, password, ssl) in [
        (Method::Trust, None, SslMode::Disable),
        (Method::Md5, Some(PASSWORD), SslMode::Disable),
        (Method::ClearText, Some(PASSWORD), SslMode::Require),
        (Method::Scram, Some(PASSWORD), SslMode::Disable),
        (Method::Scram, Some(PASSWORD), SslMode::Require),
        (Method::Scram, Some("wrong"), SslMode::Disable),
    ] {
        let run = |cut| ask(ssl, password, &mut Server::new(method), &cut);
        let whole = run(Cut::Nowhere);
        assert_eq!(run(Cut::Everywhere), whole);
        for position in 1..whole.received {
            assert_eq!(run(Cut::After(position)), whole, "cut after {position}");
        }
    }
}

#[test]
fn startup_parameters_fix_how_values_look() {
    let mut server = Server::trust();
    ask(SslMode::Disable, None, &mut server, &Cut::Nowhere);
    let expected = [
        "user",
        "alice",
        "database",
        "shop",
        "client_encoding",
        "UTF8",
        "DateStyle",
        "ISO, YMD",
        "TimeZone",
        "UTC",
        "application_name",
        "shepherd-edge",
        "",
        "",
    ];
    assert_eq!(server.startup, expected);
}

#[test]
fn an_idle_log_in_ends_with_nothing_wanted() {
    let mut server = Server::new(Method::Scram);
    server.iterations = "4096".to_owned();
    let mut connection = connection(login(SslMode::Require, Some(PASSWORD)));
    assert_eq!(connection.cancel_request(), None);
    let outcome = drive(&mut connection, &mut server, &Cut::Nowhere);
    assert_eq!(
        (outcome.flights, outcome.done, outcome.error),
        (4, true, None)
    );
    assert!(!connection.statement_sent());
}

#[test]
fn wrong_passwords_are_refused_with_the_sqlstate() {
    for method in [Method::Md5, Method::Scram] {
        let mut server = Server::new(method);
        match error_of(Some("wrong"), &mut server) {
            WireError::Refused(why) => assert!(
                why.starts_with("28P01 password authentication failed"),
                "{method:?}: {why}"
            ),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_password_that_is_not_set_is_asked_for() {
    for method in [Method::Md5, Method::ClearText] {
        let WireError::Refused(why) = error_of(None, &mut Server::new(method)) else {
            panic!()
        };
        assert!(
            why.contains("needs a password") && why.contains("; set "),
            "{why}"
        );
    }
    // The SCRAM server of the tests takes no statement before the mechanism.
    let mut connection = connection(login(SslMode::Disable, None));
    let outcome = drive(
        &mut connection,
        &mut Server::new(Method::Scram),
        &Cut::Nowhere,
    );
    assert!(
        matches!(outcome.error, Some(WireError::Refused(_))),
        "{outcome:?}"
    );
}

#[test]
fn clear_text_goes_only_over_tls() {
    let mut server = Server::new(Method::ClearText);
    let mut connection = connection(login(SslMode::Disable, Some(PASSWORD)));
    let first = connection.take_output();
    let asked = server.receive(&first);
    assert!(matches!(
        connection.handle_input(&asked),
        Err(WireError::Security(_))
    ));
    assert!(connection.take_output().is_empty(), "the password leaked");
}

#[test]
fn a_lying_scram_server_is_not_believed() {
    for (lie, security) in [
        (Lie::Signature, true),
        (Lie::NoSignature, true),
        (Lie::Nonce, false),
    ] {
        let mut server = Server::new(Method::Scram);
        server.lie = lie;
        match error_of(Some(PASSWORD), &mut server) {
            WireError::Security(_) if security => {}
            WireError::Protocol(_) if !security => {}
            other => panic!("{lie:?}: {other:?}"),
        }
    }
    let mut server = Server::new(Method::Scram);
    server.lie = Lie::ErrorInFinal;
    assert!(matches!(
        error_of(Some(PASSWORD), &mut server),
        WireError::Refused(_)
    ));
}

#[test]
fn scram_iterations_are_bounded_before_they_are_computed() {
    for (iterations, limit) in [
        ("0", false),
        ("100001", true),
        ("2147483648", true),
        ("4294967296", true),
        ("99999999999999999999999", false),
        ("-1", false),
        ("+3", false),
        ("", false),
        ("3,x=y", false),
        ("3 ", false),
    ] {
        let mut server = Server::new(Method::Scram);
        server.iterations = iterations.to_owned();
        match error_of(Some(PASSWORD), &mut server) {
            WireError::Limit(_) if limit => {}
            WireError::Protocol(_) if !limit => {}
            other => panic!("{iterations}: {other:?}"),
        }
        assert_eq!(server.statements, [], "{iterations}");
    }
}

#[test]
fn a_salt_is_bounded() {
    for (salt_bytes, is_taken) in [
        (0, true),
        (SCRAM_SALT_BYTES_MAX, true),
        (SCRAM_SALT_BYTES_MAX + 1, false),
    ] {
        let mut server = Server::new(Method::Scram);
        server.salt = vec![b's'; salt_bytes];
        let outcome = ask(SslMode::Disable, Some(PASSWORD), &mut server, &Cut::Nowhere);
        match outcome.error {
            None if is_taken => {}
            Some(WireError::Limit(_)) if !is_taken => {}
            other => panic!("{salt_bytes}: {other:?}"),
        }
    }
}

/// Logs in once more in an isolate; how often it derived keys for that.
fn derivations(scram: &Scram, password: &str, server: &mut Server) -> (usize, Option<WireError>) {
    let before = scram.remembered.derivations.get();
    let mut connection = Connection::new(
        login(SslMode::Disable, Some(password)),
        Scram {
            nonce: [scram.nonce[0] ^ before as u8; 16],
            ..scram.clone()
        },
    );
    let outcome = drive(&mut connection, server, &Cut::Nowhere);
    assert_eq!(outcome.done, outcome.error.is_none());
    (scram.remembered.derivations.get() - before, outcome.error)
}

#[test]
fn only_the_first_log_in_of_an_isolate_derives_keys() {
    let scram = scram();
    let log_in = |change: fn(&mut Server)| {
        let mut server = Server::new(Method::Scram);
        change(&mut server);
        derivations(&scram, server.password, &mut server)
    };
    assert_eq!(log_in(|_| {}), (1, None));
    assert_eq!(log_in(|_| {}), (0, None));
    // Another password, salt or price has other keys, and one of each is remembered.
    for change in [
        |server: &mut Server| server.password = "linen",
        |server: &mut Server| server.salt.push(0),
        |server: &mut Server| server.iterations = "4".to_owned(),
    ] {
        assert_eq!(log_in(change), (1, None));
        assert_eq!(log_in(change), (0, None));
    }
    assert_eq!(log_in(|_| {}), (1, None));
}

#[test]
fn a_log_in_that_fails_leaves_no_keys() {
    let scram = scram();
    let log_in = |change: fn(&mut Server)| {
        let mut server = Server::new(Method::Scram);
        change(&mut server);
        derivations(&scram, PASSWORD, &mut server)
    };
    for change in [
        |server: &mut Server| server.password = "changed meanwhile",
        |server: &mut Server| server.lie = Lie::Signature,
        |server: &mut Server| server.lie = Lie::NoSignature,
        |server: &mut Server| server.lie = Lie::ErrorInFinal,
        |server: &mut Server| server.lie = Lie::Nonce,
    ] {
        assert_eq!(log_in(|_| {}), (1, None));
        let (derived, error) = log_in(change);
        assert!(derived == 0 && error.is_some(), "{derived} {error:?}");
        // Nor does it leave its own.
        assert!(log_in(change).1.is_some());
    }
}

#[test]
fn mechanisms() {
    let mut server = Server::new(Method::Scram);
    server.mechanisms = vec!["SCRAM-SHA-256"];
    let outcome = ask(SslMode::Disable, Some(PASSWORD), &mut server, &Cut::Nowhere);
    assert_eq!(outcome.error, None);
    for mechanisms in [
        vec!["SCRAM-SHA-256-PLUS"],
        vec!["OAUTHBEARER", "SCRAM-SHA-1"],
    ] {
        server = Server::new(Method::Scram);
        server.mechanisms = mechanisms;
        assert!(matches!(
            error_of(Some(PASSWORD), &mut server),
            WireError::Security(_)
        ));
    }
}

/// The first thing that a server says after StartupMessage.
fn first_words(bytes: &[u8]) -> Result<(), WireError> {
    let mut connection = connection(login(SslMode::Disable, Some(PASSWORD)));
    connection.take_output();
    connection.handle_input(bytes)
}

#[test]
fn other_methods_are_not_supported() {
    for code in [2, 6, 7, 9] {
        let answer = first_words(&authentication(code, &[]));
        assert!(matches!(answer, Err(WireError::Security(_))), "{code}");
    }
    for (code, data) in [(8, &b"x"[..]), (11, b"r=a,s=b,i=1"), (12, b"v="), (99, b"")] {
        let answer = first_words(&authentication(code, data));
        assert!(matches!(answer, Err(WireError::Protocol(_))), "{code}");
    }
}

#[test]
fn scram_may_not_be_left_for_something_else() {
    let begin = authentication(10, b"SCRAM-SHA-256\0\0");
    for next in [
        authentication(3, &[]),
        authentication(5, &[0; 4]),
        begin.clone(),
    ] {
        let answer = first_words(&[begin.clone(), next].concat());
        assert!(matches!(answer, Err(WireError::Protocol(_))), "{answer:?}");
    }
    let answer = first_words(&[begin, authentication(0, &[])].concat());
    assert!(matches!(answer, Err(WireError::Security(_))), "{answer:?}");
}

#[test]
fn refusals_start_with_the_sqlstate() {
    for (sqlstate, sentence) in [
        ("28000", "28000 authentication failed: x"),
        ("3D000", "3D000 unknown database: x"),
        ("53300", "53300 too many connections: x"),
        ("57P03", "57P03 the server is starting up or stopping: x"),
        ("XX000", "XX000 x"),
    ] {
        let answer = first_words(&error("FATAL", sqlstate, "x"));
        assert_eq!(answer, Err(WireError::Refused(sentence.to_owned())));
    }
    for sqlstate in ["", "1234", "123456", "12a45", "12 45"] {
        let answer = first_words(&error("FATAL", sqlstate, "x"));
        assert!(matches!(answer, Err(WireError::Protocol(_))), "{sqlstate}");
    }
    assert!(matches!(
        first_words(&message(b'E', b"\0")),
        Err(WireError::Protocol(_))
    ));
}

#[test]
fn a_long_or_garbled_message_is_cut_and_mended() {
    let Err(WireError::Refused(why)) = first_words(&error("FATAL", "XX000", &"ü".repeat(100_000)))
    else {
        panic!()
    };
    assert!(why.len() < 3000);
    let body = b"SFATAL\0CXX000\0M\xff\xfe\0\0";
    assert!(matches!(
        first_words(&message(b'E', body)),
        Err(WireError::Refused(_))
    ));
}

#[test]
fn answers_to_the_request_for_tls() {
    let answer = |bytes: &[u8]| {
        let mut connection = connection(login(SslMode::Require, None));
        connection.submit(&statement("SELECT 1", &[])).unwrap();
        assert_eq!(connection.take_output()[..], *b"\0\0\0\x08\x04\xd2\x16\x2f");
        let result = connection.handle_input(bytes);
        assert!(connection.take_output().is_empty() && !connection.statement_sent());
        (result, connection)
    };
    let (result, mut connection) = answer(b"S");
    assert_eq!((result, connection.wants()), (Ok(()), Wants::Tls));
    assert_eq!(connection.handle_input(b""), Ok(()));
    assert!(matches!(
        connection.handle_input(b"R"),
        Err(WireError::Security(_))
    ));

    assert!(matches!(answer(b"SR").0, Err(WireError::Security(_))));
    assert!(matches!(answer(b"N").0, Err(WireError::Security(_))));
    assert!(matches!(
        answer(b"Efatal: hi\0").0,
        Err(WireError::Refused(_))
    ));
    assert!(matches!(answer(b"H").0, Err(WireError::Protocol(_))));
    assert_eq!(answer(b"").0, Ok(()));

    let (_, mut connection) = answer(b"");
    connection.tls_started();
    assert_eq!(
        connection.wants(),
        Wants::Input,
        "TLS that nobody asked for"
    );
    assert!(connection.take_output().is_empty());
}

#[test]
fn a_nul_byte_in_the_settings_is_told() {
    let mut nul = login(SslMode::Disable, None);
    nul.user = "al\0ice".to_owned();
    let mut connection = connection(nul);
    assert!(connection.take_output().is_empty());
    assert!(matches!(
        connection.submit(&statement("SELECT 1", &[])),
        Err(WireError::Security(_))
    ));
    assert!(matches!(
        connection.handle_input(b""),
        Err(WireError::Security(_))
    ));
}

#[test]
fn debug_does_not_show_the_password() {
    let shown = format!("{:?}", login(SslMode::Disable, Some(PASSWORD)));
    assert!(
        shown.contains("alice") && !shown.contains(PASSWORD),
        "{shown}"
    );
}
