//! The commands on strings.

use super::commands::{SYNTAX, WRONG_TYPE, argument, integer, wrong_arguments};
use super::expiry::moment;
use super::keyspace::{Keyspace, Lifetime, Value};
use super::reply::Reply;

pub(super) fn get(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
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

pub(super) fn set(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
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
    if let (true, Lifetime::UntilMs(at_ms)) =
        (options.keeps_ttl, keyspace.lifetime(key, keyspace.now_ms))
    {
        expires_at_ms = Some(at_ms);
    }
    keyspace.put(key, Value::String(value.to_vec()), expires_at_ms);
    Reply::ok()
}
