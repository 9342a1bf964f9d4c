//! Replies from bytes ("RESP protocol description").
//!
//! A decoder is fed bytes, cut anywhere, and gives values one by one. It looks
//! at every byte a bounded number of times however the input was cut: it keeps
//! how far the search for a line's end came, how long the value is that it waits
//! for, and a stack of the aggregates that are still open.
//!
//! What is deliberately not known here: commands, and which reply belongs to
//! which. Nothing here recurses, and no number that the server sent makes it
//! reserve memory for more than a few values: what it holds grows with what it
//! was sent, up to [`RESP_FLIGHT_BYTES_MAX`].

use bytes::{Buf, BytesMut};

use super::{Reply, ServerError};
use crate::limits::{
    RESP_BULK_BYTES_MAX, RESP_DEPTH_MAX, RESP_ELEMENTS_MAX, RESP_FLIGHT_BYTES_MAX,
    RESP_LINE_BYTES_MAX,
};
use crate::wire::WireError;

const CRLF: &[u8] = b"\r\n";
/// An aggregate begins with room for its elements, but for no more than so many: its
/// length is only what the server says. As many as the answer to HELLO has.
const ITEMS_AT_FIRST_MAX: usize = 16;
/// The first bytes of all that we take. Attributes (`|`) come from the RESP3
/// specification; its streamed parts (`;`, `.`) are left out on purpose.
const TYPES: &[u8] = b"+-:$*_#,(!=%~>|";
const UNKNOWN_TYPE: WireError = WireError::Protocol("a value of an unknown type");
/// The mark before a verbatim string: three letters and a colon.
const VERBATIM_MARK_BYTES: usize = 4;

#[derive(Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// So many bytes at the front of `buffer` hold no CR and no LF.
    scanned: usize,
    /// The kind and length of the bulk whose header was read last.
    bulk: Option<(BulkKind, usize)>,
    /// Aggregates that wait for elements, the innermost last; each misses at
    /// least one. Never more than `RESP_DEPTH_MAX`.
    open: Vec<Aggregate>,
    /// Bytes received and bytes of values built since the flight began. Never
    /// more than `RESP_FLIGHT_BYTES_MAX`.
    charged_bytes: usize,
}

#[derive(Clone, Copy)]
enum BulkKind {
    Value,
    Error,
    Verbatim,
}

#[derive(Clone, Copy, PartialEq)]
enum AggregateKind {
    Array,
    Set,
    Map,
    Push,
    Attribute,
}

struct Aggregate {
    kind: AggregateKind,
    missing: usize,
    /// The elements so far; a map's keys and values in turn. Empty when the
    /// aggregate is one that is skipped.
    items: Vec<Reply>,
}

/// What a line says.
enum Line {
    Value(Reply),
    Bulk(BulkKind, usize),
    Aggregate(AggregateKind, usize),
}

enum Step {
    /// Nothing more can be read before more bytes arrive.
    Starved,
    /// A header, or a value that is skipped.
    Header,
    Value(Reply),
}

impl Decoder {
    /// A new flight begins: its replies may take up to the limit again.
    pub(super) fn begin_flight(&mut self) {
        // A push message that is half here still counts.
        if self.open.is_empty() {
            self.charged_bytes = self.buffer.len();
        }
    }

    /// All replies of the flight are here. What is left of a buffer keeps all
    /// of it alive, and an idle connection must not hold on to ten megabytes.
    pub(super) fn end_flight(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.charge(bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next value outside of any aggregate, or `None` until more bytes come.
    ///
    /// Push messages and attributes are skipped. When no reply is due, anything
    /// but a push message is an error, as soon as its first byte is here.
    pub(super) fn next(&mut self, reply_due: bool) -> Result<Option<Reply>, WireError> {
        loop {
            let step = match self.bulk {
                Some((kind, length)) => self.read_bulk(kind, length)?,
                None => self.read_line(reply_due)?,
            };
            match step {
                Step::Starved => return Ok(None),
                Step::Header => {}
                Step::Value(value) => {
                    if let Some(reply) = self.place(value)? {
                        return Ok(Some(reply));
                    }
                }
            }
        }
    }

    /// Bytes that this decoder, and the replies that it gave since the flight
    /// began, hold at most, but for the slack of growing buffers.
    pub(super) fn charged_bytes(&self) -> usize {
        self.charged_bytes
    }

    /// Bytes of memory in use for input.
    #[cfg(test)]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Counts before anything is stored, so that the limit is never passed.
    ///
    /// Values count beside the bytes they came in: `_` CR LF is three bytes on
    /// the wire and twenty times as many as a [`Reply`].
    fn charge(&mut self, bytes: usize) -> Result<(), WireError> {
        let charged = self.charged_bytes.saturating_add(bytes);
        if charged > RESP_FLIGHT_BYTES_MAX {
            return Err(WireError::Limit("replies beyond RESP_FLIGHT_BYTES_MAX"));
        }
        self.charged_bytes = charged;
        Ok(())
    }

    fn read_line(&mut self, reply_due: bool) -> Result<Step, WireError> {
        let Some(&kind) = self.buffer.first() else {
            return Ok(Step::Starved);
        };
        if !TYPES.contains(&kind) {
            return Err(UNKNOWN_TYPE);
        }
        if self.open.is_empty() && !reply_due && kind != b'>' {
            return Err(WireError::Protocol("a reply that nothing asked for"));
        }
        let Some(end) = self.line_end()? else {
            return Ok(Step::Starved);
        };
        let line = parse_line(kind, self.buffer.get(1..end).unwrap_or_default())?;
        self.buffer.advance(end + CRLF.len());
        self.scanned = 0;
        match line {
            Line::Value(value) => Ok(Step::Value(value)),
            Line::Bulk(kind, length) => {
                self.bulk = Some((kind, length));
                Ok(Step::Header)
            }
            Line::Aggregate(kind, elements) => self.open_aggregate(kind, elements),
        }
    }

    /// Where the line at the front of the buffer ends, without its CRLF.
    fn line_end(&mut self) -> Result<Option<usize>, WireError> {
        const BAD_END: WireError = WireError::Protocol("a line that does not end with CRLF");
        let window = self.buffer.len().min(RESP_LINE_BYTES_MAX + 1);
        let unseen = self.buffer.get(self.scanned..window).unwrap_or_default();
        let Some(ahead) = unseen.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            self.scanned = window;
            if window > RESP_LINE_BYTES_MAX {
                return Err(WireError::Limit("a line beyond RESP_LINE_BYTES_MAX"));
            }
            return Ok(None);
        };
        let end = self.scanned + ahead;
        self.scanned = end;
        match (self.buffer.get(end), self.buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => Ok(Some(end)),
            (Some(b'\r'), None) => Ok(None),
            _ => Err(BAD_END),
        }
    }

    fn read_bulk(&mut self, kind: BulkKind, length: usize) -> Result<Step, WireError> {
        if self.buffer.len() < length + CRLF.len() {
            return Ok(Step::Starved);
        }
        let mut value = self.buffer.split_to(length).freeze();
        if !self.buffer.starts_with(CRLF) {
            return Err(WireError::Protocol("a bulk that does not end with CRLF"));
        }
        self.buffer.advance(CRLF.len());
        self.bulk = None;
        Ok(Step::Value(match kind {
            BulkKind::Value => Reply::Bulk(value),
            BulkKind::Error => Reply::Error(ServerError::parse(&value)),
            BulkKind::Verbatim => {
                if value.get(VERBATIM_MARK_BYTES - 1) != Some(&b':') {
                    return Err(WireError::Protocol("a verbatim string without a mark"));
                }
                value.advance(VERBATIM_MARK_BYTES);
                Reply::Verbatim(value)
            }
        }))
    }

    fn open_aggregate(&mut self, kind: AggregateKind, missing: usize) -> Result<Step, WireError> {
        if self.open.len() >= RESP_DEPTH_MAX {
            return Err(WireError::Limit("nesting beyond RESP_DEPTH_MAX"));
        }
        // "Pushes": they may come between any two values, but never within one.
        if kind == AggregateKind::Push && !self.open.is_empty() {
            return Err(WireError::Protocol("a push message within a reply"));
        }
        let at_first = if kind.is_skipped() { 0 } else { missing };
        let aggregate = Aggregate {
            kind,
            missing,
            items: Vec::with_capacity(at_first.min(ITEMS_AT_FIRST_MAX)),
        };
        if missing == 0 {
            return Ok(aggregate.into_reply().map_or(Step::Header, Step::Value));
        }
        self.open.push(aggregate);
        Ok(Step::Header)
    }

    /// Puts a value where it belongs and closes what it completes. Gives the
    /// value that is complete outside of any aggregate.
    fn place(&mut self, mut value: Reply) -> Result<Option<Reply>, WireError> {
        loop {
            self.charge(size_of::<Reply>().saturating_add(value.text_bytes()))?;
            let Some(innermost) = self.open.last_mut() else {
                return Ok(Some(value));
            };
            innermost.take(value);
            if innermost.missing > 0 {
                return Ok(None);
            }
            match self.open.pop().and_then(Aggregate::into_reply) {
                Some(complete) => value = complete,
                None => return Ok(None),
            }
        }
    }
}

impl AggregateKind {
    fn is_skipped(self) -> bool {
        matches!(self, Self::Push | Self::Attribute)
    }
}

impl Aggregate {
    fn take(&mut self, value: Reply) {
        self.missing = self.missing.saturating_sub(1);
        if !self.kind.is_skipped() {
            self.items.push(value);
        }
    }

    /// The value that the elements make, or `None` for one that is skipped.
    fn into_reply(self) -> Option<Reply> {
        match self.kind {
            AggregateKind::Array => Some(Reply::Array(self.items)),
            AggregateKind::Set => Some(Reply::Set(self.items)),
            AggregateKind::Map => {
                let mut pairs = Vec::with_capacity(self.items.len() / 2);
                let mut items = self.items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Some(Reply::Map(pairs))
            }
            AggregateKind::Push | AggregateKind::Attribute => None,
        }
    }
}

/// Reads a line: its type, and its text without CRLF.
fn parse_line(kind: u8, text: &[u8]) -> Result<Line, WireError> {
    use AggregateKind::{Array, Attribute, Map, Push, Set};
    let value = match (kind, text) {
        // "Null bulk strings" and "Null arrays", the only negative lengths.
        (b'$' | b'*', b"-1") | (b'_', b"") => Reply::Null,
        (b'$', _) => return bulk(BulkKind::Value, text),
        (b'=', _) => return bulk(BulkKind::Verbatim, text),
        (b'!', _) => return bulk(BulkKind::Error, text),
        (b'*', _) => return aggregate(Array, text, 1),
        (b'~', _) => return aggregate(Set, text, 1),
        (b'>', _) => return aggregate(Push, text, 1),
        (b'%', _) => return aggregate(Map, text, 2),
        (b'|', _) => return aggregate(Attribute, text, 2),
        (b'+', _) => Reply::Simple(simple(text)?),
        (b'-', _) => Reply::Error(ServerError::parse(text)),
        (b':', _) => Reply::Integer(integer(text)?),
        (b',', _) => Reply::Double(double(text)?),
        (b'(', _) => Reply::BigNumber(big_number(text)?),
        (b'#', b"t") => Reply::Boolean(true),
        (b'#', b"f") => Reply::Boolean(false),
        (b'#', _) => return Err(WireError::Protocol("a boolean that is neither t nor f")),
        (b'_', _) => return Err(WireError::Protocol("a null with a content")),
        _ => return Err(UNKNOWN_TYPE),
    };
    Ok(Line::Value(value))
}

fn bulk(kind: BulkKind, text: &[u8]) -> Result<Line, WireError> {
    let (bytes_max, too_long) = match kind {
        BulkKind::Value | BulkKind::Verbatim => (
            RESP_BULK_BYTES_MAX,
            WireError::Limit("a bulk beyond RESP_BULK_BYTES_MAX"),
        ),
        // An error is for people to read, and is copied: a line is enough.
        BulkKind::Error => (
            RESP_LINE_BYTES_MAX,
            WireError::Limit("a bulk error beyond RESP_LINE_BYTES_MAX"),
        ),
    };
    Ok(Line::Bulk(kind, length(text, bytes_max, too_long)?))
}

fn aggregate(kind: AggregateKind, text: &[u8], values_each: usize) -> Result<Line, WireError> {
    const TOO_MANY: WireError = WireError::Limit("an aggregate beyond RESP_ELEMENTS_MAX");
    let entries = length(text, RESP_ELEMENTS_MAX / values_each, TOO_MANY)?;
    Ok(Line::Aggregate(kind, entries * values_each))
}

/// Reads a length: digits, as few as possible, and nothing else.
///
/// The specification does not rule out leading zeros; no server sends them, and
/// two readers that disagree about a length disagree about all that follows.
fn length(text: &[u8], max: usize, too_large: WireError) -> Result<usize, WireError> {
    if text == b"?" {
        return Err(WireError::Protocol(
            "a streamed value, which we never ask for",
        ));
    }
    let is_plain = is_digits(text) && (text == b"0" || !text.starts_with(b"0"));
    if !is_plain {
        return Err(WireError::Protocol("a length that is not a plain number"));
    }
    let mut length = 0_usize;
    for digit in text {
        length = length
            .saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'));
        // In the loop: a line holds more digits than a number should cost.
        if length > max {
            return Err(too_large);
        }
    }
    Ok(length)
}

fn simple(text: &[u8]) -> Result<String, WireError> {
    str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| WireError::Protocol("a simple string that is not UTF-8"))
}

/// "Integers": a sign, which may be a plus, and digits.
fn integer(text: &[u8]) -> Result<i64, WireError> {
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(WireError::Protocol("an integer that is not a 64-bit one"))
}

/// "Doubles". Rust reads more spellings than the protocol knows.
fn double(text: &[u8]) -> Result<f64, WireError> {
    const NOT_A_DOUBLE: WireError = WireError::Protocol("a double that is not a number");
    match text {
        b"inf" => return Ok(f64::INFINITY),
        b"-inf" => return Ok(f64::NEG_INFINITY),
        // The minus is what C prints for some NaNs.
        b"nan" | b"-nan" => return Ok(f64::NAN),
        _ => {}
    }
    let is_decimal = unsigned(text).first().is_some_and(u8::is_ascii_digit)
        && text
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if !is_decimal {
        return Err(NOT_A_DOUBLE);
    }
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(NOT_A_DOUBLE)
}

fn big_number(text: &[u8]) -> Result<String, WireError> {
    if !is_digits(unsigned(text)) {
        return Err(WireError::Protocol("a big number that is not a number"));
    }
    simple(text)
}

fn unsigned(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    }
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
