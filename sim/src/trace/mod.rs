//! Recorded requests: when, for which thing, how large, and what was done to it.
//!
//! All formats become one record. Nothing is dropped in silence: what a trace
//! has that cannot be used is counted in [`Oddities`]. What a key stands for is
//! not recorded; [`crate::traffic::mapped`] gives it a meaning.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

mod binary;
mod format;
mod twitter;

pub use format::{Compression, Format};

/// The first 5,000 requests from the busiest hour on. Credit and licence are in
/// the file beside it.
const EXCERPT: &[u8] = include_bytes!("../../../tests/data/weblog-424-norobots-evening.slt.gz");

/// More are not held in memory: an archive of a few bytes can have as many as it likes.
pub const REQUESTS_MAX: usize = 100_000_000;

/// # Errors
/// So many are all that may be, and one more comes.
pub fn ensure_room(requests: usize) -> Result<()> {
    ensure!(
        requests < REQUESTS_MAX,
        "it has more than {REQUESTS_MAX} requests: take a part of it"
    );
    Ok(())
}

/// What was done to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Delete,
}

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub key: u64,
    /// From wherever the recording counts; never less than that of the request before.
    pub time_ms: u64,
    /// 1 where none was recorded.
    pub size_bytes: u32,
    /// How long a write asks to be kept, where that was recorded.
    pub ttl_s: Option<u32>,
    pub operation: Operation,
}

impl Request {
    /// What formats without further columns have.
    pub fn read(time_ms: u64, key: u64) -> Self {
        Self {
            key,
            time_ms,
            size_bytes: 1,
            ttl_s: None,
            operation: Operation::Read,
        }
    }
}

/// What was wrong with a trace that could be read all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Requests with a time before that of the one before; they got its time.
    pub unsorted: u64,
    /// Lines that are no request.
    pub rejected: u64,
    /// The first of them, and why.
    pub first_rejected: Option<String>,
}

impl Oddities {
    /// Those of something that was read after it.
    pub fn add(&mut self, other: &Self) {
        self.unsorted += other.unsorted;
        self.rejected += other.rejected;
        if self.first_rejected.is_none() {
            self.first_rejected.clone_from(&other.first_rejected);
        }
    }

    /// A line is left out.
    pub fn reject(&mut self, why: impl FnOnce() -> String) {
        self.rejected += 1;
        self.first_rejected.get_or_insert_with(why);
    }
}

impl fmt::Display for Oddities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unsorted > 0 {
            let (count, s, have, their) = plural(self.unsorted);
            writeln!(
                formatter,
                "{count} request{s} {have} a time before that of the one before: {their} order was kept, and the earlier time."
            )?;
        }
        if let Some(first) = &self.first_rejected {
            let (count, s, ..) = plural(self.rejected);
            writeln!(
                formatter,
                "{count} line{s} could not be read and are left out; the first: {first}"
            )?;
        }
        Ok(())
    }
}

fn plural(count: u64) -> (u64, &'static str, &'static str, &'static str) {
    match count {
        1 => (1, "", "has", "its"),
        _ => (count, "s", "have", "their"),
    }
}

/// A whole recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    pub requests: Vec<Request>,
    pub oddities: Oddities,
}

impl Trace {
    /// # Errors
    /// There are too many.
    fn push(&mut self, mut request: Request) -> Result<()> {
        ensure_room(self.requests.len())?;
        if let Some(last) = self.requests.last()
            && request.time_ms < last.time_ms
        {
            self.oddities.unsorted += 1;
            request.time_ms = last.time_ms;
        }
        self.requests.push(request);
        Ok(())
    }

    fn reject(&mut self, why: impl FnOnce() -> String) {
        self.oddities.reject(why);
    }
}

/// The excerpt that the programs carry.
///
/// # Errors
/// It is damaged.
pub fn excerpt() -> Result<Vec<Request>> {
    Ok(read(EXCERPT, Format::Pairs)?.requests)
}

/// Reads a trace file, in the format that its name and its first bytes tell
/// unless one is given.
///
/// # Errors
/// It cannot be read, its format cannot be told, or it is damaged.
pub fn open(path: &Path, format: Option<Format>) -> Result<Trace> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open the trace {name}"))?;
    let format = match format.or_else(|| Format::of_name(path)) {
        Some(format) => format,
        None => bail!(
            "the name {name} does not tell the format of the trace: say it with --format ({})",
            Format::names()
        ),
    };
    read(BufReader::new(file), format)
        .with_context(|| format!("cannot read the trace {name} as {}", format.name()))
}

/// Reads a whole trace; how it is compressed is told by its first bytes.
///
/// # Errors
/// It is damaged, or has no request at all.
pub fn read(compressed: impl Read, format: Format) -> Result<Trace> {
    let reader = Compression::undo(compressed)?;
    let trace = match format {
        Format::Pairs => binary::pairs(reader),
        Format::Keys => binary::keys(reader),
        Format::OracleGeneral => binary::oracle_general(reader),
        Format::Twitter => twitter::read(BufReader::new(reader)),
    }?;
    if trace.requests.is_empty() {
        match &trace.oddities.first_rejected {
            Some(first) => bail!("not one line is a request; the first: {first}"),
            None => bail!("it is empty"),
        }
    }
    Ok(trace)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    const PAIR: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 2];

    fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    }

    #[test]
    fn the_excerpt_is_what_its_credit_says() -> Result<()> {
        let requests = excerpt()?;
        let keys: HashSet<u64> = requests.iter().map(|request| request.key).collect();
        assert_eq!((requests.len(), keys.len()), (5000, 2009));
        assert_eq!(requests.first(), Some(&Request::read(64_801_000, 494)));
        assert!(requests.is_sorted_by_key(|request| request.time_ms));
        Ok(())
    }

    #[test]
    fn any_format_may_come_in_any_compression() -> Result<()> {
        let expected = [Request::read(1_000, 2)];
        for bytes in [
            PAIR.to_vec(),
            gzip(&PAIR)?,
            zstd::encode_all(PAIR.as_slice(), 1)?,
        ] {
            assert_eq!(read(bytes.as_slice(), Format::Pairs)?.requests, expected);
        }
        Ok(())
    }

    #[test]
    fn a_damaged_trace_is_refused_with_a_reason() -> Result<()> {
        let mut cut = gzip(&PAIR.repeat(100))?;
        cut.truncate(cut.len() - 9);
        let mut damaged = zstd::encode_all(PAIR.as_slice(), 1)?;
        damaged.pop();
        for (bytes, reason) in [
            (gzip(&[0, 0, 0])?, "ends inside a record"),
            (gzip(&[0x80, 0, 0, 1, 0, 0, 0, 2])?, "time is negative"),
            (gzip(&[0, 0, 0, 1, 0x80, 0, 0, 2])?, "key is negative"),
            (Vec::new(), "it is empty"),
            (cut, "damaged"),
            (damaged, "damaged"),
        ] {
            let error = read(bytes.as_slice(), Format::Pairs).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        Ok(())
    }

    #[test]
    fn a_time_that_goes_back_is_counted_and_stands_still() -> Result<()> {
        let bytes = [2, 1, 3].map(|second| [0, 0, 0, second, 0, 0, 0, 9]);
        let trace = read(bytes.as_flattened(), Format::Pairs)?;
        let times: Vec<u64> = trace
            .requests
            .iter()
            .map(|request| request.time_ms)
            .collect();
        assert_eq!(times, [2_000, 2_000, 3_000]);
        assert_eq!(trace.oddities.unsorted, 1);
        assert!(
            trace
                .oddities
                .to_string()
                .starts_with("1 request has a time")
        );
        Ok(())
    }
}
