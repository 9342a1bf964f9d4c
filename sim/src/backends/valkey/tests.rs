//! What no real server is needed for: doors, counts, failures, time, twins of scripts.

use edge::tiers::valkey;
use edge::wire::Machine;
use edge::wire::resp::{Command, Connection, Login};
use proptest::collection::vec;
use proptest::prelude::*;

use super::keyspace::Value;
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

const FAMILY: &str = "family";

/// Something that is done to a few keys, at a time.
#[derive(Debug, Clone)]
enum Act {
    Read(u8, Option<&'static str>, u8, u8, [u64; 3]),
    Fill(u8, u8, u8, u64),
    Block(Vec<u8>, u8, u64),
    Release(Vec<u8>, u8),
    Outdate,
    /// What the edge would not write.
    Odd(u8, u8),
    Fail(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let few = 0..3_u8;
    let ms = prop_oneof![Just(0), 1..40_u64, Just(5_000)];
    let after = prop_oneof![3 => Just(0), 1 => Just(u64::MAX), 1 => 1_000..1_200_u64];
    let keys = vec(few.clone(), 0..3);
    let family = prop_oneof![Just(None), Just(Some(FAMILY))];
    prop_oneof![
        6 => (few.clone(), family, few.clone(), few.clone(), (ms.clone(), ms.clone(), after))
            .prop_map(|(key, family, variant, token, (one, two, after))| Act::Read(key, family, variant, token, [one, two, after])),
        6 => (few.clone(), few.clone(), few.clone(), ms.clone())
            .prop_map(|(key, variant, token, ms)| Act::Fill(key, variant, token, ms)),
        2 => (keys.clone(), few.clone(), ms).prop_map(|(keys, token, ms)| Act::Block(keys, token, ms)),
        2 => (keys, few.clone()).prop_map(|(keys, token)| Act::Release(keys, token)),
        1 => Just(Act::Outdate),
        2 => (few, 0..10_u8).prop_map(|(key, what)| Act::Odd(key, what)),
        1 => any::<bool>().prop_map(Act::Fail),
    ]
}

fn command(act: &Act) -> Command {
    let name = |number: &u8| format!("k{number}");
    let names = |numbers: &[u8]| numbers.iter().map(name).collect::<Vec<_>>();
    match act {
        Act::Read(key, family, variant, token, [one, two, after]) => {
            let (key, refresh_ms) = (name(key), (*one, *two));
            let names = (key.as_str(), *family);
            valkey::read_copy(names, &name(variant), &name(token), refresh_ms, *after)
        }
        Act::Outdate => valkey::outdate(FAMILY),
        Act::Fill(key, variant, token, ms) => {
            let body = if *ms % 2 == 0 { "" } else { "[1,\n2]" };
            valkey::fill_copy(
                &name(key),
                &name(variant),
                &name(token),
                body.as_bytes(),
                *ms,
            )
        }
        Act::Block(keys, token, ms) => valkey::block(&names(keys), &name(token), *ms),
        Act::Release(keys, token) => valkey::release(&names(keys), &name(token)),
        Act::Odd(key, what) => {
            let set = |field: &str, value: &str| {
                let set = Command::new("HSET").arg(name(key));
                set.arg(field).arg(value)
            };
            match what {
                0 => Command::new("SET").arg(name(key)).arg("text"),
                1 => set("b:x", "soon"),
                2 => set("v:k1", "123"),
                3 => set("v:k1", "99999999999999999999 [1]"),
                4 => set("l:k1", " k1"),
                5 => set("l:k1", "0001005 k1"),
                6 => Command::new("SET").arg(FAMILY).arg("no number"),
                7 => Command::new("SET").arg(FAMILY).arg("99999999"),
                8 => Command::new("DEL").arg(FAMILY),
                _ => Command::new("DEL").arg(name(key)),
            }
        }
        Act::Fail(_) => Command::new("PING"),
    }
}

proptest! {
    #[test]
    fn a_twin_does_what_its_script_does(acts in vec((act(), 0..30_u64), 1..60)) {
        let (mut server, mut other) = (Server::new(), Server::new());
        other.scripts().unwrap().twins.clear();
        let mut now_ms = 1_000;
        for (act, pause_ms) in &acts {
            now_ms += pause_ms;
            let mut connection = Connection::new(Login { user: None, password: None });
            connection.submit(vec![command(act)]);
            let bytes = connection.take_output();
            let replies = [&mut server, &mut other].map(|server| {
                if let Act::Fail(fails) = act {
                    server.fail(fails.then_some(Failure::OutOfMemory));
                }
                let mut session = Session::new();
                session.handle_input(server, &bytes, now_ms);
                session.take_output()
            });
            prop_assert_eq!(&replies[0], &replies[1], "{:?}", act);
            for key in ["k0", "k1", "k2"] {
                let [one, two] = [&server, &other].map(|server| {
                    let keyspace = server.keyspace.borrow();
                    let fields = match keyspace.peek(key.as_bytes(), now_ms) {
                        Some(Value::Hash(fields)) => fields.clone(),
                        _ => Vec::new(),
                    };
                    (fields, server.get(key, now_ms), server.ttl_ms(key, now_ms))
                });
                prop_assert_eq!(one, two, "{:?}", act);
            }
        }
    }
}

#[test]
fn the_edges_scripts_have_their_twins() {
    for (text, _) in super::twins::all() {
        assert!(
            text.starts_with(b"local "),
            "{}",
            String::from_utf8_lossy(&text)
        );
    }
}
