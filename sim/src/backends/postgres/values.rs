//! What the columns' types accept and show, and the words for what they refuse.
//!
//! Text format only. Does not know tables; `jsonb` has a file of its own.

use std::cmp::Ordering;

/// An error of the server: a code of the appendix "PostgreSQL Error Codes" and
/// its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub sqlstate: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
        }
    }

    fn syntax(kind: &str, text: &str) -> Self {
        Self::new(
            "22P02",
            format!("invalid input syntax for type {kind}: \"{text}\""),
        )
    }
}

/// What `isspace` of the C locale says, around a number.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
}

/// `int4in`.
pub(super) fn integer(text: &str) -> Result<i32, Refusal> {
    let digits = trimmed(text);
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::syntax("integer", text));
    }
    digits.parse().map_err(|_| {
        Refusal::new(
            "22003",
            format!("value \"{text}\" is out of range for type integer"),
        )
    })
}

/// A text in a `varchar(n)`: what is too long may be so by spaces only.
pub(super) fn varchar(text: &str, chars_max: usize) -> Result<&str, Refusal> {
    let Some((end, _)) = text.char_indices().nth(chars_max) else {
        return Ok(text);
    };
    let (kept, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if rest.bytes().all(|byte| byte == b' ') {
        return Ok(kept);
    }
    Err(Refusal::new(
        "22001",
        format!("value too long for type character varying({chars_max})"),
    ))
}

/// A `timestamp` as `DateStyle` ISO shows it.
pub(super) fn timestamp(at_ms: u64) -> String {
    let (s, ms) = (at_ms / 1000, at_ms % 1000);
    let (day, second) = (s / 86_400, s % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years
    // begin in March, so that the leap day is a year's last.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next_year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if ms > 0 {
        text.push_str(format!(".{ms:03}").trim_end_matches('0'));
    }
    text
}

/// A `numeric`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decimal {
    /// Below zero, digits, and how many of them stand behind the point. The
    /// digits begin with a zero only where it stands before the point alone or
    /// behind it. Zero is not below zero.
    Finite(bool, Vec<u8>, usize),
    Infinite(bool),
    NotANumber,
}

impl Decimal {
    pub fn hundredths(number: i64) -> Self {
        let digits = format!("{:03}", number.unsigned_abs());
        Self::finite(number < 0, digits.into_bytes(), 2)
    }

    fn finite(is_negative: bool, mut digits: Vec<u8>, scale: usize) -> Self {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros.min(digits.len().saturating_sub(scale)));
        let is_negative = is_negative && digits.iter().any(|digit| *digit != b'0');
        Self::Finite(is_negative, digits, scale)
    }

    /// `numeric_in`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let syntax = || Refusal::syntax("numeric", text);
        let number = trimmed(text);
        if let Some(special) = special(number) {
            return Ok(special);
        }
        let unsigned = number.strip_prefix(['-', '+']).unwrap_or(number);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or_else(syntax)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(syntax());
        }
        Self::scaled(number.starts_with('-'), digits, fraction.len(), exponent)
    }

    fn scaled(
        is_negative: bool,
        mut digits: Vec<u8>,
        fraction: usize,
        exponent: i64,
    ) -> Result<Self, Refusal> {
        const WHOLE_DIGITS_MAX: i64 = 131_072;
        const SCALE_MAX: i64 = 16_383;
        let overflow = || Refusal::new("22003", "value overflows numeric format");
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let is_zero = zeros == digits.len();
        let shift = exponent.saturating_sub(count(fraction));
        let whole = count(digits.len() - zeros).saturating_add(shift);
        if !is_zero && whole > WHOLE_DIGITS_MAX || shift < -SCALE_MAX {
            return Err(overflow());
        }
        if is_zero {
            digits.clear();
        }
        let scale = usize::try_from(-shift).unwrap_or(0);
        if !is_zero && shift > 0 {
            let wanted = digits
                .len()
                .saturating_add(usize::try_from(shift).unwrap_or(0));
            digits.resize(wanted, b'0');
        }
        if digits.len() < scale {
            let missing = scale - digits.len();
            digits.splice(..0, std::iter::repeat_n(b'0', missing));
        }
        Ok(Self::finite(is_negative, digits, scale))
    }

    /// In a `numeric(10, 2)`: rounded, halves away from zero.
    pub fn in_hundredths(self) -> Result<Self, Refusal> {
        const WHOLE_DIGITS_MAX: usize = 8;
        let overflow = || Refusal::new("22003", "numeric field overflow");
        let (is_negative, mut digits, scale) = match self {
            Self::NotANumber => return Ok(self),
            Self::Infinite(_) => return Err(overflow()),
            Self::Finite(is_negative, digits, scale) => (is_negative, digits, scale),
        };
        if scale <= 2 {
            digits.resize(digits.len() + 2 - scale, b'0');
        } else {
            let kept = digits.len().saturating_sub(scale - 2);
            let rounds_up = digits.get(kept).is_some_and(|digit| *digit >= b'5');
            digits.truncate(kept);
            if rounds_up {
                add_one(&mut digits);
            }
        }
        let rounded = Self::finite(is_negative, digits, 2);
        match &rounded {
            Self::Finite(_, digits, scale) if digits.len() - scale > WHOLE_DIGITS_MAX => {
                Err(overflow())
            }
            _ => Ok(rounded),
        }
    }

    /// `numeric_out`.
    pub fn text(&self) -> String {
        let (is_negative, digits, scale) = match self {
            Self::NotANumber => return "NaN".to_owned(),
            Self::Infinite(true) => return "-Infinity".to_owned(),
            Self::Infinite(false) => return "Infinity".to_owned(),
            Self::Finite(is_negative, digits, scale) => (is_negative, digits, *scale),
        };
        let mut text = String::with_capacity(digits.len() + 3);
        if *is_negative {
            text.push('-');
        }
        let whole = digits.len().saturating_sub(scale);
        if whole == 0 {
            text.push('0');
        }
        for (place, digit) in digits.iter().enumerate() {
            if place == whole {
                text.push('.');
            }
            text.push(char::from(*digit));
        }
        text
    }

    /// The same number without zeros at its end: equal ones have one text.
    pub fn shortest_text(&self) -> String {
        let text = self.text();
        if !matches!(self, Self::Finite(_, _, scale) if *scale > 0) {
            return text;
        }
        let text = text.trim_end_matches('0');
        text.trim_end_matches('.').to_owned()
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp_value(other))
    }
}

impl Decimal {
    /// Everything is below "not a number", which equals itself.
    fn cmp_value(&self, other: &Self) -> Ordering {
        let rank = |number: &Self| match number {
            Self::Infinite(true) => 0,
            Self::Finite(true, ..) => 1,
            Self::Finite(false, ..) => 2,
            Self::Infinite(false) => 3,
            Self::NotANumber => 4,
        };
        match (self, other) {
            (Self::Finite(below, a, a_scale), Self::Finite(other_below, b, b_scale))
                if below == other_below =>
            {
                let order = cmp_digits((a, *a_scale), (b, *b_scale));
                if *below { order.reverse() } else { order }
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

fn cmp_digits((a, a_scale): (&[u8], usize), (b, b_scale): (&[u8], usize)) -> Ordering {
    let whole = |digits: &[u8], scale: usize| digits.len().saturating_sub(scale);
    let places = a.len().max(b.len()) + a_scale.max(b_scale);
    let padded = |digits: &[u8]| {
        let zeros = std::iter::repeat_n(b'0', places - digits.len());
        digits.iter().copied().chain(zeros).collect::<Vec<u8>>()
    };
    whole(a, a_scale)
        .cmp(&whole(b, b_scale))
        .then_with(|| padded(a).cmp(&padded(b)))
}

fn special(text: &str) -> Option<Decimal> {
    let is = |name: &str| text.eq_ignore_ascii_case(name);
    if is("NaN") {
        Some(Decimal::NotANumber)
    } else if ["Infinity", "+Infinity", "inf", "+inf"].into_iter().any(is) {
        Some(Decimal::Infinite(false))
    } else if ["-Infinity", "-inf"].into_iter().any(is) {
        Some(Decimal::Infinite(true))
    } else {
        None
    }
}

/// One that is beyond all limits is as good as any other.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::from(i32::MAX));
    Some(if text.starts_with('-') { -size } else { size })
}

fn add_one(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}
