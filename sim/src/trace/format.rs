//! Which format and which compression a trace has. Knows names and first bytes;
//! does not read a single request.

use std::io::{Chain, Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

/// How requests are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// cache2k's web logs: pairs of big-endian i32, time in s and key (`.slt`)
    Pairs,
    /// headissue's traces: a big-endian i32 each, the key (`.trace`)
    Keys,
    /// Twitter's Twemcache csv: time in s, key, key size, value size, client, operation, TTL; or only time, key, size (`.csv`)
    Twitter,
    /// libCacheSim's: little-endian u32 time in s, u64 key, u32 size, i64 next access (`.oracleGeneral`)
    OracleGeneral,
}

impl Format {
    /// What a name such as `web12.trace.xz` says.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        name.split('.').skip(1).find_map(|part| match part {
            "slt" => Some(Self::Pairs),
            "trace" => Some(Self::Keys),
            "csv" => Some(Self::Twitter),
            "oraclegeneral" => Some(Self::OracleGeneral),
            _ => None,
        })
    }

    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn names() -> String {
        let all: Vec<String> = Self::value_variants()
            .iter()
            .map(|format| format.name())
            .collect();
        all.join(", ")
    }
}

/// How the bytes of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// The longest of the magic numbers.
const MAGIC_BYTES: usize = 6;

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

impl Compression {
    fn of_magic(start: &[u8]) -> Self {
        if start.starts_with(&[0x1F, 0x8B]) {
            Self::Gzip
        } else if start.starts_with(&[0xFD, b'7', b'z', b'X', b'Z', 0]) {
            Self::Xz
        } else if start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// The bytes as they were before they were compressed.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn undo<'a>(mut reader: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
        let mut start = Vec::new();
        reader
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut start)
            .context("the file cannot be read")?;
        let compression = Self::of_magic(&start);
        let whole: Whole<_> = Cursor::new(start).chain(reader);
        Ok(match compression {
            Self::None => Box::new(whole),
            Self::Gzip => Box::new(MultiGzDecoder::new(whole)),
            Self::Xz => Box::new(XzReader::new(whole, true)),
            Self::Zstd => Box::new(zstd::Decoder::new(whole).context("zstd has no memory")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_format() {
        for (name, format) in [
            ("weblog-424.slt.gz", Some(Format::Pairs)),
            ("a.csv/web12.trace.xz", Some(Format::Keys)),
            ("tw52_1m.csv.zst", Some(Format::Twitter)),
            ("w01.oracleGeneral.bin.zst", Some(Format::OracleGeneral)),
            ("trace", None),
            ("requests.bin", None),
        ] {
            assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
        }
    }
}
