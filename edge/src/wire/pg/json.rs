//! Rows as JSON text, written straight from the fields into one buffer.
//!
//! The types are told by their OIDs. A number keeps the digits that the server
//! sent, and a `jsonb` its text; both are checked, because they come from the
//! network. Which columns there are, and what they mean, is not known here.

use std::io;

use serde_json::value::RawValue;

use super::answer::{Row, Rows};
use crate::limits::PG_RESULT_BYTES_MAX;
use crate::wire::WireError;

const TOO_LONG: WireError = WireError::Limit("the JSON of one result");

/// OIDs of `pg_type` that never change (`pg_type.dat` in the server's source).
mod oid {
    pub const BOOL: u32 = 16;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const JSONB: u32 = 3802;
}

impl Rows {
    /// All rows: an array of objects keyed by column name.
    ///
    /// # Errors
    /// A field is not what its type says, or the text grows beyond the limit
    /// of a result.
    pub fn json_array(&self) -> Result<Vec<u8>, WireError> {
        let keys = self.json_keys()?;
        let keys_bytes: usize = keys.iter().map(Vec::len).sum();
        let rows_bytes: usize = self.rows.iter().map(Row::bytes).sum();
        let guess = rows_bytes.saturating_add(keys_bytes.saturating_mul(self.len()));
        let mut out = Vec::with_capacity(guess.min(PG_RESULT_BYTES_MAX));
        out.push(b'[');
        for (place, row) in self.rows.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            self.write_object(row, &keys, &mut out)?;
        }
        out.push(b']');
        Ok(out)
    }

    /// One row as an object; `null` when there is no such row.
    ///
    /// # Errors
    /// See [`Rows::json_array`].
    pub fn json_object(&self, row: usize) -> Result<Vec<u8>, WireError> {
        let Some(row) = self.rows.get(row) else {
            return Ok(b"null".to_vec());
        };
        let mut out = Vec::with_capacity(row.bytes());
        self.write_object(row, &self.json_keys()?, &mut out)?;
        Ok(out)
    }

    /// `"name":` of every column.
    fn json_keys(&self) -> Result<Vec<Vec<u8>>, WireError> {
        let key = |name: &str| {
            let mut key = Vec::with_capacity(name.len() + 3);
            write_string(name, &mut key)?;
            key.push(b':');
            Ok(key)
        };
        self.columns
            .iter()
            .map(|column| key(&column.name))
            .collect()
    }

    fn write_object(
        &self,
        row: &Row,
        keys: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        out.push(b'{');
        for (place, ((column, key), field)) in
            self.columns.iter().zip(keys).zip(row.fields()).enumerate()
        {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            match field {
                Some(text) => write_value(column.type_oid, text, out)?,
                None => out.extend_from_slice(b"null"),
            }
            // Keys make the text longer than what came in.
            if out.len() > PG_RESULT_BYTES_MAX {
                return Err(TOO_LONG);
            }
        }
        out.push(b'}');
        Ok(())
    }
}

fn write_value(type_oid: u32, text: &str, out: &mut Vec<u8>) -> Result<(), WireError> {
    match type_oid {
        oid::BOOL => out.extend_from_slice(match text {
            "t" => b"true",
            "f" => b"false",
            _ => return Err(WireError::Protocol("a boolean that is none")),
        }),
        oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8 => {
            match text {
                "NaN" | "Infinity" | "-Infinity" => out.extend_from_slice(b"null"),
                _ if is_number(text.as_bytes()) => out.extend_from_slice(text.as_bytes()),
                _ => return Err(WireError::Protocol("a number that is none")),
            }
        }
        oid::JSON | oid::JSONB => {
            // Checked only, without building a tree and without recursion.
            let value: &RawValue = serde_json::from_str(text)
                .map_err(|_| WireError::Protocol("a JSON value that is none"))?;
            out.extend_from_slice(value.get().as_bytes());
        }
        oid::TIMESTAMP | oid::TIMESTAMPTZ => write_timestamp(type_oid, text, out)?,
        _ => write_string(text, out)?,
    }
    Ok(())
}

/// `2026-01-02 03:04:05.678` → `"2026-01-02T03:04:05.678Z"`, with the digits of
/// the second as they came.
///
/// What has no such form stays as the server writes it: years before Christ and
/// after 9999, and a `timestamptz` that is not in the UTC we asked for.
fn write_timestamp(type_oid: u32, text: &str, out: &mut Vec<u8>) -> Result<(), WireError> {
    if matches!(text, "infinity" | "-infinity") {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let local = if type_oid == oid::TIMESTAMPTZ {
        text.strip_suffix("+00")
    } else {
        Some(text)
    };
    match local.and_then(date_and_time) {
        Some((date, time)) => {
            out.push(b'"');
            out.extend_from_slice(date.as_bytes());
            out.push(b'T');
            out.extend_from_slice(time.as_bytes());
            out.extend_from_slice(b"Z\"");
            Ok(())
        }
        None => write_string(text, out),
    }
}

/// Splits `YYYY-MM-DD HH:MM:SS[.f…]`, only if it has exactly that shape.
fn date_and_time(text: &str) -> Option<(&str, &str)> {
    let (date, time) = text.split_once(' ')?;
    let (seconds, fraction) = match time.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (time, None),
    };
    let fraction_fits = fraction.is_none_or(|digits| {
        (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    });
    (has_shape(date, "0000-00-00") && has_shape(seconds, "00:00:00") && fraction_fits)
        .then_some((date, time))
}

/// Whether a text has digits where the shape has `0`, and else the same.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                mark => byte == mark,
            })
}

/// Whether a text is a number in JSON (RFC 8259, "Numbers").
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = split_digits(text);
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) => {
            let (fraction, rest) = split_digits(rest);
            if fraction.is_empty() {
                return false;
            }
            rest
        }
        None => rest,
    };
    match rest.split_first() {
        None => true,
        Some((b'e' | b'E', rest)) => {
            let rest = match rest.split_first() {
                Some((b'+' | b'-', rest)) => rest,
                _ => rest,
            };
            let (exponent, rest) = split_digits(rest);
            !exponent.is_empty() && rest.is_empty()
        }
        Some(_) => false,
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at_checked(digits).unwrap_or((text, &[]))
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), WireError> {
    serde_json::to_writer(Bounded(out), text).map_err(|_| TOO_LONG)
}

/// Text that stops growing at the limit of a result, also within one string:
/// escapes can make it six times as long as what came.
struct Bounded<'a>(&'a mut Vec<u8>);

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > PG_RESULT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
