//! Which commands there are, and what those on keys and strings do.
//!
//! Does not know connections: HELLO, AUTH and EVAL are named here, and done in
//! `session` and `script`.

use super::Failure;
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

/// Quotes the name and the first arguments, cut (`commandCheckExistence`).
pub(super) fn unknown(arguments: &[&[u8]]) -> Reply {
    const SHOWN_BYTES_MAX: usize = 128;
    let cut = |bytes: &[u8], bytes_max: usize| {
        let end = bytes.iter().position(|byte| *byte == 0);
        let end = end.unwrap_or(bytes.len()).min(bytes_max);
        bytes.get(..end).unwrap_or_default().to_vec()
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
            b"ERR unknown command '",
            name.as_slice(),
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

fn argument<'a>(arguments: &[&'a [u8]], place: usize) -> &'a [u8] {
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

/// From now on for so long: the moment, or the server's complaint.
fn moment(now_ms: u64, unit_ms: i64, amount: &[u8], name: &str) -> Result<i64, Reply> {
    let amount = integer(amount).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let at_ms = amount.checked_mul(unit_ms);
    at_ms
        .and_then(|ms| ms.checked_add(now_ms))
        .ok_or_else(|| Reply::error(format!("ERR invalid expire time in '{name}' command")))
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

fn pttl(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    Reply::Integer(match keyspace.lifetime(argument(arguments, 1)) {
        Lifetime::Missing => -2,
        Lifetime::Forever => -1,
        Lifetime::UntilMs(at_ms) => {
            i64::try_from(at_ms.saturating_sub(keyspace.now_ms)).unwrap_or(i64::MAX)
        }
    })
}

fn ttl(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    match pttl(keyspace, arguments) {
        Reply::Integer(left_ms) if left_ms >= 0 => {
            Reply::Integer(left_ms.saturating_add(500) / 1000)
        }
        reply => reply,
    }
}

fn persist(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let key = argument(arguments, 1);
    let Lifetime::UntilMs(_) = keyspace.lifetime(key) else {
        return Reply::Integer(0);
    };
    keyspace.never_expire(key);
    Reply::Integer(1)
}

#[derive(Default)]
struct ExpireOptions {
    if_none: bool,
    if_some: bool,
    if_greater: bool,
    if_less: bool,
}

impl ExpireOptions {
    fn parse(options: &[&[u8]]) -> Result<Self, Reply> {
        let mut parsed = Self::default();
        for option in options {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => parsed.if_none = true,
                b"XX" => parsed.if_some = true,
                b"GT" => parsed.if_greater = true,
                b"LT" => parsed.if_less = true,
                _ => {
                    let text = [b"ERR Unsupported option ", *option].concat();
                    return Err(Reply::Error(text));
                }
            }
        }
        if parsed.if_none && (parsed.if_some || parsed.if_greater || parsed.if_less) {
            return Err(Reply::error(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if parsed.if_greater && parsed.if_less {
            return Err(Reply::error(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(parsed)
    }

    /// A key that never expires counts as one that expires after all others.
    fn allow(&self, lifetime: Lifetime, at_ms: i64) -> bool {
        match lifetime {
            Lifetime::Missing => false,
            Lifetime::Forever => !self.if_some && !self.if_greater,
            Lifetime::UntilMs(old_ms) => {
                let old_ms = i64::try_from(old_ms).unwrap_or(i64::MAX);
                !(self.if_none
                    || self.if_greater && at_ms <= old_ms
                    || self.if_less && at_ms >= old_ms)
            }
        }
    }
}

fn expire(keyspace: &mut Keyspace, arguments: &[&[u8]], name: &str, unit_ms: i64) -> Reply {
    let [_, key, amount, options @ ..] = arguments else {
        return wrong_arguments(name);
    };
    let options = match ExpireOptions::parse(options) {
        Ok(options) => options,
        Err(complaint) => return complaint,
    };
    let at_ms = match moment(keyspace.now_ms, unit_ms, amount, name) {
        Ok(at_ms) => at_ms,
        Err(complaint) => return complaint,
    };
    if !options.allow(keyspace.lifetime(key), at_ms) {
        return Reply::Integer(0);
    }
    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms > keyspace.now_ms => keyspace.expire_at(key, at_ms),
        _ => {
            keyspace.remove(key);
        }
    }
    Reply::Integer(1)
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
    let how = argument(arguments, 1).to_ascii_uppercase();
    if arguments.len() > 2 || !matches!(how.as_slice(), b"" | b"SYNC" | b"ASYNC") {
        return Reply::error(SYNTAX);
    }
    keyspace.clear();
    Reply::ok()
}
