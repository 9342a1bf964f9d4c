//! What no real server is needed for: start-up, broken streams, failures, doors.

use edge::tiers::postgres as sql;

use super::message::{write, write_string};
use super::numeric::Numeric;
use super::values::write_timestamp;
use super::{Failure, Product, Server, Session};

const NOW_MS: u64 = 1_709_251_199_120;

/// The tags of the messages, and the texts in them that are of interest.
fn tags(bytes: &[u8]) -> String {
    let (mut tags, mut rest) = (String::new(), bytes);
    while let Some((tag, after)) = rest.split_first() {
        tags.push(char::from(*tag));
        let length = u32::from_be_bytes(*after.first_chunk().unwrap());
        rest = &after[length as usize..];
    }
    tags
}

/// Parse, Bind, Describe, Execute, Sync.
fn statement(text: &str, parameters: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, b'P', |out| {
        write_string(out, "");
        write_string(out, text);
        out.extend([0, 0]);
    });
    write(&mut out, b'B', |out| {
        out.extend([0, 0, 0, 0, 0, u8::try_from(parameters.len()).unwrap()]);
        for parameter in parameters {
            out.extend(u32::try_from(parameter.len()).unwrap().to_be_bytes());
            out.extend(parameter.as_bytes());
        }
        out.extend([0, 0]);
    });
    write(&mut out, b'D', |out| write_string(out, "P"));
    write(&mut out, b'E', |out| out.extend([0; 5]));
    write(&mut out, b'S', |_| ());
    out
}

fn startup() -> Vec<u8> {
    [&[0, 0, 0, 16, 0, 3, 0, 0][..], b"user\0u\0\0"].concat()
}

fn said(server: &mut Server, session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    session.handle_input(server, bytes, NOW_MS);
    session.take_output()
}

fn logged_in(server: &mut Server) -> Session {
    let mut session = Session::new();
    assert!(tags(&said(server, &mut session, &startup())).ends_with("KZ"));
    session
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn an_error_skips_to_the_sync_and_a_lost_statement_does_nothing() {
    let mut server = Server::new();
    server.put_user("u", NOW_MS);
    let mut session = logged_in(&mut server);
    let refused = statement(sql::PLACE_ORDER, &["o", "u", "[1", "1", "new"]);
    let unknown = statement("SELECT 2", &[]);
    let placed = statement(sql::PLACE_ORDER, &["o", "u", "[1]", "1.005", "new"]);
    let flight = [refused, unknown, placed].concat();
    let answer = said(&mut server, &mut session, &flight);
    assert_eq!(tags(&answer), "1EZEZ12TDCZ");
    assert!(contains(&answer, "22P02") && contains(&answer, "42601"));
    let order = server.order("o").unwrap();
    assert_eq!(order.total_amount, "1.01");
    assert_eq!(order.created_at_ms, NOW_MS);
    assert_eq!(server.statements(), 1);
}

#[test]
fn tls_is_declined_and_a_cancel_request_closes_without_a_word() {
    let mut server = Server::new();
    let mut session = Session::new();
    let ssl_request = [0, 0, 0, 8, 4, 210, 22, 47];
    assert_eq!(said(&mut server, &mut session, &ssl_request), b"N");
    let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];
    assert!(said(&mut server, &mut session, &cancel).is_empty());
    assert!(session.is_closed());
}

#[test]
fn a_stream_that_is_none_of_ours_ends_the_connection() {
    for (bytes, tag) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], ""),
        (&[0, 0, 0, 7, 0, 0, 0], ""),
        (&[0xFF; 8], ""),
        (&[0, 0, 0, 9, 0, 2, 0, 0, 0], "E"),
        (&[0, 0, 0, 9, 0, 3, 0, 0, 0], "E"),
        (&[0, 0, 0, 10, 0, 3, 0, 0, b'u', b's'], "E"),
    ] {
        let (mut server, mut session) = (Server::new(), Session::new());
        assert_eq!(
            tags(&said(&mut server, &mut session, bytes)),
            tag,
            "{bytes:?}"
        );
        assert!(session.is_closed());
    }
    for bytes in [
        &b"?"[..],
        b"S\0\0\0\x03",
        b"X\xFF\xFF\xFF\xFF",
        b"D\0\x01\0\0",
    ] {
        let mut server = Server::new();
        let mut session = logged_in(&mut server);
        assert_eq!(
            tags(&said(&mut server, &mut session, bytes)),
            "E",
            "{bytes:?}"
        );
        assert!(session.is_closed());
        assert!(said(&mut server, &mut session, &startup()).is_empty());
    }
}

#[test]
fn a_server_that_fails_says_so_and_is_well_again() {
    let mut server = Server::new();
    server.put_user("u", NOW_MS);
    for (failure, sqlstate) in [(Failure::StartingUp, "57P03"), (Failure::Full, "53300")] {
        server.fail(Some(failure));
        let mut session = Session::new();
        let answer = said(&mut server, &mut session, &startup());
        assert!(contains(&answer, sqlstate) && contains(&answer, "FATAL"));
        assert!(session.is_closed());
    }
    server.fail(Some(Failure::ReadOnly));
    let mut session = logged_in(&mut server);
    let save = statement(sql::SAVE_PROFILE, &["u", r#"{"b":1,"a":2}"#, "{}", "u@x"]);
    let answer = said(&mut server, &mut session, &save);
    assert!(contains(&answer, "25006"));
    assert_eq!(server.preferences("u"), Some("{}"));
    server.fail(None);
    let answer = said(&mut server, &mut session, &save);
    assert_eq!(tags(&answer), "12TDCZ");
    assert_eq!(server.preferences("u"), Some(r#"{"a": 2, "b": 1}"#));
}

#[test]
fn other_programs_write_past_the_wire() {
    let mut server = Server::new();
    let product = |id: &str, rating| Product {
        id: id.to_owned(),
        rating_hundredths: rating,
        ..Product::default()
    };
    server.put_product(product("low", Some(100)), NOW_MS);
    server.put_product(product("none", None), NOW_MS);
    server.put_product(product("b", Some(500)), NOW_MS);
    server.put_product(product("a", Some(500)), NOW_MS);
    server.put_product(product("low", Some(200)), NOW_MS);
    let ids: Vec<&str> = server
        .products()
        .map(|product| product.id.as_str())
        .collect();
    assert_eq!(ids, ["none", "a", "b", "low"]);
    assert!(server.remove_product("low") && !server.remove_product("low"));
    assert!(!server.set_preferences("u", "{}", NOW_MS));
    server.put_user("u", NOW_MS);
    assert!(!server.set_preferences("u", "{", NOW_MS));
    assert!(server.set_preferences("u", "{\"a\":1}", NOW_MS + 1));
    let profile = server.profile("u").unwrap();
    assert_eq!(profile.preferences, "{\"a\": 1}");
    assert_eq!(profile.updated_at_ms, NOW_MS + 1);
    assert!(!server.set_order_status("o", "paid", NOW_MS));
}

#[test]
fn an_address_is_of_one_user() {
    let mut server = Server::new();
    let mut session = logged_in(&mut server);
    for (user, tags_of) in [("u", "12TDCZ"), ("v", "12TEZ"), ("u", "12TDCZ")] {
        let save = statement(sql::SAVE_PROFILE, &[user, "{}", "{}", "same@x"]);
        assert_eq!(tags(&said(&mut server, &mut session, &save)), tags_of);
    }
}

#[test]
fn times_and_money_have_the_servers_forms() {
    for (ms, expected) in [
        (0, "1970-01-01 00:00:00"),
        (NOW_MS, "2024-02-29 23:59:59.12"),
        (NOW_MS + 880, "2024-03-01 00:00:00"),
        (4_107_542_400_007, "2100-03-01 00:00:00.007"),
        (253_402_300_799_999, "9999-12-31 23:59:59.999"),
    ] {
        let mut out = Vec::new();
        write_timestamp(ms, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let money = |text: &str| Numeric::parse(text).and_then(|number| number.money());
    assert_eq!(money("1.005").unwrap(), "1.01");
    assert_eq!(money("-0.004").unwrap(), "0.00");
    assert_eq!(money("99999999.994").unwrap(), "99999999.99");
    assert_eq!(money("99999999.995").unwrap_err().sqlstate, "22003");
    let bounds = |text: &str| {
        let number = Numeric::parse(text).unwrap();
        (number.least_hundredths(), number.greatest_hundredths())
    };
    assert_eq!(bounds("1.001"), (101, 100));
    assert_eq!(bounds("-1.001"), (-100, -101));
    assert_eq!(bounds("2"), (200, 200));
}
