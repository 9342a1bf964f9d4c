//! Texts as `jsonb` keeps and shows them ("JSON Types", "jsonb").
//!
//! Keys in the order of their length and then their bytes, the last of equal
//! ones, numbers as `numeric`. Read without recursion, because the text comes
//! from a caller.

use super::values::{Decimal, Refusal};

/// PostgreSQL's depends on its stack, and lies above what the edge lets through.
const DEPTH_MAX: usize = 6_000;

/// The text that the column shows.
pub(super) fn normalised(text: &str) -> Result<String, Refusal> {
    Reader::new(text, Decimal::text).read()
}

/// Whether two shown texts are equal values: `1.0` is `1`.
pub(super) fn equal(one: &str, other: &str) -> bool {
    let canonical = |text| Reader::new(text, Decimal::shortest_text).read();
    one == other || canonical(one).is_ok_and(|one| canonical(other) == Ok(one))
}

/// An array of strings.
pub(super) fn strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// `escape_json`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A container that is not closed yet.
enum Open {
    Array(Vec<String>),
    /// Members so far, and the key of the one that is being read.
    Object(Vec<(String, String)>, String),
}

impl Open {
    fn add(&mut self, value: String) {
        match self {
            Self::Array(elements) => elements.push(value),
            Self::Object(members, key) => members.push((std::mem::take(key), value)),
        }
    }

    fn close(self) -> String {
        let mut members = match self {
            Self::Array(elements) => return format!("[{}]", elements.join(", ")),
            Self::Object(members, _) => members,
        };
        // Stable, so that the last of equal keys comes first once reversed.
        members.reverse();
        members.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
        members.dedup_by(|(later, _), (first, _)| later == first);
        let shown: Vec<String> = members
            .iter()
            .map(|(key, value)| format!("{}: {value}", quoted(key)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

struct Reader<'a> {
    rest: &'a str,
    open: Vec<Open>,
    number: fn(&Decimal) -> String,
}

fn invalid() -> Refusal {
    Refusal::new("22P02", "invalid input syntax for type json")
}

impl<'a> Reader<'a> {
    fn new(rest: &'a str, number: fn(&Decimal) -> String) -> Self {
        Self {
            rest,
            open: Vec::new(),
            number,
        }
    }

    fn read(mut self) -> Result<String, Refusal> {
        loop {
            let Some(mut value) = self.begin_value()? else {
                continue;
            };
            // A value may be the last of its container, and that of its own.
            loop {
                self.skip_space();
                let Some(container) = self.open.last_mut() else {
                    return if self.rest.is_empty() {
                        Ok(value)
                    } else {
                        Err(invalid())
                    };
                };
                container.add(value);
                if self.take(',') {
                    self.begin_member()?;
                    break;
                }
                value = self.end_container()?.ok_or_else(invalid)?;
            }
        }
    }

    /// A whole value, or none when a container began that is not empty.
    fn begin_value(&mut self) -> Result<Option<String>, Refusal> {
        self.skip_space();
        let container = match self.rest.bytes().next() {
            Some(b'[') => Open::Array(Vec::new()),
            Some(b'{') => Open::Object(Vec::new(), String::new()),
            Some(b'"') => return Ok(Some(quoted(&self.string()?))),
            Some(b'-' | b'0'..=b'9') => return self.number().map(Some),
            _ => return self.word().map(Some),
        };
        if self.open.len() >= DEPTH_MAX {
            return Err(Refusal::new("54001", "stack depth limit exceeded"));
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        self.open.push(container);
        self.skip_space();
        let ended = self.end_container()?;
        if ended.is_none() {
            self.begin_member()?;
        }
        Ok(ended)
    }

    /// The innermost container, if its end comes now.
    fn end_container(&mut self) -> Result<Option<String>, Refusal> {
        let end = match self.open.last() {
            Some(Open::Array(_)) => ']',
            Some(Open::Object(..)) => '}',
            None => return Err(invalid()),
        };
        if !self.take(end) {
            return Ok(None);
        }
        Ok(self.open.pop().map(Open::close))
    }

    /// The key of a member, where there are keys.
    fn begin_member(&mut self) -> Result<(), Refusal> {
        if !matches!(self.open.last(), Some(Open::Object(..))) {
            return Ok(());
        }
        self.skip_space();
        let name = self.string()?;
        self.skip_space();
        if !self.take(':') {
            return Err(invalid());
        }
        if let Some(Open::Object(_, key)) = self.open.last_mut() {
            *key = name;
        }
        Ok(())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Result<String, Refusal> {
        for word in ["true", "false", "null"] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return self
                    .ends_here()
                    .then(|| word.to_owned())
                    .ok_or_else(invalid);
            }
        }
        Err(invalid())
    }

    /// No word or number goes on here.
    fn ends_here(&self) -> bool {
        let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || !c.is_ascii();
        !self.rest.starts_with(goes_on)
    }

    fn number(&mut self) -> Result<String, Refusal> {
        let start = self.rest;
        self.take('-');
        if !self.take('0') && self.digits() == 0 {
            return Err(invalid());
        }
        if self.take('.') && self.digits() == 0 {
            return Err(invalid());
        }
        if self.take('e') || self.take('E') {
            let _ = self.take('+') || self.take('-');
            if self.digits() == 0 {
                return Err(invalid());
            }
        }
        if !self.ends_here() {
            return Err(invalid());
        }
        let length = start.len() - self.rest.len();
        let text = start.get(..length).unwrap_or_default();
        Decimal::parse(text).map(|number| (self.number)(&number))
    }

    fn digits(&mut self) -> usize {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        before - self.rest.len()
    }

    fn string(&mut self) -> Result<String, Refusal> {
        if !self.take('"') {
            return Err(invalid());
        }
        let mut out = String::new();
        loop {
            let special = |c: char| c == '"' || c == '\\' || c < ' ';
            let end = self.rest.find(special).ok_or_else(invalid)?;
            let (plain, rest) = self.rest.split_at_checked(end).ok_or_else(invalid)?;
            out.push_str(plain);
            self.rest = rest;
            if self.take('"') {
                return Ok(out);
            }
            if !self.take('\\') {
                return Err(invalid());
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, Refusal> {
        let mut rest = self.rest.chars();
        let escaped = rest.next().ok_or_else(invalid)?;
        self.rest = rest.as_str();
        Ok(match escaped {
            '"' | '\\' | '/' => escaped,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode_escape(),
            _ => return Err(invalid()),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Refusal> {
        let unit = self.hex()?;
        let unit = match unit {
            0 => {
                return Err(Refusal::new("22P05", "unsupported Unicode escape sequence"));
            }
            0xD800..=0xDBFF => {
                if !(self.take('\\') && self.take('u')) {
                    return Err(invalid());
                }
                let low = self.hex()?;
                if !(0xDC00..=0xDFFF).contains(&low) {
                    return Err(invalid());
                }
                0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            unit => unit,
        };
        char::from_u32(unit).ok_or_else(invalid)
    }

    fn hex(&mut self) -> Result<u32, Refusal> {
        let (digits, rest) = self.rest.split_at_checked(4).ok_or_else(invalid)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        self.rest = rest;
        u32::from_str_radix(digits, 16).map_err(|_| invalid())
    }
}
