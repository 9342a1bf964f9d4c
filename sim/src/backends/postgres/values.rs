//! What the columns' other types accept and show.
//!
//! Does not know which columns there are. `numeric` and `jsonb` have files of
//! their own.

use super::refusal::Refusal;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// `text`: UTF-8 without NUL.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let wrong = |at: usize, length: usize| {
        let shown: Vec<String> = bytes
            .iter()
            .skip(at)
            .take(length)
            .map(|byte| format!("0x{byte:02x}"))
            .collect();
        let shown = shown.join(" ");
        Refusal::new(
            "22021",
            format!("invalid byte sequence for encoding \"UTF8\": {shown}"),
        )
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| wrong(error.valid_up_to(), error.error_len().unwrap_or(1)))?;
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(wrong(at, 1)),
        None => Ok(text),
    }
}

/// `varchar(n)`, assigned: spaces beyond the length are cut, all else is refused.
pub(super) fn varchar(mut text: String, chars_max: usize) -> Result<String, Refusal> {
    if text.len() <= chars_max {
        return Ok(text);
    }
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        let rest = text.get(end..).unwrap_or_default();
        if !rest.bytes().all(|byte| byte == b' ') {
            return Err(Refusal::new(
                "22001",
                format!("value too long for type character varying({chars_max})"),
            ));
        }
        text.truncate(end);
    }
    Ok(text)
}

/// `int4in`.
pub(super) fn int4(text: &str) -> Result<i32, Refusal> {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::syntax("integer", text));
    }
    trimmed.parse().map_err(|_| {
        let message = format!("value \"{text}\" is out of range for type integer");
        Refusal::new("22003", message)
    })
}

/// A `timestamp` in the style ISO: `2026-01-02 03:04:05.67`. Digit by digit, as
/// every row of an answer has some.
pub(super) fn write_timestamp(ms: u64, out: &mut Vec<u8>) {
    let (year, month, day) = date(ms / DAY_MS);
    let (s, fraction) = (ms % DAY_MS / 1000, ms % 1000);
    write_digits(year, 4, out);
    for (mark, number) in [
        (b'-', month),
        (b'-', day),
        (b' ', s / 3600),
        (b':', s / 60 % 60),
        (b':', s % 60),
    ] {
        out.push(mark);
        write_digits(number, 2, out);
    }
    if fraction > 0 {
        out.push(b'.');
        write_digits(fraction, 3, out);
        let zeros = out.iter().rev().take_while(|digit| **digit == b'0').count();
        out.truncate(out.len() - zeros);
    }
}

/// The last digits of a number, with zeros in front.
fn write_digits(mut number: u64, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    for _ in 0..count {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// The Gregorian date of a day since 1970. Years begin in March here, so that
/// the leap day is the last one.
fn date(day: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let since_year_0 = day + 719_468;
    let (era, day_of_era) = (since_year_0 / ERA_DAYS, since_year_0 % ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
