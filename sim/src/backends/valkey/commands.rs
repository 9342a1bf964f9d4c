//! Which commands there are, and what those on keys and strings do.
//!
//! Does not know connections: HELLO, AUTH and EVAL are named here, and done in
//! `session` and `script`.

use super::Failure;
use super::expiry::{expire, moment, persist, pttl, ttl};
use super::hashes::{hdel, hget, hgetall, hkeys, hset};
use super::keyspace::{Keyspace, Lifetime, Value};
use super::reply::Reply;

pub(super) const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";

type Run = fn(&mut Keyspace, &[&[u8]]) -> Reply;

/// What a connection does itself.
#[derive(Clone, Copy)]
pub(super) enum Does {
    Keyspace(Run),
    Hello,
    Auth,
    Eval,
}

pub(super) struct Command {
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many.
    arity: i32,
    writes: bool,
    /// Could need memory (the flag `denyoom`).
    grows: bool,
    pub does: Does,
}

const fn reads(name: &'static str, arity: i32, run: Run) -> Command {
    Command {
        name,
        arity,
        writes: false,
        grows: false,
        does: Does::Keyspace(run),
    }
}

const fn writes(name: &'static str, arity: i32, run: Run) -> Command {
    Command {
        writes: true,
        ..reads(name, arity, run)
    }
}

const fn grows(name: &'static str, arity: i32, run: Run) -> Command {
    Command {
        grows: true,
        ..writes(name, arity, run)
    }
}

const fn connection(name: &'static str, arity: i32, does: Does) -> Command {
    Command {
        name,
        arity,
        writes: false,
        grows: false,
        does,
    }
}

static COMMANDS: [Command; 21] = [
    connection("eval", -3, Does::Eval),
    connection("hello", -1, Does::Hello),
    connection("auth", -2, Does::Auth),
    reads("get", 2, get),
    reads("pttl", 2, pttl),
    grows("set", -3, set),
    writes("del", -2, del),
    reads("ping", -1, ping),
    reads("ttl", 2, ttl),
    reads("exists", -2, exists),
    writes("expire", -3, |keyspace, arguments| {
        expire(keyspace, arguments, "expire", 1000)
    }),
    writes("pexpire", -3, |keyspace, arguments| {
        expire(keyspace, arguments, "pexpire", 1)
    }),
    reads("hget", 3, hget),
    grows("hset", -4, hset),
    writes("hdel", -3, hdel),
    reads("hkeys", 2, hkeys),
    reads("hgetall", 2, hgetall),
    reads("time", 1, time),
    writes("flushall", -1, flush_all),
    reads("dbsize", 1, |keyspace, _| {
        Reply::count(keyspace.live_keys())
    }),
    writes("persist", 2, persist),
];

pub(super) fn command(name: &[u8]) -> Option<&'static Command> {
    let named = |command: &&Command| command.name.as_bytes().eq_ignore_ascii_case(name);
    COMMANDS.iter().find(named)
}

impl Command {
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i32::try_from(arguments).unwrap_or(i32::MAX);
        if self.arity < 0 {
            arguments >= -self.arity
        } else {
            arguments == self.arity
        }
    }

    /// What the server says instead of doing it (`processCommand`).
    pub fn refusal(&self, failure: Option<Failure>) -> Option<&'static str> {
        match failure? {
            Failure::Loading => (!matches!(self.does, Does::Hello | Does::Auth))
                .then_some("LOADING Valkey is loading the dataset in memory"),
            Failure::ReadOnly => self
                .writes
                .then_some("READONLY You can't write against a read only replica."),
            Failure::OutOfMemory => self
                .grows
                .then_some("OOM command not allowed when used memory > 'maxmemory'."),
        }
    }

    /// The same for a script. One that has written is not stopped half-way.
    pub fn refusal_in_script(&self, keyspace: &mut Keyspace) -> Option<&'static str> {
        let refusal = self.refusal(keyspace.failure.filter(|_| !keyspace.script_wrote));
        keyspace.script_wrote |= self.writes && refusal.is_none();
        refusal
    }
}

pub(super) fn wrong_arguments(name: &str) -> Reply {
    Reply::error(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}

/// What C sees of a text: it ends at the first NUL.
pub(super) fn c_string(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default()
}

/// Quotes the name and the first arguments, cut (`commandCheckExistence`).
pub(super) fn unknown(arguments: &[&[u8]]) -> Reply {
    const SHOWN_BYTES_MAX: usize = 128;
    let cut = |bytes, bytes_max| {
        let text = c_string(bytes);
        text.get(..text.len().min(bytes_max)).unwrap_or_default()
    };
    let [name, rest @ ..] = arguments else {
        return Reply::error("ERR unknown command");
    };
    let mut shown = Vec::new();
    for argument in rest {
        if shown.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - shown.len();
        shown.push(b'\'');
        shown.extend(cut(argument, room));
        shown.extend_from_slice(b"' ");
    }
    let name = cut(name, SHOWN_BYTES_MAX);
    Reply::Error(
        [
            b"ERR unknown command '".as_slice(),
            name,
            b"', with args beginning with: ",
            &shown,
        ]
        .concat(),
    )
}

/// A number as the server takes it: digits and nothing else (`string2ll`).
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

pub(super) fn argument<'a>(arguments: &[&'a [u8]], place: usize) -> &'a [u8] {
    arguments.get(place).copied().unwrap_or_default()
}

fn get(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    match keyspace.value(argument(arguments, 1)) {
        None => Reply::Null,
        Some(Value::String(bytes)) => Reply::bulk(bytes),
        Some(Value::Hash(_)) => Reply::error(WRONG_TYPE),
    }
}

#[derive(Default)]
struct SetOptions<'a> {
    /// Absent (true) or present (false) is what the key must be.
    only_if_absent: Option<bool>,
    keeps_ttl: bool,
    /// Unit in ms, and how many.
    expire: Option<(i64, &'a [u8])>,
}

impl<'a> SetOptions<'a> {
    fn parse(mut options: &[&'a [u8]]) -> Option<Self> {
        let mut parsed = Self::default();
        while let [option, rest @ ..] = options {
            options = rest;
            match option.to_ascii_uppercase().as_slice() {
                b"NX" if parsed.only_if_absent != Some(false) => {
                    parsed.only_if_absent = Some(true);
                }
                b"XX" if parsed.only_if_absent != Some(true) => {
                    parsed.only_if_absent = Some(false);
                }
                b"KEEPTTL" if parsed.expire.is_none() => parsed.keeps_ttl = true,
                unit @ (b"EX" | b"PX") if parsed.expire.is_none() && !parsed.keeps_ttl => {
                    let (amount, rest) = options.split_first()?;
                    options = rest;
                    parsed.expire = Some((if unit == b"EX" { 1000 } else { 1 }, amount));
                }
                _ => return None,
            }
        }
        Some(parsed)
    }
}

fn set(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let [_, key, value, options @ ..] = arguments else {
        return wrong_arguments("set");
    };
    let Some(options) = SetOptions::parse(options) else {
        return Reply::error(SYNTAX);
    };
    let mut expires_at_ms = None;
    if let Some((unit_ms, amount)) = options.expire {
        if integer(amount).is_some_and(|amount| amount <= 0) {
            return Reply::error("ERR invalid expire time in 'set' command");
        }
        match moment(keyspace.now_ms, unit_ms, amount, "set") {
            Ok(at_ms) => expires_at_ms = u64::try_from(at_ms).ok(),
            Err(complaint) => return complaint,
        }
    }
    let exists = keyspace.value(key).is_some();
    if options
        .only_if_absent
        .is_some_and(|absent| absent == exists)
    {
        return Reply::Null;
    }
    if let (true, Lifetime::UntilMs(at_ms)) = (options.keeps_ttl, keyspace.lifetime(key)) {
        expires_at_ms = Some(at_ms);
    }
    keyspace.put(key, Value::String(value.to_vec()), expires_at_ms);
    Reply::ok()
}

fn del(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let keys = arguments.iter().skip(1);
    Reply::count(keys.filter(|key| keyspace.remove(key)).count())
}

fn exists(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let keys = arguments.iter().skip(1);
    Reply::count(keys.filter(|key| keyspace.value(key).is_some()).count())
}

fn ping(_: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    match arguments {
        [_] => Reply::Simple(b"PONG".to_vec()),
        [_, text] => Reply::bulk(text),
        _ => wrong_arguments("ping"),
    }
}

/// Seconds, and microseconds in the second.
fn time(keyspace: &mut Keyspace, _: &[&[u8]]) -> Reply {
    let (s, us) = (keyspace.now_ms / 1000, keyspace.now_ms % 1000 * 1000);
    Reply::Array(vec![
        Reply::bulk(s.to_string()),
        Reply::bulk(us.to_string()),
    ])
}

fn flush_all(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let known = match arguments {
        [_] => true,
        [_, how] => how.eq_ignore_ascii_case(b"SYNC") || how.eq_ignore_ascii_case(b"ASYNC"),
        _ => false,
    };
    if !known {
        return Reply::error(SYNTAX);
    }
    keyspace.clear();
    Reply::ok()
}
