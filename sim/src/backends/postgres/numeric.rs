//! `numeric`: digits as they were written, and the two decimal places of money.
//!
//! Nothing here goes through a float. Sections named here are those of
//! "Arbitrary Precision Numbers".

use super::refusal::Refusal;

/// Digits before and after the point that the type can hold.
const WHOLE_DIGITS_MAX: usize = 131_072;
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// Exponents have to be nearer to zero than this (`INT_MAX / 2`).
const EXPONENT_END: i64 = 1_073_741_823;
/// `numeric(10, 2)` holds less than this many hundredths.
const MONEY_HUNDREDTHS_END: i64 = 10_000_000_000;

/// A value of the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Numeric {
    Finite(Decimal),
    Infinity {
        is_negative: bool,
    },
    /// Equal to itself and greater than all others.
    NotANumber,
}

/// A number with its digits. Zero is not negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    /// Without leading zeros, so that it may be empty.
    whole: String,
    fraction: String,
}

impl Numeric {
    /// `numeric_in`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        // What C calls space, which is not what Unicode calls so.
        let trimmed = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if trimmed.eq_ignore_ascii_case("nan") {
            return Ok(Self::NotANumber);
        }
        let (is_negative, unsigned) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, trimmed.get(1..).unwrap_or_default()),
            Some(b'+') => (false, trimmed.get(1..).unwrap_or_default()),
            _ => (false, trimmed),
        };
        if ["inf", "infinity"]
            .iter()
            .any(|word| unsigned.eq_ignore_ascii_case(word))
        {
            return Ok(Self::Infinity { is_negative });
        }
        Decimal::parse(is_negative, unsigned)
            .unwrap_or_else(|| Err(Refusal::syntax("numeric", text)))
            .map(Self::Finite)
    }

    /// As a column `numeric(10, 2)` shows it.
    pub fn money(&self) -> Result<String, Refusal> {
        let overflow = || Refusal::new("22003", "numeric field overflow");
        match self {
            Self::NotANumber => Ok("NaN".to_owned()),
            Self::Infinity { .. } => Err(overflow()),
            Self::Finite(decimal) => {
                let hundredths = decimal.rounded_hundredths().ok_or_else(overflow)?;
                let mut text = Vec::new();
                write_hundredths(hundredths, &mut text);
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }

    /// The least number of hundredths that is not less than this.
    pub fn least_hundredths(&self) -> i64 {
        match self {
            Self::NotANumber => i64::MAX,
            Self::Infinity { is_negative } => end(*is_negative),
            Self::Finite(decimal) => {
                let (hundredths, is_whole) = decimal.cut_hundredths();
                hundredths + i64::from(!is_whole && !decimal.is_negative)
            }
        }
    }

    /// The greatest number of hundredths that is not greater than this.
    pub fn greatest_hundredths(&self) -> i64 {
        match self {
            Self::NotANumber => i64::MAX,
            Self::Infinity { is_negative } => end(*is_negative),
            Self::Finite(decimal) => {
                let (hundredths, is_whole) = decimal.cut_hundredths();
                hundredths - i64::from(!is_whole && decimal.is_negative)
            }
        }
    }
}

fn end(is_negative: bool) -> i64 {
    if is_negative { i64::MIN } else { i64::MAX }
}

impl Decimal {
    /// A number without its sign; `None`: it is not one (`set_var_from_str`).
    pub fn parse(is_negative: bool, text: &str) -> Option<Result<Self, Refusal>> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_value(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        Some(Self::of_digits(is_negative, whole, fraction, exponent))
    }

    fn of_digits(
        is_negative: bool,
        whole: &str,
        fraction: &str,
        exponent: i64,
    ) -> Result<Self, Refusal> {
        if exponent.abs() >= EXPONENT_END {
            return Err(Refusal::numeric_overflow());
        }
        let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
        let scale = (length(fraction) - exponent).max(0);
        if scale > FRACTION_DIGITS_MAX {
            return Err(Refusal::numeric_overflow());
        }
        let mut digits = [whole, fraction].concat();
        let leading_zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
        let scale = usize::try_from(scale).unwrap_or_default();
        if leading_zeros == digits.len() {
            return Ok(Self {
                is_negative: false,
                whole: String::new(),
                fraction: "0".repeat(scale),
            });
        }
        digits.drain(..leading_zeros);
        let missing = usize::try_from(exponent - length(fraction)).unwrap_or_default();
        if digits.len().saturating_add(missing) > WHOLE_DIGITS_MAX.saturating_add(scale) {
            return Err(Refusal::numeric_overflow());
        }
        digits.push_str(&"0".repeat(missing));
        if digits.len() < scale {
            digits.insert_str(0, &"0".repeat(scale - digits.len()));
        }
        let fraction = digits.split_off(digits.len() - scale);
        Ok(Self {
            is_negative,
            whole: digits,
            fraction,
        })
    }

    /// `numeric_out`.
    pub fn text(&self) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        let whole = if self.whole.is_empty() {
            "0"
        } else {
            &self.whole
        };
        let point = if self.fraction.is_empty() { "" } else { "." };
        [sign, whole, point, &self.fraction].concat()
    }

    /// Hundredths towards zero, and whether nothing was cut off. Beyond what
    /// any column of money holds it is only very large.
    fn cut_hundredths(&self) -> (i64, bool) {
        const LARGE: i64 = 1_000_000_000_000_000;
        let mut digits = self.whole.clone();
        let mut fraction = self.fraction.bytes();
        for _ in 0..2 {
            digits.push(char::from(fraction.next().unwrap_or(b'0')));
        }
        let is_whole = fraction.all(|digit| digit == b'0');
        let hundredths = digits.parse().unwrap_or(LARGE).min(LARGE);
        (
            if self.is_negative {
                -hundredths
            } else {
                hundredths
            },
            is_whole,
        )
    }

    /// Half away from zero, as the type rounds; `None` where it does not fit
    /// `numeric(10, 2)`.
    fn rounded_hundredths(&self) -> Option<i64> {
        let (cut, _) = self.cut_hundredths();
        let is_up = self
            .fraction
            .as_bytes()
            .get(2)
            .is_some_and(|digit| *digit >= b'5');
        let away = if self.is_negative { -1 } else { 1 };
        let rounded = if is_up { cut + away } else { cut };
        (rounded.abs() < MONEY_HUNDREDTHS_END).then_some(rounded)
    }
}

/// `None`: it is no number. What is beyond all limits is the limit.
fn exponent_value(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(EXPONENT_END).min(EXPONENT_END);
    Some(if text.starts_with('-') { -size } else { size })
}

pub(super) fn write_hundredths(hundredths: i64, out: &mut Vec<u8>) {
    let sign = if hundredths < 0 { "-" } else { "" };
    let size = hundredths.unsigned_abs();
    out.extend_from_slice(format!("{sign}{}.{:02}", size / 100, size % 100).as_bytes());
}
