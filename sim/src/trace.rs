//! Recorded requests: when, and for which thing.
//!
//! Reads the format of cache2k's web logs: gzip, then pairs of big-endian i32,
//! the second of the recording and a key. What a key stands for is not
//! recorded; [`crate::workload`] gives it a meaning.

use std::io::{self, Read};

use flate2::read::GzDecoder;

/// The first 5,000 requests from the busiest hour on. Credit and licence are in
/// the file beside it.
const EXCERPT: &[u8] = include_bytes!("../../tests/data/weblog-424-norobots-evening.slt.gz");

const RECORD_BYTES: usize = 8;

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub second: u32,
    pub key: u32,
}

/// The excerpt that the repository carries.
///
/// # Errors
/// It is damaged.
pub fn excerpt() -> io::Result<Vec<Request>> {
    read(EXCERPT)
}

/// Reads a whole trace.
///
/// # Errors
/// It is not gzip, ends inside a record, or has a negative number.
pub fn read(compressed: impl Read) -> io::Result<Vec<Request>> {
    let mut bytes = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut bytes)?;
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("it ends inside a record"));
    }
    records
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| {
            let number = |bytes| u32::try_from(i32::from_be_bytes(bytes));
            Ok(Request {
                second: number([a, b, c, d]).map_err(|_| damaged("a time is negative"))?,
                key: number([e, f, g, h]).map_err(|_| damaged("a key is negative"))?,
            })
        })
        .collect()
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the trace is damaged: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes)?;
        encoder.finish()
    }

    #[test]
    fn the_excerpt_is_what_its_credit_says() -> io::Result<()> {
        let requests = excerpt()?;
        let keys: HashSet<u32> = requests.iter().map(|request| request.key).collect();
        assert_eq!((requests.len(), keys.len()), (5000, 2009));
        assert_eq!(
            requests.first(),
            Some(&Request {
                second: 64_801,
                key: 494
            })
        );
        assert!(requests.is_sorted_by_key(|request| request.second));
        Ok(())
    }

    #[test]
    fn a_damaged_trace_is_refused() -> io::Result<()> {
        let good = [0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(
            read(compressed(&good)?.as_slice())?,
            [Request { second: 1, key: 2 }]
        );
        assert!(read(compressed(&[0, 0, 0])?.as_slice()).is_err());
        assert!(read(compressed(&[0x80, 0, 0, 1, 0, 0, 0, 2])?.as_slice()).is_err());
        assert!(read([1, 2, 3].as_slice()).is_err());
        Ok(())
    }
}
