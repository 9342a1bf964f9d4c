//! Replies, and their bytes in both versions of RESP.
//!
//! Does not know which command is answered. The sections named here are those
//! of <https://valkey.io/topics/protocol>.

use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Resp2,
    Resp3,
}

/// Much of what is said is always the same.
type Text = Cow<'static, [u8]>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Simple(Text),
    /// Code and message, without the `-`.
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Text),
    /// A text for people; of the kind `txt`.
    Verbatim(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Simple(b"OK".into())
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into().into_bytes())
    }

    pub fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec().into())
    }

    pub fn word(text: &'static str) -> Self {
        Self::Bulk(text.as_bytes().into())
    }

    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub fn write(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => write_line(b'+', text, out),
            Self::Error(text) => write_line(b'-', without_end(text), out),
            Self::Integer(number) => write_header(b':', *number, out),
            Self::Bulk(bytes) => write_bulk(b'$', b"", bytes, out),
            Self::Verbatim(bytes) => match version {
                Version::Resp2 => write_bulk(b'$', b"", bytes, out),
                Version::Resp3 => write_bulk(b'=', b"txt:", bytes, out),
            },
            // "Nulls", and "Null bulk strings" for the older version.
            Self::Null => out.extend_from_slice(match version {
                Version::Resp2 => b"$-1\r\n",
                Version::Resp3 => b"_\r\n",
            }),
            Self::Array(elements) => {
                write_header(b'*', elements.len(), out);
                elements.iter().for_each(|reply| reply.write(version, out));
            }
            Self::Map(members) => {
                match version {
                    Version::Resp2 => write_header(b'*', members.len().saturating_mul(2), out),
                    Version::Resp3 => write_header(b'%', members.len(), out),
                }
                for (key, value) in members {
                    key.write(version, out);
                    value.write(version, out);
                }
            }
        }
    }
}

fn write_bulk(mark: u8, prefix: &[u8], bytes: &[u8], out: &mut Vec<u8>) {
    write_header(mark, prefix.len() + bytes.len(), out);
    out.extend_from_slice(prefix);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn write_header(mark: u8, number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// An error that ends in ends of lines loses them (`addReplyErrorFormatEx`).
fn without_end(text: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let end = text.iter().rposition(|byte| !is_end(byte));
    text.get(..end.map_or(0, |end| end + 1)).unwrap_or_default()
}

/// A line cannot hold its own end: the server writes spaces instead.
fn write_line(mark: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    out.extend(text.iter().map(|byte| match byte {
        b'\r' | b'\n' => b' ',
        byte => *byte,
    }));
    out.extend_from_slice(b"\r\n");
}
