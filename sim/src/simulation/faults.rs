//! What breaks in a replay, when, and for how long. Knows how that is written;
//! who simulates does it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::traffic::LONGEST;

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Valkey refuses connections, and has broken those that there were.
    Valkey,
    Postgres,
    /// All isolates, gateways and copies of rows are gone at once; what Valkey is
    /// the truth of stays.
    Cold,
}

/// `what@from+for`, in the time since the first request; `cold` lasts no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub what: What,
    pub from_ms: u64,
    pub for_ms: u64,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const FORM: &str = "a fault is written like valkey@60s+30s, postgres@2m+10s or cold@5m";
        let (what, times) = text.split_once('@').with_context(|| FORM)?;
        let what = match what {
            "valkey" => What::Valkey,
            "postgres" => What::Postgres,
            "cold" => What::Cold,
            _ => bail!("{FORM}; {what} is none of these"),
        };
        let (from, lasts) = match times.split_once('+') {
            Some((from, lasts)) => (from, Some(lasts)),
            None => (times, None),
        };
        ensure!(
            lasts.is_some() == (what != What::Cold),
            "{FORM}: {text} {}",
            if lasts.is_some() {
                "lasts no time"
            } else {
                "does not say for how long"
            }
        );
        let for_ms = lasts.map(ms).transpose()?;
        ensure!(for_ms != Some(0), "{FORM}: {text} lasts less than 1 ms");
        Ok(Self {
            what,
            from_ms: ms(from)?,
            for_ms: for_ms.unwrap_or_default(),
        })
    }
}

impl Fault {
    /// Whether it has begun by then and not ended, in ms since the first request.
    pub fn lasts_at(&self, now_ms: u64) -> bool {
        (self.from_ms..self.from_ms + self.for_ms).contains(&now_ms)
    }
}

fn ms(text: &str) -> Result<u64> {
    let duration: Duration = humantime::parse_duration(text)
        .with_context(|| format!("{text} is no duration such as 90s, 5m or 1h30m"))?;
    ensure!(
        duration <= LONGEST,
        "{text} is too long: a replay spans at most {}",
        humantime::format_duration(LONGEST)
    );
    Ok(duration.as_millis() as u64)
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ms| humantime::format_duration(Duration::from_millis(ms));
        match self.what {
            What::Valkey => write!(
                formatter,
                "valkey@{}+{}",
                time(self.from_ms),
                time(self.for_ms)
            ),
            What::Postgres => {
                write!(
                    formatter,
                    "postgres@{}+{}",
                    time(self.from_ms),
                    time(self.for_ms)
                )
            }
            What::Cold => write!(formatter, "cold@{}", time(self.from_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() -> Result<()> {
        let fault: Fault = "valkey@1m30s+500ms".parse()?;
        let expected = Fault {
            what: What::Valkey,
            from_ms: 90_000,
            for_ms: 500,
        };
        assert_eq!(fault, expected);
        assert_eq!(fault.to_string(), "valkey@1m 30s+500ms");
        assert_eq!("cold@5m".parse::<Fault>()?.from_ms, 300_000);
        Ok(())
    }

    #[test]
    fn what_is_no_fault_says_what_one_is() {
        for text in [
            "valkey",
            "redis@1s+1s",
            "valkey@1s",
            "cold@1s+1s",
            "valkey@x+1s",
            "valkey@1s+0s",
            "valkey@1s+500000000000y",
            "cold@4000y",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
