//! Twitter's Twemcache csv, whole (seven columns) or reduced to time, key and size.
//!
//! A line that is no request is rejected and counted; only text that is no csv
//! at all ends the reading.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Read;

use anyhow::{Context, Result};
use csv::{ByteRecord, ReaderBuilder};

use super::{Operation, Request, Trace};

/// Keys are text. Two of ten million share a hash of 64 bits once in 400,000 traces.
type KeyHasher = BuildHasherDefault<DefaultHasher>;

pub(super) fn read(reader: impl Read) -> Result<Trace> {
    let mut lines = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .quoting(false)
        .from_reader(reader);
    let mut trace = Trace::default();
    let mut line = ByteRecord::new();
    let mut first = true;
    while lines
        .read_byte_record(&mut line)
        .context("the file is damaged")?
    {
        let header = std::mem::take(&mut first) && is_header(&line);
        if header {
            continue;
        }
        match request(&line) {
            Ok(request) => trace.push(request),
            Err(why) => trace.reject(|| {
                let number = line.position().map_or(0, csv::Position::line);
                format!("line {number}: {why}")
            }),
        }
    }
    Ok(trace)
}

/// The reduced form begins with the names of its columns.
fn is_header(line: &ByteRecord) -> bool {
    line.get(0)
        .is_some_and(|time| time.trim_ascii_start().starts_with(b"#") || time == b"time")
}

fn request(line: &ByteRecord) -> Result<Request, String> {
    let (key, size_bytes, operation, ttl_s) = match line.len() {
        3 => (1, number(line, 2, "size")?, Operation::Read, 0),
        7 => {
            let [key_bytes, value_bytes]: [u32; 2] = [
                number(line, 2, "size of the key")?,
                number(line, 3, "size of the value")?,
            ];
            let size_bytes = key_bytes.saturating_add(value_bytes);
            let operation = operation(line.get(5).unwrap_or_default())?;
            (1, size_bytes, operation, number(line, 6, "TTL")?)
        }
        columns => return Err(format!("it has {columns} columns, not 3 or 7")),
    };
    let second: u32 = number(line, 0, "time")?;
    let key = line.get(key).unwrap_or_default();
    Ok(Request {
        key: KeyHasher::default().hash_one(key),
        time_ms: u64::from(second) * 1_000,
        size_bytes,
        // Reads have a 0 there.
        ttl_s: (ttl_s > 0).then_some(ttl_s),
        operation,
    })
}

fn number(line: &ByteRecord, column: usize, what: &str) -> Result<u32, String> {
    let text = line.get(column).unwrap_or_default();
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
