//! When each visit is due: at its recorded time, faster or slower, or at a rate.
//!
//! Knows numbers only; the clock that they are held against is [`super::open`]'s.

use std::time::Duration;

use crate::dice::Dice;
use crate::trace::REQUESTS_MAX;
use crate::traffic::Request;
use crate::traffic::visits::Visit;

/// The same arrivals in every run, so that runs can be compared.
const SEED: u64 = 5_000;

/// What sets the times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Recorded times, so many times as fast.
    Recorded { speed: f64 },
    /// So many requests a second, whatever was recorded.
    Rate { per_s: f64, arrivals: Arrivals },
}

impl Pace {
    /// How long after the first of its flow a request is due that was recorded so
    /// long after it: the time that a client took, and none where nothing that
    /// was recorded counts.
    pub fn pause(self, recorded: Duration) -> Duration {
        match self {
            Self::Recorded { speed } => seconds(recorded.as_secs_f64() / speed),
            Self::Rate { .. } => Duration::ZERO,
        }
    }
}

/// How requests at a rate follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At equal distances
    Even,
    /// At random, as those of many people who know nothing of one another
    Poisson,
}

/// Where to stop; the traffic's own end stops recorded times as well.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    pub duration: Option<Duration>,
    /// A flow that was begun is sent to its end.
    pub requests: Option<u64>,
}

/// A visit that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Since the start.
    pub after: Duration,
    pub visit: usize,
    /// How many requests it is.
    pub requests: usize,
}

/// Gives visits in the order in which they are due. At a rate and with a limit
/// the traffic begins anew when it has ended.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When each visit was recorded, since the first, and how many requests it is.
    visits: Vec<(Duration, usize)>,
    pace: Pace,
    limits: Limits,
    dice: Dice,
    visit: usize,
    requests: u64,
    /// Of a pace with a rate, in s.
    next_s: f64,
    is_over: bool,
}

impl Schedule {
    pub fn new(requests: &[Request], visits: &[Visit], pace: Pace, limits: Limits) -> Self {
        let first_ms = requests.first().map_or(0, |request| request.time_ms);
        let visits = visits.iter().map(|visit| {
            let time_ms = visit.of(requests).next().map_or(0, |first| first.time_ms);
            let recorded = Duration::from_millis(time_ms.saturating_sub(first_ms));
            (recorded, visit.places().len())
        });
        Self {
            visits: visits.collect(),
            pace,
            limits,
            dice: Dice::seeded(SEED),
            visit: 0,
            requests: 0,
            next_s: 0.0,
            is_over: false,
        }
    }

    /// How many requests it has, and when the last visit is due; None: it has more than
    /// [`REQUESTS_MAX`].
    pub fn extent(&self) -> Option<(u64, Duration)> {
        let mut visits = self.clone();
        visits.try_fold((0, Duration::ZERO), |(requests, _), due| {
            let requests = requests + due.requests as u64;
            (requests <= REQUESTS_MAX as u64).then_some((requests, due.after))
        })
    }

    /// How long a visit of so many requests takes of the rate, in s.
    fn share_s(&mut self, per_s: f64, arrivals: Arrivals, requests: usize) -> f64 {
        let even_s = requests as f64 / per_s;
        match arrivals {
            Arrivals::Even => even_s,
            // Times between random arrivals are exponential; never the logarithm of 0.
            Arrivals::Poisson => {
                let part = (f64::from(self.dice.below(u32::MAX)) + 1.0) / f64::from(u32::MAX);
                -part.ln() * even_s
            }
        }
    }
}

/// What is too long for a clock is never due.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        if self.is_over {
            return None;
        }
        let may_begin_anew = matches!(self.pace, Pace::Rate { .. })
            && (self.limits.duration.is_some() || self.limits.requests.is_some());
        if self.visit >= self.visits.len() && may_begin_anew {
            self.visit = 0;
        }
        let visit = self.visit;
        let (recorded, requests) = *self.visits.get(visit)?;
        let after = match self.pace {
            Pace::Recorded { .. } => self.pace.pause(recorded),
            Pace::Rate { per_s, arrivals } => {
                let after = seconds(self.next_s);
                self.next_s += self.share_s(per_s, arrivals, requests);
                after
            }
        };
        let Limits {
            duration,
            requests: requests_max,
        } = self.limits;
        if duration.is_some_and(|duration| after >= duration)
            || requests_max.is_some_and(|max| self.requests >= max)
        {
            self.is_over = true;
            return None;
        }
        self.visit += 1;
        self.requests += requests as u64;
        Some(Due {
            after,
            visit,
            requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::traffic::visits::visits;

    fn schedule(pace: Pace, limits: Limits) -> Schedule {
        // A request, a flow of two, a request.
        let requests: Vec<Request> = [(1_000, 0), (1_500, 7), (1_500, 7), (3_000, 0)]
            .into_iter()
            .map(|(time_ms, flow)| Request {
                flow,
                ..Request::new(time_ms, Operation::Session, 0)
            })
            .collect();
        Schedule::new(&requests, &visits(&requests), pace, limits)
    }

    fn ms(schedule: Schedule) -> Vec<(u128, usize)> {
        schedule
            .map(|due| (due.after.as_millis(), due.visit))
            .collect()
    }

    #[test]
    fn recorded_times_count_from_the_first_and_end_with_the_last() {
        let recorded = |speed, limits| ms(schedule(Pace::Recorded { speed }, limits));
        let all = Limits::default();
        assert_eq!(recorded(1.0, all), [(0, 0), (500, 1), (2_000, 2)]);
        assert_eq!(recorded(10.0, all), [(0, 0), (50, 1), (200, 2)]);
        let short = Limits {
            duration: Some(Duration::from_millis(500)),
            ..all
        };
        assert_eq!(recorded(1.0, short), [(0, 0)]);
        let long = Limits {
            requests: Some(100),
            ..all
        };
        assert_eq!(recorded(1.0, long).len(), 3);
    }

    #[test]
    fn a_rate_counts_requests_and_begins_anew_until_its_limit() {
        let even = Pace::Rate {
            per_s: 100.0,
            arrivals: Arrivals::Even,
        };
        let all = Limits::default();
        assert_eq!(ms(schedule(even, all)), [(0, 0), (10, 1), (30, 2)]);
        let twice = Limits {
            requests: Some(8),
            ..all
        };
        let extent = schedule(even, twice).extent();
        assert_eq!(extent, Some((8, Duration::from_millis(70))));
        let endless = Limits {
            requests: Some(u64::MAX),
            ..all
        };
        assert_eq!(schedule(even, endless).extent(), None);
    }

    #[test]
    fn random_arrivals_keep_the_rate() {
        let pace = Pace::Rate {
            per_s: 1_000.0,
            arrivals: Arrivals::Poisson,
        };
        let limits = Limits {
            requests: Some(40_000),
            ..Limits::default()
        };
        let (requests, duration) = schedule(pace, limits).extent().unwrap();
        let per_s = requests as f64 / duration.as_secs_f64();
        assert!((per_s - 1_000.0).abs() < 30.0, "{per_s}");
    }
}
