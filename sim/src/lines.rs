//! Lines of text that anybody may have written: none may fill the memory, and what
//! is too long for a line is none, neither its beginning nor its end.

use std::io::{self, BufRead, Read};

/// Some programs begin a file with one.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads line after line into one place.
pub struct Lines<R> {
    reader: R,
    bytes_max: usize,
    number: u64,
    line: Vec<u8>,
}

/// One line, and which it is, from 1 on.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub number: u64,
    /// Without its end; None: it is too long.
    pub text: Option<&'a [u8]>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, bytes_max: usize) -> Self {
        Self {
            reader,
            bytes_max,
            number: 0,
            line: Vec::new(),
        }
    }

    /// # Errors
    /// Those of the reader.
    pub fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        // One more for its end.
        let most = self.bytes_max as u64 + 1;
        let count = (&mut self.reader)
            .take(most)
            .read_until(b'\n', &mut self.line)?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        let is_whole = self.line.pop_if(|last| *last == b'\n').is_some();
        if !is_whole && self.line.len() > self.bytes_max {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Line {
                number: self.number,
                text: None,
            }));
        }
        self.line.pop_if(|last| is_whole && *last == b'\r');
        let text = match self.number {
            1 => self
                .line
                .strip_prefix(BYTE_ORDER_MARK)
                .unwrap_or(&self.line),
            _ => &self.line,
        };
        Ok(Some(Line {
            number: self.number,
            text: Some(text),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, bytes_max: usize) -> io::Result<Vec<Option<String>>> {
        let mut lines = Lines::new(text.as_bytes(), bytes_max);
        let mut all = Vec::new();
        while let Some(line) = lines.read()? {
            assert_eq!(line.number, all.len() as u64 + 1);
            let text = line.text.map(|text| String::from_utf8_lossy(text));
            all.push(text.map(|text| text.into_owned()));
        }
        Ok(all)
    }

    #[test]
    fn a_line_that_is_too_long_is_one_and_none() -> io::Result<()> {
        let some = |text: &str| Some(text.to_owned());
        let all = [some("abcd"), None, some("x"), some(""), None, some("end")];
        assert_eq!(read("abcd\nabcde\nx\n\nabcdefghijk\nend", 4)?, all);
        assert_eq!(read("abcd", 4)?, [some("abcd")]);
        assert_eq!(read("abcdefgh", 4)?, [None]);
        assert_eq!(read("", 4)?, []);
        Ok(())
    }

    #[test]
    fn ends_of_windows_and_a_byte_order_mark_are_no_text() -> io::Result<()> {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("\u{feff}a\r\nb\r\n", 5)?, [some("a"), some("b")]);
        Ok(())
    }
}
