//! How long keys last: the commands that end them, at once or later, and those
//! that ask.

use super::commands::{NOT_AN_INTEGER, argument, c_string, integer, wrong_arguments};
use super::keyspace::{Keyspace, Lifetime};
use super::reply::Reply;

/// From now on for so long: the moment, or the server's complaint.
pub(super) fn moment(now_ms: u64, unit_ms: i64, amount: &[u8], name: &str) -> Result<i64, Reply> {
    let amount = integer(amount).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let at_ms = amount.checked_mul(unit_ms);
    at_ms
        .and_then(|ms| ms.checked_add(now_ms))
        .ok_or_else(|| Reply::error(format!("ERR invalid expire time in '{name}' command")))
}

pub(super) fn del(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let keys = arguments.iter().skip(1);
    Reply::count(keys.filter(|key| keyspace.remove(key)).count())
}

pub(super) fn exists(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let keys = arguments.iter().skip(1);
    Reply::count(keys.filter(|key| keyspace.value(key).is_some()).count())
}

pub(super) fn pttl(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    Reply::Integer(
        match keyspace.lifetime(argument(arguments, 1), keyspace.now_ms) {
            Lifetime::Missing => -2,
            Lifetime::Forever => -1,
            Lifetime::UntilMs(at_ms) => {
                i64::try_from(at_ms.saturating_sub(keyspace.now_ms)).unwrap_or(i64::MAX)
            }
        },
    )
}

pub(super) fn ttl(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    match pttl(keyspace, arguments) {
        Reply::Integer(left_ms) if left_ms >= 0 => {
            Reply::Integer(left_ms.saturating_add(500) / 1000)
        }
        reply => reply,
    }
}

pub(super) fn persist(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let key = argument(arguments, 1);
    let Lifetime::UntilMs(_) = keyspace.lifetime(key, keyspace.now_ms) else {
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
                    let text = [b"ERR Unsupported option ", c_string(option)].concat();
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

pub(super) fn expire(
    keyspace: &mut Keyspace,
    arguments: &[&[u8]],
    name: &str,
    unit_ms: i64,
) -> Reply {
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
    if !options.allow(keyspace.lifetime(key, keyspace.now_ms), at_ms) {
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
