//! Texts as `jsonb` shows them: its order, its spaces, its numbers.
//!
//! Neither the reader nor the writer recurses. Sections named here are those
//! of "JSON Types" in PostgreSQL's manual.

use super::numeric::Decimal;
use super::refusal::Refusal;

/// The server's own depth follows from its stack (`max_stack_depth` of 2 MB).
/// This is somewhat beyond what the edge lets through.
const DEPTH_MAX: usize = 6_000;

/// A container that is not complete.
enum Open {
    /// What comes before it is in `out` of the reader up to here.
    Array { is_empty: bool, outer: String },
    Object {
        members: Vec<(String, String)>,
        key: String,
        outer: String,
    },
}

/// Reads a text and gives it back in the one form that `jsonb` has for it.
pub(super) fn normalised(text: &str) -> Result<String, Refusal> {
    let mut reader = Reader { text, at: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut out = String::with_capacity(text.len());
    loop {
        // A value begins here.
        match reader.peek() {
            Some(b'[') => {
                reader.at += 1;
                push(
                    &mut open,
                    Open::Array {
                        is_empty: true,
                        outer: std::mem::take(&mut out),
                    },
                )?;
                if reader.peek() != Some(b']') {
                    continue;
                }
            }
            Some(b'{') => {
                reader.at += 1;
                let is_empty = reader.peek() == Some(b'}');
                let key = if is_empty {
                    String::new()
                } else {
                    reader.key()?
                };
                let outer = std::mem::take(&mut out);
                push(
                    &mut open,
                    Open::Object {
                        members: Vec::new(),
                        key,
                        outer,
                    },
                )?;
                if !is_empty {
                    continue;
                }
            }
            _ => reader.scalar(&mut out)?,
        }
        // A value, or an empty container, has come to its end.
        if !close(&mut reader, &mut open, &mut out)? {
            break;
        }
    }
    match reader.peek() {
        None => Ok(out),
        Some(_) => Err(reader.wrong()),
    }
}

fn push(open: &mut Vec<Open>, container: Open) -> Result<(), Refusal> {
    if open.len() >= DEPTH_MAX {
        return Err(Refusal::new("54001", "stack depth limit exceeded"));
    }
    open.push(container);
    Ok(())
}

/// Goes on after a value: closes containers until another value must come.
/// False: the outermost value is complete.
fn close(reader: &mut Reader<'_>, open: &mut Vec<Open>, out: &mut String) -> Result<bool, Refusal> {
    while let Some(container) = open.last_mut() {
        let mark = reader.peek();
        match (container, mark) {
            (Open::Array { is_empty, .. }, Some(b',')) => {
                *is_empty = false;
                reader.at += 1;
                out.push_str(", ");
                return Ok(true);
            }
            (Open::Object { members, key, .. }, Some(b',')) => {
                reader.at += 1;
                members.push((std::mem::take(key), std::mem::take(out)));
                *key = reader.key()?;
                return Ok(true);
            }
            (Open::Array { outer, .. }, Some(b']')) => {
                let inner = std::mem::replace(out, std::mem::take(outer));
                out.push('[');
                out.push_str(&inner);
                out.push(']');
            }
            (
                Open::Object {
                    members,
                    key,
                    outer,
                },
                Some(b'}'),
            ) => {
                let last = std::mem::replace(out, std::mem::take(outer));
                // A value is never an empty text: there is none in `{}`.
                if !last.is_empty() {
                    members.push((std::mem::take(key), last));
                }
                write_object(std::mem::take(members), out);
            }
            _ => return Err(reader.wrong()),
        }
        reader.at += 1;
        open.pop();
    }
    Ok(false)
}

/// Keys by their length, then by their bytes; the last of several counts
/// ("jsonb Containment and Existence", `lengthCompareJsonbStringValue`).
fn write_object(mut members: Vec<(String, String)>, out: &mut String) {
    members.reverse();
    members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    members.dedup_by(|later, first| later.0 == first.0);
    out.push('{');
    for (place, (key, value)) in members.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        write_string(key, out);
        out.push_str(": ");
        out.push_str(value);
    }
    out.push('}');
}

/// `escape_json`.
pub(super) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Whether two normalised texts are equal as `jsonb`: numbers are by value.
pub(super) fn equal(a: &str, b: &str) -> bool {
    a == b || without_trailing_zeros(a) == without_trailing_zeros(b)
}

/// The text without the zeros at the end of its numbers' fractions.
fn without_trailing_zeros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(mark) = rest.find(|c: char| c == '"' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(mark);
        out.push_str(before);
        let length = if from.starts_with('"') {
            string_length(from)
        } else {
            let is_part = |c: char| c.is_ascii_digit() || c == '.';
            from.find(|c| !is_part(c)).unwrap_or(from.len())
        };
        let (token, after) = from.split_at(length);
        out.push_str(if token.contains('.') && !token.starts_with('"') {
            token.trim_end_matches('0').trim_end_matches('.')
        } else {
            token
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The length of a string with its quotes.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self) -> Refusal {
        Refusal::new("22P02", "invalid input syntax for type json")
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// A name and the colon behind it.
    fn key(&mut self) -> Result<String, Refusal> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong());
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(key)
    }

    fn scalar(&mut self, out: &mut String) -> Result<(), Refusal> {
        match self.peek() {
            Some(b'"') => write_string(&self.string()?, out),
            Some(b'-' | b'0'..=b'9') => self.number(out)?,
            _ => {
                let word = ["true", "false", "null"]
                    .into_iter()
                    .find(|word| self.rest().starts_with(word))
                    .ok_or_else(|| self.wrong())?;
                self.at += word.len();
                out.push_str(word);
            }
        }
        // `truex` and `1x` are one wrong token.
        match self.rest().chars().next() {
            Some(c) if c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() => Err(self.wrong()),
            _ => Ok(()),
        }
    }

    fn number(&mut self, out: &mut String) -> Result<(), Refusal> {
        let start = self.rest();
        let unsigned = start.strip_prefix('-').unwrap_or(start);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(unsigned);
        if length == 0 || length > 1 && unsigned.starts_with('0') {
            return Err(self.wrong());
        }
        let part = |length: usize| unsigned.get(length..).unwrap_or_default();
        if let Some(fraction) = part(length).strip_prefix('.') {
            match digits(fraction) {
                0 => return Err(self.wrong()),
                count => length += 1 + count,
            }
        }
        let mut is_plain = true;
        if let Some(exponent) = part(length).strip_prefix(['e', 'E']) {
            is_plain = false;
            let sign = usize::from(exponent.starts_with(['+', '-']));
            match digits(exponent.get(sign..).unwrap_or_default()) {
                0 => return Err(self.wrong()),
                count => length += 1 + sign + count,
            }
        }
        let text = unsigned.get(..length).unwrap_or_default();
        let is_negative = unsigned.len() < start.len();
        self.at += length + usize::from(is_negative);
        // The most common numbers are shown as they are written.
        if is_plain && !is_negative && length < 1000 {
            out.push_str(text);
            return Ok(());
        }
        let decimal = Decimal::parse(is_negative, text).unwrap_or_else(|| Err(self.wrong()))?;
        out.push_str(&decimal.text());
        Ok(())
    }

    fn string(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let end = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .ok_or_else(|| self.wrong())?;
            out.push_str(rest.get(..end).unwrap_or_default());
            self.at += end + 1;
            match rest.as_bytes().get(end) {
                Some(b'"') => return Ok(out),
                Some(b'\\') => out.push(self.escaped()?),
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Refusal> {
        let mark = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match mark {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong()),
        })
    }

    /// `\u0000` cannot be a text's; halves of a pair are none of their own.
    fn unicode(&mut self) -> Result<char, Refusal> {
        let unit = self.hex()?;
        let code = match unit {
            0 => {
                return Err(Refusal::new("22P05", "unsupported Unicode escape sequence"));
            }
            0xD800..=0xDBFF => {
                if !self.rest().starts_with("\\u") {
                    return Err(self.wrong());
                }
                self.at += 2;
                match self.hex()? {
                    low @ 0xDC00..=0xDFFF => 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00),
                    _ => return Err(self.wrong()),
                }
            }
            unit => unit,
        };
        char::from_u32(code).ok_or_else(|| self.wrong())
    }

    fn hex(&mut self) -> Result<u32, Refusal> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unit = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        self.at += 4;
        unit.ok_or_else(|| self.wrong())
    }
}
