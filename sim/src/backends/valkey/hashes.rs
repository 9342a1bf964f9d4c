//! The commands on hashes.

use super::commands::{WRONG_TYPE, wrong_arguments};
use super::keyspace::{Keyspace, Value};
use super::reply::Reply;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The fields of a hash, `None` where there is no key.
fn fields<'a>(keyspace: &'a Keyspace, key: &[u8]) -> Result<Option<&'a Fields>, Reply> {
    match keyspace.value(key) {
        None => Ok(None),
        Some(Value::Hash(fields)) => Ok(Some(fields)),
        Some(Value::String(_)) => Err(Reply::error(WRONG_TYPE)),
    }
}

fn read(
    keyspace: &Keyspace,
    arguments: &[&[u8]],
    answer: impl FnOnce(&[(Vec<u8>, Vec<u8>)]) -> Reply,
) -> Reply {
    let key = arguments.get(1).copied().unwrap_or_default();
    match fields(keyspace, key) {
        Ok(fields) => answer(fields.map(Vec::as_slice).unwrap_or_default()),
        Err(wrong_type) => wrong_type,
    }
}

pub(super) fn hget(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let name = arguments.get(2).copied().unwrap_or_default();
    read(keyspace, arguments, |fields| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map_or(Reply::Null, |(_, value)| Reply::bulk(value))
    })
}

pub(super) fn hkeys(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    read(keyspace, arguments, |fields| {
        Reply::Array(fields.iter().map(|(field, _)| Reply::bulk(field)).collect())
    })
}

pub(super) fn hgetall(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    read(keyspace, arguments, |fields| {
        let member = |(field, value): &(Vec<u8>, Vec<u8>)| (Reply::bulk(field), Reply::bulk(value));
        Reply::Map(fields.iter().map(member).collect())
    })
}

pub(super) fn hset(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let [_, key, pairs @ ..] = arguments else {
        return wrong_arguments("hset");
    };
    if !pairs.len().is_multiple_of(2) {
        return wrong_arguments("hset");
    }
    if let Err(wrong_type) = fields(keyspace, key) {
        return wrong_type;
    }
    if keyspace.value(key).is_none() {
        keyspace.put(key, Value::Hash(Vec::new()), None);
    }
    let Some(Value::Hash(fields)) = keyspace.value_mut(key) else {
        return Reply::error(WRONG_TYPE);
    };
    let before = fields.len();
    for pair in pairs.chunks_exact(2) {
        if let [name, value] = pair {
            match fields.iter_mut().find(|(field, _)| field == name) {
                Some((_, old)) => *old = value.to_vec(),
                None => fields.push((name.to_vec(), value.to_vec())),
            }
        }
    }
    Reply::count(fields.len() - before)
}

pub(super) fn hdel(keyspace: &mut Keyspace, arguments: &[&[u8]]) -> Reply {
    let [_, key, names @ ..] = arguments else {
        return wrong_arguments("hdel");
    };
    let fields = match keyspace.value_mut(key) {
        None => return Reply::Integer(0),
        Some(Value::String(_)) => return Reply::error(WRONG_TYPE),
        Some(Value::Hash(fields)) => fields,
    };
    let before = fields.len();
    fields.retain(|(field, _)| !names.contains(&field.as_slice()));
    let removed = before - fields.len();
    if fields.is_empty() {
        keyspace.remove(key);
    }
    Reply::count(removed)
}
