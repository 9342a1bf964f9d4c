//! The server's messages as bytes ("Message Formats").
//!
//! Does not know which may come when.

use super::values::Refusal;

/// Types by their rows of `pg_type`, with their sizes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Int4,
    Text,
    Varchar,
    Timestamp,
    Numeric,
    Jsonb,
}

impl Type {
    fn oid(self) -> u32 {
        match self {
            Self::Int4 => 23,
            Self::Text => 25,
            Self::Varchar => 1043,
            Self::Timestamp => 1114,
            Self::Numeric => 1700,
            Self::Jsonb => 3802,
        }
    }

    fn size(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Timestamp => 8,
            _ => -1,
        }
    }
}

/// Writes a message: the tag, room for the length, the body, the length.
pub(super) fn write(tag: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(room) = out.get_mut(start..start + 4) {
        room.copy_from_slice(&length.to_be_bytes());
    }
}

pub(super) fn empty(tag: u8, out: &mut Vec<u8>) {
    write(tag, out, |_| {});
}

/// What follows a StartupMessage when no password is asked for.
pub(super) fn welcome(process: i32, out: &mut Vec<u8>) {
    write(b'R', out, |out| out.extend_from_slice(&[0; 4]));
    for (name, value) in [
        ("application_name", "shepherd-edge"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, YMD"),
        ("integer_datetimes", "on"),
        ("server_encoding", "UTF8"),
        ("server_version", "15.18"),
        ("standard_conforming_strings", "on"),
        ("TimeZone", "UTC"),
    ] {
        write(b'S', out, |out| {
            for text in [name, value] {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        });
    }
    write(b'K', out, |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(&process.wrapping_mul(-1_640_531_527).to_be_bytes());
    });
    ready(out);
}

/// ReadyForQuery, outside any transaction.
pub(super) fn ready(out: &mut Vec<u8>) {
    write(b'Z', out, |out| out.push(b'I'));
}

pub(super) fn error(severity: &str, refusal: &Refusal, out: &mut Vec<u8>) {
    write(b'E', out, |out| {
        let fields = [
            (b'S', severity),
            (b'V', severity),
            (b'C', refusal.sqlstate),
            (b'M', &refusal.message),
        ];
        for (field, text) in fields {
            out.push(field);
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.push(0);
        }
        out.push(0);
    });
}

pub(super) fn parameter_description(types: &[Type], out: &mut Vec<u8>) {
    write(b't', out, |out| {
        write_count(types.len(), out);
        for one in types {
            out.extend_from_slice(&one.oid().to_be_bytes());
        }
    });
}

/// Columns of no table: the edge does not look at it.
pub(super) fn row_description(columns: &[(&str, Type)], out: &mut Vec<u8>) {
    write(b'T', out, |out| {
        write_count(columns.len(), out);
        for (name, column) in columns {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&[0; 7]);
            out.extend_from_slice(&column.oid().to_be_bytes());
            out.extend_from_slice(&column.size().to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        }
    });
}

pub(super) fn data_row(fields: &[Option<&str>], out: &mut Vec<u8>) {
    write(b'D', out, |out| {
        write_count(fields.len(), out);
        for field in fields {
            match field {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(text) => {
                    let length = i32::try_from(text.len()).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    });
}

pub(super) fn command_complete(tag: &str, out: &mut Vec<u8>) {
    write(b'C', out, |out| {
        out.extend_from_slice(tag.as_bytes());
        out.push(0);
    });
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}
