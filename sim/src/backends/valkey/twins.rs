//! The edge's scripts for copies of rows, without an interpreter: the same commands on
//! the same keys, and the same answer.
//!
//! A replay runs them for every read of rows. Whatever is not as the edge sends it
//! is left to the script's own text, before anything is written; tests hold both
//! against one another.

use edge::mutation::{self, Mutation};
use edge::tiers::valkey;
use edge::wire::Machine;
use edge::wire::resp::{Command, Connection, Login};

use super::expiry::{expire, pttl};
use super::hashes::{hdel, hget, hset};
use super::keyspace::{Keyspace, Value};
use super::reply::Reply;

/// Keys and arguments, as EVAL has them. None: the script itself has to run.
pub(super) type Twin = fn(&mut Keyspace, &[&[u8]], &[&[u8]]) -> Option<Reply>;

/// Each with the text of its script.
pub(super) fn all() -> Vec<(Vec<u8>, Twin)> {
    let keys = [String::new()];
    let mut all: Vec<(Vec<u8>, Twin)> = vec![
        (
            text_of(valkey::read_copy(("", None), "", "", (0, 0), 0)),
            read,
        ),
        (text_of(valkey::release(&keys, "")), invalidate),
    ];
    // With this fault in it the edge has another script, which does something else.
    if !mutation::is(Mutation::FillNeedsNoLease) {
        all.push((text_of(valkey::fill_copy("", "", "", b"", 0)), fill));
    }
    all
}

/// The first argument of EVAL.
fn text_of(command: Command) -> Vec<u8> {
    const BEFORE: &[u8] = b"$4\r\nEVAL\r\n$";
    let mut connection = Connection::new(Login {
        user: None,
        password: None,
    });
    connection.submit(vec![command]);
    let bytes = connection.take_output();
    let parts = || {
        let begin = memchr::memmem::find(&bytes, BEFORE)? + BEFORE.len();
        let rest = bytes.get(begin..)?;
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let length: usize = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        rest.get(end + 2..)?.get(..length).map(<[u8]>::to_vec)
    };
    parts().unwrap_or_default()
}

/// What Lua makes of digits.
fn number(text: &[u8]) -> Option<f64> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_digits)?;
    text.parse().ok()
}

/// The same, where a command takes it as well.
fn duration(text: &[u8]) -> Option<f64> {
    const DIGITS_MAX: usize = 15;
    let is_canonical = text.len() <= DIGITS_MAX && (text == b"0" || !text.starts_with(b"0"));
    number(text).filter(|_| is_canonical)
}

/// `^(%d+) (.*)$`.
fn parted(text: &[u8]) -> Option<(f64, &[u8])> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    let (digits, rest) = text.split_at(space);
    Some((number(digits)?, rest.get(1..)?))
}

fn named(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    [prefix, name].concat()
}

/// A hash, or nothing yet, and no failure of the server's.
fn is_usual(keyspace: &Keyspace, key: &[u8]) -> bool {
    keyspace.failure.is_none() && !matches!(keyspace.value(key), Some(Value::String(_)))
}

fn fields<'a>(keyspace: &'a Keyspace, key: &[u8]) -> &'a [(Vec<u8>, Vec<u8>)] {
    match keyspace.value(key) {
        Some(Value::Hash(fields)) => fields,
        _ => &[],
    }
}

fn field<'a>(keyspace: &'a Keyspace, key: &[u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = fields(keyspace, key).iter();
    let (_, value) = fields.find(|(field, _)| field == name)?;
    Some(value)
}

/// Keeps a key for at least so long.
fn keep(keyspace: &mut Keyspace, key: &[u8], for_ms: &[u8], duration_ms: f64) {
    if let Reply::Integer(left_ms) = pttl(keyspace, &[b"PTTL", key])
        && (left_ms as f64) < duration_ms
    {
        expire(keyspace, &[b"PEXPIRE", key, for_ms], "pexpire", 1);
    }
}

fn read(keyspace: &mut Keyspace, keys: &[&[u8]], arguments: &[&[u8]]) -> Option<Reply> {
    let (key, family) = match keys {
        [key] => (key, None),
        [key, family] => (key, Some(family)),
        _ => return None,
    };
    let [variant, token, lease, refresh, refresh_absence, after] = arguments else {
        return None;
    };
    let lease_ms = duration(lease)?;
    let (refresh_ms, absence_ms) = (number(refresh)?, number(refresh_absence)?);
    let after_ms = number(after)?;
    if !is_usual(keyspace, key) {
        return None;
    }
    let now = keyspace.now_ms as f64;
    let family = family.and_then(|family| keyspace.value(family));
    let mut since = match family {
        None => 0.0,
        Some(Value::String(text)) => number(text)?,
        Some(Value::Hash(_)) => return None,
    };
    if since > now {
        since = 0.0;
    }
    let (mut age_ms, mut body): (f64, &[u8]) = (-1.0, b"");
    let found = field(keyspace, key, &named(b"v:", variant)).and_then(parted);
    if let Some((read_ms, text)) = found
        && now >= read_ms
        && read_ms > after_ms.max(since)
    {
        (age_ms, body) = (now - read_ms, text);
    }
    let refresh_ms = match body.is_empty() {
        true => absence_ms,
        false => refresh_ms,
    };
    let answer = |lease| {
        Some(Reply::Array(vec![
            Reply::Integer(age_ms as i64),
            Reply::bulk(body),
            Reply::Integer(lease),
            Reply::Integer(now as i64),
        ]))
    };
    if age_ms >= 0.0 && age_ms < refresh_ms {
        return answer(0);
    }
    for (name, value) in fields(keyspace, key) {
        if name.starts_with(b"b:") && now < number(value)? {
            return answer(-1);
        }
    }
    let own = named(b"l:", variant);
    // What follows the number does not matter here.
    if let Some((leased_ms, _)) = field(keyspace, key, &own).and_then(parted)
        && now >= leased_ms
        && leased_ms > since
        && now - leased_ms < lease_ms
    {
        return answer(0);
    }
    let reply = answer(1);
    let lease_text = [format!("{now:.0} ").as_bytes(), token].concat();
    hset(keyspace, &[b"HSET", key, &own, &lease_text]);
    keep(keyspace, key, lease, lease_ms);
    reply
}

fn fill(keyspace: &mut Keyspace, keys: &[&[u8]], arguments: &[&[u8]]) -> Option<Reply> {
    let [key] = keys else { return None };
    let [variant, token, body, keep_for] = arguments else {
        return None;
    };
    let keep_ms = duration(keep_for)?;
    if !is_usual(keyspace, key) {
        return None;
    }
    let own = named(b"l:", variant);
    let Reply::Bulk(lease) = hget(keyspace, &[b"HGET", key, &own]) else {
        return Some(Reply::Integer(0));
    };
    let Some((_, owner)) = parted(&lease).filter(|(_, owner)| owner == token) else {
        return Some(Reply::Integer(0));
    };
    let since = lease.get(..lease.len() - owner.len()).unwrap_or_default();
    let value = named(since, body);
    hdel(keyspace, &[b"HDEL", key, &own]);
    hset(keyspace, &[b"HSET", key, &named(b"v:", variant), &value]);
    keep(keyspace, key, keep_for, keep_ms);
    Some(Reply::Integer(1))
}

fn invalidate(keyspace: &mut Keyspace, keys: &[&[u8]], arguments: &[&[u8]]) -> Option<Reply> {
    let [token, block] = arguments else {
        return None;
    };
    let block_ms = duration(block)?;
    if !keys.iter().all(|key| is_usual(keyspace, key)) {
        return None;
    }
    let own = named(b"b:", token);
    let until = format!("{:.0}", keyspace.now_ms as f64 + block_ms);
    for key in keys {
        let others: Vec<Vec<u8>> = fields(keyspace, key)
            .iter()
            .filter(|(name, _)| !name.starts_with(b"b:") || *name == own)
            .map(|(name, _)| name.clone())
            .collect();
        for name in others {
            hdel(keyspace, &[b"HDEL", key, &name]);
        }
        if block_ms > 0.0 {
            hset(keyspace, &[b"HSET", key, &own, until.as_bytes()]);
            keep(keyspace, key, block, block_ms);
        }
    }
    Some(Reply::Integer(1))
}
