//! What an open loop says in the end: a report, and whether the numbers in it are
//! those of the edge or of a load that nobody kept up with.
//!
//! Knows how to judge, and how numbers look to people. Sends nothing.

use std::time::Duration;

use console::style;

use super::open::Counts;
use crate::operation::Operation;
use crate::report::{Report, Row, table};

/// Below this part of the offered rate the achieved one fell behind…
const ACHIEVED_PART_MIN: f64 = 0.95;
/// …unless it ended so soon after the last was due: any load ends with answers.
const END_MAX: Duration = Duration::from_secs(1);

/// What a note may begin with that must not be overlooked.
const WARNINGS: [&str; 2] = ["SATURATED", "INTERRUPTED"];

/// How well a load was kept up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keeping {
    pub offered_per_s: f64,
    pub achieved_per_s: f64,
    pub lag_p50_us: u64,
    pub lag_p99_us: u64,
    pub lag_max_us: u64,
    /// p99 of the send lag is longer than was allowed.
    pub is_late: bool,
    /// Answers came slower than requests were due.
    pub is_behind: bool,
}

impl Keeping {
    pub fn of(counts: &Counts, lag_max: Duration) -> Self {
        let per_s = |duration: Duration| {
            // One request is no rate; over no time at all least of all.
            counts.sent as f64 / duration.as_secs_f64().max(0.001)
        };
        let offered_per_s = per_s(counts.sent_duration);
        let achieved_per_s = per_s(counts.elapsed);
        let at = |quantile| counts.lag_us.value_at_quantile(quantile);
        Self {
            offered_per_s,
            achieved_per_s,
            lag_p50_us: at(0.5),
            lag_p99_us: at(0.99),
            lag_max_us: counts.lag_us.max(),
            is_late: Duration::from_micros(at(0.99)) > lag_max,
            is_behind: achieved_per_s < ACHIEVED_PART_MIN * offered_per_s
                && counts.elapsed > counts.sent_duration + END_MAX,
        }
    }

    pub fn is_saturated(&self) -> bool {
        self.is_late || self.is_behind
    }

    fn conditions(&self) -> [(String, String); 6] {
        [
            ("offered rate", requests_per_s(self.offered_per_s)),
            ("achieved rate", requests_per_s(self.achieved_per_s)),
            ("send lag p50", milliseconds(self.lag_p50_us)),
            ("send lag p99", milliseconds(self.lag_p99_us)),
            ("send lag max", milliseconds(self.lag_max_us)),
            (
                "saturated",
                if self.is_saturated() { "yes" } else { "no" }.to_owned(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// What it means, in a sentence; none when all is well.
    fn warning(&self) -> Option<String> {
        let what = match (self.is_behind, self.is_late) {
            (false, false) => return None,
            (true, _) => "the answers came slower than the requests were due",
            (false, true) => "requests were sent later than they were due",
        };
        Some(format!(
            "SATURATED: {what}. The latencies count the wait, and say more about the load than about \
             one request: lower the rate, raise --connections, or give the generator a machine of its own."
        ))
    }
}

/// The report; `conditions` are those that were known before.
pub fn report(counts: &Counts, keeping: &Keeping, mut conditions: Vec<(String, String)>) -> Report {
    conditions.extend(keeping.conditions());
    let mut notes: Vec<String> = keeping.warning().into_iter().collect();
    if counts.left > 0 {
        let all = counts.sent + counts.left;
        notes.push(format!(
            "INTERRUPTED: {} of {all} requests were sent.",
            counts.sent
        ));
    }
    notes.push(
        "A latency counts from the moment the request was due, not from when it was sent."
            .to_owned(),
    );
    let absent = counts.tallies.sum(|tally| tally.absent);
    if absent > 0 {
        notes.push(format!(
            "{absent} answers were 404: what they asked for is not in the stores."
        ));
    }
    if counts.tallies.get(Operation::VoiceQuery).is_some() {
        notes.push(
            "A voice query is a flow of requests, each sent when the one before was answered."
                .to_owned(),
        );
    }
    if let Some(first) = &counts.first_error {
        notes.extend(counts.tallies.failures());
        notes.push(format!("The first of them: {first}"));
    }
    Report {
        conditions,
        rows: Row::all_of(&counts.tallies),
        timeline: counts.timeline.clone(),
        notes,
        ..Report::default()
    }
}

/// The table and what has to be said about it, for people.
pub fn text(report: &Report, keeping: &Keeping) -> String {
    let mut text = table::table(&report.rows);
    text.push('\n');
    text.push_str(&format!(
        "Send lag: {} (p50), {} (p99), {} (max). {} offered, {} achieved.\n",
        milliseconds(keeping.lag_p50_us),
        milliseconds(keeping.lag_p99_us),
        milliseconds(keeping.lag_max_us),
        requests_per_s(keeping.offered_per_s),
        requests_per_s(keeping.achieved_per_s),
    ));
    for note in &report.notes {
        let warning = WARNINGS
            .iter()
            .find_map(|word| Some((word, note.strip_prefix(word)?)));
        match warning {
            Some((word, rest)) => {
                text.push_str(&format!("{}{rest}\n", style(word).red().bold()));
            }
            None => text.push_str(&format!("{note}\n")),
        }
    }
    text
}

fn requests_per_s(per_s: f64) -> String {
    match per_s {
        ..10.0 => format!("{per_s:.2} requests/s"),
        _ => format!("{per_s:.0} requests/s"),
    }
}

fn milliseconds(us: u64) -> String {
    // In hundredths, rounded up: a lag must not look better than it was.
    let hundredths = us.div_ceil(10);
    format!("{}.{:02} ms", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    fn keeping(lag_ms: u64, planned_s: u64, elapsed_s: u64) -> Result<Keeping> {
        let mut counts = Counts::new()?;
        (counts.sent, counts.sent_duration) = (1_000, Duration::from_secs(planned_s));
        counts.lag_us.record_n(lag_ms * 1_000, 1_000)?;
        counts.elapsed = Duration::from_secs(elapsed_s);
        Ok(Keeping::of(&counts, Duration::from_millis(10)))
    }

    #[test]
    fn late_requests_and_late_answers_are_called_saturated() -> Result<()> {
        assert!(!keeping(1, 10, 10)?.is_saturated());
        assert!(keeping(11, 10, 10)?.is_late);
        assert!(keeping(1, 10, 12)?.is_behind);
        // The last answers take their time in any load.
        assert!(!keeping(1, 1, 2)?.is_behind);
        Ok(())
    }

    #[test]
    fn saturation_stands_in_the_conditions_and_first_among_the_notes() -> Result<()> {
        let mut counts = Counts::new()?;
        counts.sent = 1;
        let mut keeping = keeping(1, 10, 10)?;
        let said = |keeping: &Keeping| report(&counts, keeping, Vec::new());
        let value = |report: &Report| report.conditions.last().cloned();
        assert_eq!(value(&said(&keeping)).unwrap_or_default().1, "no");
        keeping.is_behind = true;
        let report = said(&keeping);
        assert_eq!(value(&report).unwrap_or_default().1, "yes");
        assert!(report.notes[0].starts_with("SATURATED: the answers"));
        assert!(text(&report, &keeping).contains("SATURATED: the answers"));
        Ok(())
    }
}
