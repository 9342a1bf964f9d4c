//! How numbers look to people, on a terminal and on a page. Knows no layout.

/// Where there is nothing to say.
pub const NONE: &str = "–";
/// From here on, digits stand in groups of three.
const GROUPED_FROM: u64 = 10_000;

pub fn count(number: u64) -> String {
    let digits = number.to_string();
    if number < GROUPED_FROM {
        return digits;
    }
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A part of a whole in percent.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NONE.to_owned();
    }
    // In tenths of a percent, rounded to the nearest.
    let (part, whole) = (u128::from(part), u128::from(whole));
    let tenths = (part * 2000 + whole) / (whole * 2);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A part, 0…1, in percent.
pub fn percent(part: f64) -> String {
    if !part.is_finite() {
        return NONE.to_owned();
    }
    format!("{:.1}", part * 100.0)
}

/// So many times as much.
pub fn times(factor: f64) -> String {
    if !factor.is_finite() {
        return NONE.to_owned();
    }
    format!("{factor:.2} ×")
}

pub fn milliseconds(us: u64) -> String {
    // In tenths, rounded up: a latency must not look better than it was.
    let tenths = us.div_ceil(100);
    format!("{}.{}", count(tenths / 10), tenths % 10)
}

/// So much of what a limit is in.
pub fn amount(number: u64, unit: &str) -> String {
    match unit {
        "us" => format!("{} ms", milliseconds(number)),
        "bytes" => megabytes(number),
        _ => count(number),
    }
}

/// In tenths of a MiB, rounded up, as platforms count.
fn megabytes(bytes: u64) -> String {
    let tenths = u128::from(bytes).saturating_mul(10).div_ceil(1 << 20) as u64;
    format!("{}.{} MB", count(tenths / 10), tenths % 10)
}

/// A length of time in at most two units, rounded up: nothing that is late must
/// look less so.
pub fn duration(ms: u64) -> String {
    const SECOND_MS: u64 = 1000;
    const MINUTE_MS: u64 = 60 * SECOND_MS;
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    const DAY_MS: u64 = 24 * HOUR_MS;
    let two = |[large_ms, small_ms]: [u64; 2], [large, small]: [&str; 2]| {
        let smalls = ms.div_ceil(small_ms);
        let in_large = large_ms / small_ms;
        match smalls % in_large {
            0 => format!("{} {large}", count(smalls / in_large)),
            rest => format!("{} {large} {rest} {small}", count(smalls / in_large)),
        }
    };
    match ms {
        0..SECOND_MS => format!("{ms} ms"),
        SECOND_MS..MINUTE_MS => {
            let tenths = ms.div_ceil(SECOND_MS / 10);
            match tenths % 10 {
                0 => format!("{} s", tenths / 10),
                tenth => format!("{}.{tenth} s", tenths / 10),
            }
        }
        MINUTE_MS..HOUR_MS => two([MINUTE_MS, SECOND_MS], ["min", "s"]),
        HOUR_MS..DAY_MS => two([HOUR_MS, MINUTE_MS], ["h", "min"]),
        _ => two([DAY_MS, HOUR_MS], ["d", "h"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_the_nearest_and_latencies_up() {
        assert_eq!(share(1, 3), "33.3");
        assert_eq!(share(2, 3), "66.7");
        assert_eq!(share(3, 3), "100.0");
        assert_eq!(share(0, 0), "–");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0");
        assert_eq!(percent(0.125), "12.5");
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!(times(12.345), "12.35 ×");
        assert_eq!(milliseconds(9_901), "10.0");
        assert_eq!(milliseconds(0), "0.0");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(count(9999), "9999");
        assert_eq!(count(10_000), "10,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(milliseconds(60_000_000), "60,000.0");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (ms, said) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1401, "1.5 s"),
            (30_000, "30 s"),
            (60_000, "1 min"),
            (89_500, "1 min 30 s"),
            (3_600_000, "1 h"),
            (3_601_000, "1 h 1 min"),
            (5_400_000, "1 h 30 min"),
            (90_000_000, "1 d 1 h"),
            (u64::MAX, "213,503,982,334 d 15 h"),
        ] {
            assert_eq!(duration(ms), said);
        }
    }
}
