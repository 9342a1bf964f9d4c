//! JSON as text: checked, taken apart at the top level, never rebuilt.
//!
//! Values keep every byte that came, so no double and no key order changes.
//! Deep values are checked without recursion.

use memchr::memchr2_iter;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::limits::{EXPONENT_MAX, JSON_DEPTH_MAX};

/// The members of an object, in order, values as they were written.
pub struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// # Errors
    /// The text is no JSON object, or nests too deep.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        check_depth(text)?;
        if !text.trim_start().starts_with('{') {
            check(text)?;
            return Err(Error::bad("the body must be a JSON object"));
        }
        serde_json::from_str(text).map_err(|_| Error::bad("the body is not valid JSON"))
    }

    /// The value of a member; the last one of several counts, as in JavaScript.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.get())
    }

    /// As [`Self::field`], with null as absent.
    pub fn present(&self, name: &str) -> Option<&'a str> {
        self.field(name).filter(|text| *text != "null")
    }
}

impl<'a> serde::Deserialize<'a> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'a> serde::de::Visitor<'a> for Members {
            type Value = Object<'a>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'a>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The elements of an array, as they were written; None when it is no array.
pub fn elements(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// # Errors
/// The text is no JSON, or nests too deep.
pub fn check(text: &str) -> Result<(), Error> {
    check_depth(text)?;
    serde_json::from_str::<&RawValue>(text)
        .map(|_| ())
        .map_err(|_| Error::bad("the body is not valid JSON"))
}

/// The string that a JSON text stands for; None when it is no string.
pub fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// A string as JSON text.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Where strings begin and end in JSON, byte by byte.
#[derive(Default)]
struct Strings {
    is_inside: bool,
    is_escaped: bool,
}

impl Strings {
    /// Whether this byte, the next one, stands outside; quotes do not.
    fn is_outside(&mut self, byte: u8) -> bool {
        match (self.is_inside, byte) {
            (true, _) if self.is_escaped => self.is_escaped = false,
            (true, b'\\') => self.is_escaped = true,
            (_, b'"') => self.is_inside = !self.is_inside,
            (is_inside, _) => return !is_inside,
        }
        false
    }
}

fn check_depth(text: &str) -> Result<(), Error> {
    // What opens little cannot be deep, and to count is much quicker than to look.
    let mut opens = memchr2_iter(b'[', b'{', text.as_bytes());
    if opens.nth(JSON_DEPTH_MAX).is_none() {
        return Ok(());
    }
    let (mut depth, mut strings) = (0usize, Strings::default());
    for byte in text.bytes().filter(|byte| strings.is_outside(*byte)) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(Error::bad(format!(
                "the JSON nests deeper than {JSON_DEPTH_MAX} levels"
            )));
        }
    }
    Ok(())
}

/// Whether a string or name in valid JSON contains U+0000, which `jsonb` cannot
/// hold (PostgreSQL, "JSON Types"). Raw, it is not valid JSON; escaped, it is.
pub fn contains_nul(text: &str) -> bool {
    let mut rest = text;
    // Backslashes occur in strings only, and each has at least one character after it.
    while let Some((_, escape)) = rest.split_once('\\') {
        if escape.starts_with("u0000") {
            return true;
        }
        let mut after = escape.chars();
        after.next();
        rest = after.as_str();
    }
    false
}

/// Whether a number in valid JSON is one that `jsonb` would write out in more
/// digits than any double has: it keeps `1e131000` as so many zeros.
pub fn contains_huge_number(text: &str) -> bool {
    let mut strings = Strings::default();
    let is_part = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let separates = |byte: &u8| !strings.is_outside(*byte) || !is_part(*byte);
    text.as_bytes().split(separates).any(|number| {
        let number = std::str::from_utf8(number).unwrap_or_default();
        let exponent = number.split_once(['e', 'E']);
        exponent.is_some_and(|(_, exponent)| {
            let digits = exponent.trim_start_matches(['+', '-']);
            !digits.is_empty() && !digits.parse().is_ok_and(|size: u16| size <= EXPONENT_MAX)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes() {
        let object = Object::parse(r#"{"a": 1.0e0 , "b":{"y":1, "x":-0}, "a":2}"#).unwrap();
        assert_eq!(object.field("a"), Some("2"));
        assert_eq!(object.field("b"), Some(r#"{"y":1, "x":-0}"#));
        assert_eq!(object.field("c"), None);
    }

    #[test]
    fn depth_is_limited_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| format!("{{\"v\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Object::parse(&nested(1000)).is_ok());
        assert!(Object::parse(&nested(JSON_DEPTH_MAX)).is_err());
        assert!(Object::parse(&format!(r#"{{"v":"\"{}"}}"#, "[".repeat(9000))).is_ok());
    }

    #[test]
    fn other_top_levels_and_broken_texts_are_refused() {
        for text in ["", "[]", "1", "null", "{", "{\"a\"}", "{} x"] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_that_jsonb_blows_up_are_found() {
        for (text, huge) in [
            (r#"[1e131000]"#, true),
            (r#"[{"n":-1.5E-99999}]"#, true),
            (r#"[1e400]"#, false),
            (
                r#"[1.7976931348623157e308,5e-324,0,12345678901234567890]"#,
                false,
            ),
            (r#"["1e131000","\"1e131000"]"#, false),
            (r#"["\\",1e131000]"#, true),
            (r#"{"one":true,"e1":"e"}"#, false),
        ] {
            assert_eq!(contains_huge_number(text), huge, "{text}");
        }
    }

    #[test]
    fn nul_is_found_where_it_is_one() {
        for (text, nul) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"["\\\u0000"]"#, true),
            (r#"["\\u0000"]"#, false),
            (r#"["\u00000","\n"]"#, true),
            (r#"["\u0001u0000"]"#, false),
            ("0", false),
        ] {
            assert_eq!(contains_nul(text), nul, "{text}");
        }
    }
}
