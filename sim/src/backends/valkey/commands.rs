//! Which commands there are, when they are refused, and what those do that ask
//! for no key.
//!
//! Does not know connections: HELLO, AUTH and EVAL are named here, and done in
//! `session` and `script`.

use super::Failure;
use super::expiry::{del, exists, expire, persist, pttl, ttl};
use super::hashes::{hdel, hget, hgetall, hkeys, hset};
use super::keyspace::Keyspace;
use super::reply::Reply;
use super::strings::{get, set};

pub(super) const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const SYNTAX: &str = "ERR syntax error";

const COMMANDS_COUNT: usize = 24;

type Run = fn(&mut Keyspace, &[&[u8]]) -> Reply;

/// What a connection does itself.
#[derive(Clone, Copy)]
pub(super) enum Does {
    Keyspace(Run),
    Hello,
    Auth,
    Eval,
    EvalSha,
    Script,
}

pub(super) struct Command {
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many.
    arity: i32,
    writes: bool,
    /// Could need memory (the flag `denyoom`).
    grows: bool,
    /// Is done while the server is loading (the flag `loading`).
    is_early: bool,
    pub does: Does,
}

const fn reads(name: &'static str, arity: i32, run: Run) -> Command {
    connection(name, arity, Does::Keyspace(run))
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

const fn early(name: &'static str, arity: i32, does: Does) -> Command {
    Command {
        is_early: true,
        ..connection(name, arity, does)
    }
}

const fn connection(name: &'static str, arity: i32, does: Does) -> Command {
    Command {
        name,
        arity,
        writes: false,
        grows: false,
        is_early: false,
        does,
    }
}

/// The most frequent ones first.
static COMMANDS: [Command; COMMANDS_COUNT] = [
    connection("eval", -3, Does::Eval),
    early("hello", -1, Does::Hello),
    early("auth", -2, Does::Auth),
    connection("evalsha", -3, Does::EvalSha),
    connection("script", -2, Does::Script),
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
    early("time", 1, Does::Keyspace(time)),
    early("info", -1, Does::Keyspace(info)),
    writes("flushall", -1, flush_all),
    reads("dbsize", 1, |keyspace, _| {
        Reply::count(keyspace.live_keys())
    }),
    writes("persist", 2, persist),
];

/// A command by its name, and its place among all of them.
pub(super) fn command(name: &[u8]) -> Option<(usize, &'static Command)> {
    let named = |(_, command): &(usize, &Command)| {
        let own = command.name.as_bytes();
        own.eq_ignore_ascii_case(name)
    };
    COMMANDS.iter().enumerate().find(named)
}

/// How often each command came.
#[derive(Debug)]
pub(super) struct Counts([u64; COMMANDS_COUNT]);

impl Counts {
    pub fn none() -> Self {
        Self([0; COMMANDS_COUNT])
    }

    pub fn add(&mut self, place: usize) {
        if let Some(count) = self.0.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = COMMANDS.iter().zip(self.0);
        all.map(|(command, count)| (command.name, count))
            .filter(|(_, count)| *count > 0)
    }
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

    /// Whether it is done for one that has not logged in (the flag `no_auth`).
    pub fn is_for_everybody(&self) -> bool {
        matches!(self.does, Does::Hello | Does::Auth)
    }

    /// What the server says instead of doing it (`processCommand`).
    pub fn refusal(&self, failure: Option<Failure>) -> Option<&'static str> {
        match failure? {
            Failure::Loading => {
                (!self.is_early).then_some("LOADING Valkey is loading the dataset in memory")
            }
            Failure::ReadOnly => self
                .writes
                .then_some("READONLY You can't write against a read only replica."),
            Failure::OutOfMemory => self
                .grows
                .then_some("OOM command not allowed when used memory > 'maxmemory'."),
        }
    }

    /// The same for a script (`scriptCall`). One that has written is not stopped
    /// half-way.
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

/// So many make no number that is too large.
const SHORT_DIGITS: usize = 9;

/// A number as the server takes it: digits and nothing else (`string2ll`).
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    // Most are lengths, of few digits.
    if text.len() <= SHORT_DIGITS && text.iter().all(u8::is_ascii_digit) && !text.starts_with(b"0")
    {
        let add = |sum, digit: &u8| sum * 10 + i64::from(digit - b'0');
        return (!text.is_empty()).then(|| text.iter().fold(0, add));
    }
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == text).then_some(number)
}

pub(super) fn argument<'a>(arguments: &[&'a [u8]], place: usize) -> &'a [u8] {
    arguments.get(place).copied().unwrap_or_default()
}

fn ping(_: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    match arguments {
        [_] => Reply::Simple(b"PONG".into()),
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

/// No more than tells a Valkey from others, and how many keys there are.
fn info(keyspace: &mut Keyspace, _: &[&[u8]]) -> Reply {
    let keys = keyspace.live_keys();
    Reply::Verbatim(
        format!(
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.8\r\nserver_mode:standalone\r\n\r\n# Keyspace\r\ndb0:keys={keys}\r\n"
        )
        .into_bytes(),
    )
}
