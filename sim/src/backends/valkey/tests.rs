//! What no real server is needed for: doors, counts, failures, time.

use super::{Failure, Server, Session};

fn said(server: &mut Server, session: &mut Session, words: &[&str], now_ms: u64) -> String {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    session.handle_input(server, bytes.as_bytes(), now_ms);
    String::from_utf8(session.take_output()).unwrap()
}

#[test]
fn other_programs_read_and_write_past_the_wire() {
    let (mut server, mut session) = (Server::new(), Session::new());
    server.set("k", b"v", Some(10), 100);
    assert_eq!(server.get("k", 110).as_deref(), Some(b"v".as_slice()));
    assert_eq!(server.ttl_ms("k", 103), Some(7));
    assert_eq!(server.get("k", 111), None);
    said(&mut server, &mut session, &["HSET", "h", "f", "1"], 100);
    assert_eq!(server.hash_field("h", "f", 100), Some(b"1".to_vec()));
    assert_eq!(
        (server.get("h", 100), server.hash_field("k", "f", 100)),
        (None, None)
    );
    assert_eq!(server.keys(100), [b"h".to_vec(), b"k".to_vec()]);
    assert_eq!(server.keys(111), [b"h".to_vec()]);
    assert!(server.delete("h", 100) && !server.delete("h", 100));
    server.clear();
    assert!(server.keys(100).is_empty());
}

#[test]
fn commands_are_counted_by_name_and_those_of_scripts_are_not() {
    let (mut server, mut session) = (Server::new(), Session::new());
    for words in [
        &["get", "k"][..],
        &["GET", "k"],
        &["EVAL", "return redis.call('GET','k')", "0"],
        &["NOSUCH"],
    ] {
        said(&mut server, &mut session, words, 1);
    }
    let counts: Vec<_> = server.commands_by_name().collect();
    assert_eq!(counts, [("eval", 1), ("get", 2)]);
    assert_eq!(server.commands(), 3);
}

#[test]
fn a_server_that_fails_says_so_and_is_well_again() {
    let (mut server, mut session) = (Server::new(), Session::new());
    server.fail(Some(Failure::Loading));
    let mut ask = |server: &mut Server, words: &[&str]| said(server, &mut session, words, 1);
    assert_eq!(
        ask(&mut server, &["GET", "k"]),
        "-LOADING Valkey is loading the dataset in memory\r\n"
    );
    assert!(ask(&mut server, &["HELLO", "3"]).starts_with("%7\r\n"));
    server.fail(Some(Failure::ReadOnly));
    assert!(ask(&mut server, &["SET", "k", "v"]).starts_with("-READONLY "));
    assert_eq!(ask(&mut server, &["GET", "k"]), "_\r\n");
    server.fail(Some(Failure::OutOfMemory));
    let script = "return redis.call('SET','k','v')";
    assert!(ask(&mut server, &["EVAL", script, "0"]).starts_with("-OOM "));
    assert_eq!(ask(&mut server, &["DEL", "k"]), ":0\r\n");
    server.fail(None);
    assert_eq!(ask(&mut server, &["EVAL", script, "0"]), "+OK\r\n");
}

#[test]
fn time_is_what_is_passed_in_and_stands_still_in_a_script() {
    let (mut server, mut session) = (Server::new(), Session::new());
    let time = said(&mut server, &mut session, &["TIME"], 12_345);
    assert_eq!(time, "*2\r\n$2\r\n12\r\n$6\r\n345000\r\n");
    said(
        &mut server,
        &mut session,
        &["SET", "k", "v", "PX", "10"],
        100,
    );
    // It is there in the millisecond in which it ends.
    assert_eq!(
        said(&mut server, &mut session, &["PTTL", "k"], 110),
        ":0\r\n"
    );
    assert_eq!(
        said(&mut server, &mut session, &["PTTL", "k"], 111),
        ":-2\r\n"
    );
}
