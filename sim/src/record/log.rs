//! Logs of lines: access logs in the Common and the Combined Log Format of Apache
//! and nginx, and any log with the edge's own trace lines in it.
//!
//! ```text
//! 192.0.2.7 - - [26/Nov/2026:22:20:48 +0000] "GET /api/vultr/valkey/session/s1 HTTP/1.1" 200 420 "-" "curl/8"
//! ```

use std::io::BufRead;

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Recording, Seen, line};
use crate::lines::{Line, Lines};

/// Longer lines are no requests.
const LINE_BYTES_MAX: usize = 64 * 1024;

const TIME: &[BorrowedFormatItem] = format_description!(
    "[day]/[month repr:short]/[year]:[hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
);

pub(super) fn read(reader: impl BufRead, recording: &mut Recording) -> Result<()> {
    let mut lines = Lines::new(reader, LINE_BYTES_MAX);
    while let Some(Line { number, text }) = lines.read().context("the file is damaged")? {
        let place = || format!("line {number}");
        let Some(text) = text else {
            recording.reject(|| format!("{}: it has more than {LINE_BYTES_MAX} bytes", place()));
            continue;
        };
        let text = String::from_utf8_lossy(text);
        let text = text.trim();
        if text.is_empty() || line::read(text, "", &place(), recording) {
            continue;
        }
        match request(text) {
            Ok(seen) => recording.add(&seen),
            Err(why) => recording.reject(|| format!("{}: {why}", place())),
        }
    }
    Ok(())
}

/// Whether a line is one of an access log.
pub(super) fn is_one(text: &str) -> bool {
    request(text).is_ok()
}

fn request(line: &str) -> Result<Seen, &'static str> {
    let no_log = "it is no line of an access log";
    let (who, rest) = line.split_once(" [").ok_or(no_log)?;
    let (time, rest) = rest.split_once("] \"").ok_or(no_log)?;
    let mut who = who.split(' ');
    let address = who.next().unwrap_or_default();
    // Whoever has logged in is known better than by the address.
    let user = who.nth(1).filter(|user| !matches!(*user, "-" | ""));
    let time = OffsetDateTime::parse(time, TIME).map_err(|_| "its time is none")?;
    let (asked, rest) = rest.split_once("\" ").ok_or(no_log)?;
    let mut words = asked.split(' ');
    let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Err("what was asked is no request of HTTP");
    };
    let mut numbers = rest.split(' ');
    let is_value = numbers.next() == Some("200");
    let bytes = numbers.next().and_then(|bytes| bytes.parse().ok());
    Ok(Seen {
        time_ms: u64::try_from(time.unix_timestamp()).map_err(|_| "its time is before 1970")?
            * 1_000,
        method: method.to_owned(),
        target: target.to_owned(),
        client: user.unwrap_or(address).to_owned(),
        answered_bytes: bytes.filter(|_| is_value).unwrap_or_default(),
        ..Seen::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_and_combined_lines_are_read() {
        let common =
            r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326"#;
        let expected = Seen {
            time_ms: 971_211_336_000,
            method: "GET".to_owned(),
            target: "/a?b=c".to_owned(),
            client: "frank".to_owned(),
            answered_bytes: 2326,
            ..Seen::default()
        };
        assert_eq!(request(common), Ok(expected.clone()));
        let combined = format!(r#"{common} "http://x.example/\"" "Mozilla/5.0 [en] \"x\"""#);
        assert_eq!(request(&combined), Ok(expected));
        let nothing = r#"::1 - - [10/Oct/2000:13:55:36 -0700] "DELETE /a HTTP/2.0" 204 -"#;
        let seen = request(nothing).unwrap_or_default();
        assert_eq!((seen.client.as_str(), seen.answered_bytes), ("::1", 0));
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (line, word) in [
            ("", "no line"),
            ("x [y", "no line"),
            (r#"x - - [yesterday] "GET / HTTP/1.1" 200 1"#, "time"),
            (
                r#"x - - [10/Oct/2000:13:55:36 -0700] "\x16\x03\x01" 400 1"#,
                "no request",
            ),
        ] {
            assert!(request(line).unwrap_err().contains(word), "{line}");
        }
    }
}
