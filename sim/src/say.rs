//! What is said on the standard output, and beside it.
//!
//! Whoever reads it may have gone, and a disk may be full: neither is a fault of
//! ours, and what was heard elsewhere must not steer a terminal.

use std::fmt::{self, Display};
use std::io::{self, Write};

use anyhow::{Context, Result};

/// Whoever reads the output has heard enough.
#[derive(Debug)]
pub struct NobodyListens;

impl Display for NobodyListens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nobody reads the output any longer")
    }
}

impl std::error::Error for NobodyListens {}

/// What was asked for, as it is: on the standard output.
///
/// # Errors
/// [`NobodyListens`], or it cannot be written.
pub fn answer(text: impl Display) -> Result<()> {
    let mut output = io::stdout().lock();
    let written = write!(output, "{text}").and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(NobodyListens.into()),
        written => written.context("the output cannot be written"),
    }
}

/// The same, as a line.
///
/// # Errors
/// Those of [`answer`].
pub fn line(text: impl Display) -> Result<()> {
    answer(format_args!("{text}\n"))
}

/// Beside the output, for people; nobody need hear it.
pub fn beside(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}

/// The same, as a line.
pub fn aside(text: impl Display) {
    beside(format_args!("{text}\n"));
}

/// Text from elsewhere: what would steer a terminal is seen instead.
pub fn harmless(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => seen.push(character),
            _ if character.is_control() => seen.extend(character.escape_default()),
            _ => seen.push(character),
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_does_not_steer_a_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{9b}c"), "a\\u{1b}[2Jb\\u{9b}c");
        assert_eq!(harmless("größer\n\tals"), "größer\n\tals");
    }
}
