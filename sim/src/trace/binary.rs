//! The formats with records of a fixed length. Knows their bytes, and that a
//! trace that ends inside a record is damaged.

use std::io::Read;

use anyhow::{Context, Result, ensure};

use super::{Request, Trace};

/// That are read in one piece.
const RECORDS_AT_ONCE: usize = 1 << 16;

/// cache2k's: time in s and key.
pub(super) fn pairs(reader: impl Read) -> Result<Trace> {
    records(reader, |[a, b, c, d, e, f, g, h]| {
        let number = |bytes| u32::try_from(i32::from_be_bytes(bytes));
        let second = number([a, b, c, d]).context("a time is negative")?;
        let key = number([e, f, g, h]).context("a key is negative")?;
        Ok(Request::read(u64::from(second) * 1_000, u64::from(key)))
    })
}

/// headissue's: keys without times. All 32 bits are the key's, the sign too.
pub(super) fn keys(reader: impl Read) -> Result<Trace> {
    records(reader, |bytes| {
        Ok(Request::read(0, u64::from(u32::from_be_bytes(bytes))))
    })
}

/// libCacheSim's. The next access is not believed but computed where it is
/// needed: an excerpt has the wrong ones.
pub(super) fn oracle_general(reader: impl Read) -> Result<Trace> {
    records(reader, |record: [u8; 24]| {
        let [a, b, c, d, key @ .., e, f, g, h, _, _, _, _, _, _, _, _] = record;
        let second = u32::from_le_bytes([a, b, c, d]);
        Ok(Request {
            size_bytes: u32::from_le_bytes([e, f, g, h]),
            ..Request::read(u64::from(second) * 1_000, u64::from_le_bytes(key))
        })
    })
}

fn records<const BYTES: usize>(
    mut reader: impl Read,
    request: impl Fn([u8; BYTES]) -> Result<Request>,
) -> Result<Trace> {
    let mut trace = Trace::default();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        (&mut reader)
            .take((BYTES * RECORDS_AT_ONCE) as u64)
            .read_to_end(&mut bytes)
            .context("the file is damaged")?;
        let (records, rest) = bytes.as_chunks::<BYTES>();
        ensure!(
            rest.is_empty(),
            "the file is damaged: it ends inside a record (of {BYTES} bytes)"
        );
        for record in records {
            let number = trace.requests.len() + 1;
            let place = || format!("the file is damaged in record {number}");
            trace.push(request(*record).with_context(place)?)?;
        }
        if records.is_empty() {
            return Ok(trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Format, read};

    #[test]
    fn a_key_may_use_the_bit_of_the_sign() -> Result<()> {
        let trace = keys([0xF8, 0, 0, 1].as_slice())?;
        assert_eq!(trace.requests, [Request::read(0, 0xF800_0001)]);
        Ok(())
    }

    #[test]
    fn a_record_of_oracle_general_has_24_bytes() -> Result<()> {
        let mut bytes = Vec::new();
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend((1_u64 << 40).to_le_bytes());
        bytes.extend(512_u32.to_le_bytes());
        bytes.extend((-1_i64).to_le_bytes());
        let packed = zstd::encode_all(bytes.as_slice(), 1)?;
        let expected = Request {
            size_bytes: 512,
            ..Request::read(7_000, 1 << 40)
        };
        for bytes in [bytes.as_slice(), packed.as_slice()] {
            let trace = read(bytes, Format::OracleGeneral)?;
            assert_eq!(trace.requests, [expected]);
        }
        Ok(())
    }
}
