//! Messages of protocol 3.0 ("Message Formats"): taken apart, put together.
//!
//! Does not know which message may come when.

use super::refusal::Refusal;
use super::values;

/// The body of a message from the client, from front to back.
pub(super) struct Body<'a>(&'a [u8]);

fn malformed() -> Refusal {
    Refusal::new("08P01", "insufficient data left in message")
}

impl<'a> Body<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub fn int16(&mut self) -> Result<u16, Refusal> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub fn int32(&mut self) -> Result<i32, Refusal> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*bytes))
    }

    /// A text that a zero byte ends.
    pub fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.bytes(end.ok_or_else(malformed)?)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// A value of a Bind: a length, -1 for NULL, then that many bytes.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Refusal> {
        match self.int32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| malformed())?;
                self.bytes(length).map(Some)
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a message whose length is known when its body is written.
pub(super) fn write(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    write_counted(out, 4, body);
}

/// A length that counts `own` bytes of itself, and what it is the length of.
fn write_counted(out: &mut Vec<u8>, own: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = out.len() - start - 4 + own;
    let length = i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
}

pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

pub(super) fn write_error(out: &mut Vec<u8>, severity: &str, refusal: &Refusal) {
    write(out, b'E', |out| {
        for (kind, text) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', refusal.sqlstate),
            (b'M', &refusal.message),
        ] {
            out.push(kind);
            write_string(out, text);
        }
        out.push(0);
    });
}

/// The fields of one DataRow, in the order of the columns.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    count: u16,
}

/// Appends a DataRow.
pub(super) fn write_row(out: &mut Vec<u8>, fields: impl FnOnce(&mut Fields<'_>)) {
    write(out, b'D', |out| {
        let start = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut row = Fields { out, count: 0 };
        fields(&mut row);
        let count = row.count.to_be_bytes();
        if let Some(place) = out.get_mut(start..start + 2) {
            place.copy_from_slice(&count);
        }
    });
}

impl Fields<'_> {
    pub fn null(&mut self) {
        self.count += 1;
        self.out.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    pub fn write(&mut self, value: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        write_counted(self.out, 0, value);
    }

    pub fn text(&mut self, text: &str) {
        self.write(|out| out.extend_from_slice(text.as_bytes()));
    }

    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>)) {
        match value {
            Some(value) => self.write(|out| write(value, out)),
            None => self.null(),
        }
    }

    pub fn optional_text(&mut self, text: Option<&str>) {
        self.optional(text, |text, out| out.extend_from_slice(text.as_bytes()));
    }

    pub fn timestamp(&mut self, ms: u64) {
        self.write(|out| values::write_timestamp(ms, out));
    }
}
