//! Twitter's Twemcache csv, whole (seven columns) or reduced to time, key and size.
//!
//! A line that is no request is rejected and counted; only text that is no csv
//! at all ends the reading.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::BufRead;

use anyhow::{Context, Result};

use crate::lines::{Line, Lines};

use super::{Operation, Request, Trace};

const COLUMNS_MAX: usize = 7;
/// Keys are text. Two of ten million share a hash of 64 bits once in 400,000 traces.
type KeyHasher = BuildHasherDefault<DefaultHasher>;

/// Longer lines are no requests: a key of Memcached has 250 bytes at most.
const LINE_BYTES_MAX: usize = 4096;

pub(super) fn read(reader: impl BufRead) -> Result<Trace> {
    let mut lines = Lines::new(reader, LINE_BYTES_MAX);
    let mut trace = Trace::default();
    while let Some(Line { number, text }) = lines.read().context("the file is damaged")? {
        let read = match text {
            Some(text) if text.trim_ascii().is_empty() => continue,
            Some(text) if number == 1 && is_header(text) => continue,
            Some(text) => request(text),
            None => Err(format!("it has more than {LINE_BYTES_MAX} bytes")),
        };
        match read {
            Ok(request) => trace.push(request)?,
            Err(why) => trace.reject(|| format!("line {number}: {why}")),
        }
    }
    Ok(trace)
}

/// The reduced form begins with the names of its columns.
fn is_header(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"#") || line.starts_with(b"time,")
}

/// Nothing is quoted: a quotation mark is a character of a key.
fn request(line: &[u8]) -> Result<Request, String> {
    let mut columns: [&[u8]; COLUMNS_MAX] = Default::default();
    let mut count = 0;
    for column in line.split(|byte| *byte == b',') {
        if let Some(place) = columns.get_mut(count) {
            *place = column;
        }
        count += 1;
    }
    let [time, key, third, fourth, _, done, ttl_s] = columns;
    let (size_bytes, operation, ttl_s) = match count {
        3 => (number(third, "size")?, Operation::Read, 0),
        COLUMNS_MAX => {
            let [key_bytes, value_bytes] = [
                number(third, "size of the key")?,
                number(fourth, "size of the value")?,
            ];
            let size_bytes = key_bytes.saturating_add(value_bytes);
            (size_bytes, operation(done)?, number(ttl_s, "TTL")?)
        }
        columns => return Err(format!("it has {columns} columns, not 3 or {COLUMNS_MAX}")),
    };
    let second = number(time, "time")?;
    Ok(Request {
        key: KeyHasher::default().hash_one(key),
        time_ms: u64::from(second) * 1_000,
        size_bytes,
        // Reads have a 0 there.
        ttl_s: (ttl_s > 0).then_some(ttl_s),
        operation,
    })
}

fn number(text: &[u8], what: &str) -> Result<u32, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| {
            format!(
                "the {what} is no number: {:?}",
                text.escape_ascii().to_string()
            )
        })
}

fn operation(name: &[u8]) -> Result<Operation, String> {
    match name {
        b"get" | b"gets" => Ok(Operation::Read),
        b"set" | b"add" | b"replace" | b"cas" | b"append" | b"prepend" | b"incr" | b"decr" => {
            Ok(Operation::Write)
        }
        b"delete" => Ok(Operation::Delete),
        _ => Err(format!(
            "the operation is unknown: {:?}",
            name.escape_ascii().to_string()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() -> Result<()> {
        let reduced = read("#time,object,size\n0,abc,737\n3,abc,737\n".as_bytes())?;
        let whole =
            read("0,abc,3,734,1,set,3600\n3,abc,3,734,2,get,0\n4,abc,3,0,2,delete,0\n".as_bytes())?;
        let [a, b] = reduced.requests.try_into().unwrap();
        let [c, d, e] = whole.requests.try_into().unwrap();
        assert_eq!((a.key, a.size_bytes, b.time_ms), (c.key, 737, 3_000));
        assert_eq!(
            (c.operation, c.ttl_s, c.size_bytes),
            (Operation::Write, Some(3_600), 737)
        );
        assert_eq!(d, b);
        assert_eq!(e.operation, Operation::Delete);
        Ok(())
    }

    #[test]
    fn what_is_no_request_is_counted_and_explained() -> Result<()> {
        let trace = read("0,a,1\nyesterday,a,1\n1,a\n2,\"b,1\n3,c,1,1,1,dance,0\n".as_bytes())?;
        assert_eq!(trace.requests.len(), 2);
        assert_eq!(trace.oddities.rejected, 3);
        assert_eq!(
            trace.oddities.first_rejected.as_deref(),
            Some("line 2: the time is no number: \"yesterday\"")
        );
        Ok(())
    }
}
