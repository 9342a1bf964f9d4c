//! `sim load`: from the arguments to the numbers.
//!
//! Knows files and which edges may be written to. The order matters: what can be
//! refused at once comes before anything is sent.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Edge;
use super::compare::{Comparison, Tolerance, compare};
use super::fill::{Needed, fill};
use super::open::{self, Plan};
use super::outcome::{self, Keeping};
use super::schedule::{Arrivals, Limits, Pace, Schedule};
use super::target::Target;
use crate::operation::Effect;
use crate::report::Report;
use crate::say;
use crate::steps;
use crate::trace::{Format, REQUESTS_MAX};
use crate::traffic::visits::visits;
use crate::traffic::{self, Traffic};

/// What is stored outlives the load by so much.
const FILLED_TTL_SPARE_S: u64 = 600;

/// How a load is made.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Traffic (.ndjson, .ndjson.zst), or a trace of keys, each of which becomes a shopper (sim synth gives keys another meaning)
    pub trace: PathBuf,
    /// How a trace of keys is written [default: as its name says]
    #[arg(long)]
    pub format: Option<Format>,
    /// Where an edge is, such as http://127.0.0.1:8787; repeated, clients are spread over them
    #[arg(long = "url", required = true)]
    pub urls: Vec<String>,
    /// Send at the recorded times, so many times as fast [default: 1]
    #[arg(long, conflicts_with = "rate", value_parser = positive)]
    pub speed: Option<f64>,
    /// Send so many requests a second, whatever was recorded
    #[arg(long, value_name = "REQUESTS_PER_S", value_parser = positive)]
    pub rate: Option<f64>,
    /// With --rate: how the requests follow one another
    #[arg(long, value_enum, default_value_t = Arrivals::Even, requires = "rate")]
    pub arrivals: Arrivals,
    /// Stop after so many seconds, or 90s, 5m or 1h; at a rate, traffic that is shorter begins anew
    #[arg(long, value_name = "SECONDS", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Stop after so many requests; at a rate, traffic that is shorter begins anew
    #[arg(long)]
    pub requests: Option<u64>,
    /// Connections to each edge; what finds none free waits, and the wait counts
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=CONNECTIONS_MAX))]
    pub connections: u16,
    /// Store what the traffic reads before it begins [default for an edge on this machine]:
    /// values in Valkey for a while, and users of PostgreSQL where they are missing, who
    /// stay; its products, and the order that returns are for, have to be there, as the
    /// API cannot make them (`sim stores`, `make run` do)
    #[arg(long, overrides_with = "no_fill")]
    pub fill: bool,
    /// Store nothing beforehand [default for any other edge]
    #[arg(long, overrides_with = "fill")]
    pub no_fill: bool,
    /// Call it saturated when the p99 of the send lag is longer than so many ms
    #[arg(long, value_name = "MS", default_value_t = 10.0, value_parser = positive)]
    pub lag_limit: f64,
    /// Hold the result against what `sim replay --json` said of the same traffic; - reads it from stdin.
    /// Repeated, with replays that differ in --seed: against their mean, and their spread shows what is chance
    #[arg(long, value_name = "REPORT")]
    pub compare: Vec<PathBuf>,
    #[command(flatten)]
    pub tolerance: Tolerance,
    /// With --compare: fail when the prediction is off by more than the tolerances, or nothing can be judged
    #[arg(long, requires = "compare")]
    pub strict: bool,
}

/// What came of it. As JSON it is a [`Report`] with a comparison in it, if there
/// was one.
#[derive(Debug, Serialize)]
pub struct Loaded {
    #[serde(flatten)]
    pub report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    #[serde(skip)]
    keeping: Keeping,
    /// The traffic was answered, and as was asked for.
    #[serde(skip)]
    pub is_good: bool,
}

impl std::fmt::Display for Loaded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{}", outcome::text(&self.report, &self.keeping))?;
        match &self.comparison {
            Some(comparison) => write!(formatter, "\n{}", comparison.text()),
            None => Ok(()),
        }
    }
}

/// Each costs a port of this machine, which has some 28,000 for an edge.
const CONNECTIONS_MAX: i64 = 10_000;
/// Between these all times can be reckoned with.
const NUMBERS: RangeInclusive<f64> = 1e-6..=1e9;

/// A value of an option that has to be above 0.
///
/// # Errors
/// It is not, or no number, or an absurd one.
pub fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| NUMBERS.contains(number))
        .ok_or_else(|| {
            let (least, most) = NUMBERS.into_inner();
            format!("{text:?} is not a number above 0 (from {least} to {most})")
        })
}

/// Seconds, or with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(duration) = humantime::parse_duration(text)
        && !duration.is_zero()
    {
        return Ok(duration);
    }
    positive(text)
        .map(Duration::from_secs_f64)
        .map_err(|_| format!("{text:?} is no number of seconds, nor a duration such as 90s or 5m"))
}

/// How far something may be off.
pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    match text {
        "0" => Ok(0.0),
        _ => positive(text),
    }
}

impl Options {
    fn pace(&self) -> Pace {
        match self.rate {
            Some(per_s) => Pace::Rate {
                per_s,
                arrivals: self.arrivals,
            },
            None => Pace::Recorded {
                speed: self.speed.unwrap_or(1.0),
            },
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            duration: self.duration,
            requests: self.requests,
        }
    }

    fn conditions(&self, traffic: &Traffic) -> Vec<(String, String)> {
        let pace = match self.pace() {
            Pace::Recorded { speed } => format!("recorded times, {speed} times as fast"),
            Pace::Rate { per_s, arrivals } => format!(
                "{per_s} requests/s, {}",
                match arrivals {
                    Arrivals::Even => "at equal distances",
                    Arrivals::Poisson => "at random",
                }
            ),
        };
        [
            ("traffic", self.trace.display().to_string()),
            ("requests in it", traffic.requests.len().to_string()),
            ("edges", self.urls.join(", ")),
            ("connections to each", self.connections.to_string()),
            ("pace", pace),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// Does it all, or what there is time for until `end`.
///
/// # Errors
/// A sentence: a file cannot be read, an edge is not there or does not store
/// what the traffic reads, or not one request was answered.
pub async fn load(options: &Options, end: impl Future<Output = ()>) -> Result<Loaded> {
    let predicted = options.compare.iter().map(|file| Report::open(file));
    let predicted = predicted.collect::<Result<Vec<Report>>>()?;
    let mut traffic = traffic::open(&options.trace, options.format)?;
    say::beside(&traffic.oddities);
    if options.rate.is_none() {
        traffic.ensure_times(&options.trace)?;
    }
    let conditions = options.conditions(&traffic);
    let (pace, limits) = (options.pace(), options.limits());
    leave_out_what_is_not_sent(&mut traffic, pace, limits);
    let mut targets = Vec::new();
    for url in &options.urls {
        targets.push(Target::open(url, options.connections.into()).await?);
    }
    let visits = visits(&traffic.requests);
    let (planned, duration) = Schedule::new(&traffic.requests, &visits, pace, limits)
        .extent()
        .with_context(|| {
            format!("that would be more than {REQUESTS_MAX} requests: give a lower --rate, or less to --duration or --requests")
        })?;
    for target in &targets {
        if options.fill || (!options.no_fill && target.is_loopback()) {
            let ttl_s = duration.as_secs().saturating_add(FILLED_TTL_SPARE_S);
            store(target, &traffic, ttl_s).await?;
        }
    }
    warn_of_writes(&traffic, &targets);
    let bar = steps::bar("Sending", planned);
    let plan = Plan {
        traffic,
        targets,
        pace,
        limits,
        bar: bar.clone(),
    };
    let counts = open::run(plan, end).await?;
    bar.finish_and_clear();
    let keeping = Keeping::of(&counts, Duration::from_secs_f64(options.lag_limit / 1e3));
    let report = outcome::report(&counts, &keeping, conditions);
    let errors = counts.tallies.sum(|tally| tally.errors);
    if errors == counts.tallies.sum(|tally| tally.requests) {
        bail!(
            "not one of {errors} requests was answered well; the first: {}",
            counts.first_error.unwrap_or_default()
        );
    }
    let comparison =
        (!predicted.is_empty()).then(|| compare(&predicted, &report, options.tolerance));
    let is_right = |found: &Comparison| found.is_judged() && found.is_within;
    let is_good = counts.left == 0 && (!options.strict || comparison.as_ref().is_none_or(is_right));
    Ok(Loaded {
        report,
        comparison,
        keeping,
        is_good,
    })
}

/// What lies behind the limits need not be stored either.
fn leave_out_what_is_not_sent(traffic: &mut Traffic, pace: Pace, limits: Limits) {
    let visits = visits(&traffic.requests);
    let schedule = Schedule::new(&traffic.requests, &visits, pace, limits);
    // They are sent in their order, and then anew.
    let sent = schedule.take(visits.len()).count();
    let mut places: Vec<usize> = visits
        .iter()
        .take(sent)
        .flat_map(|visit| visit.places().iter().copied())
        .collect();
    places.sort_unstable();
    let request = |place: usize| traffic.requests.get(place).copied();
    traffic.requests = places.into_iter().filter_map(request).collect();
}

/// Fills, and says so beforehand: it is somebody's Valkey.
async fn store(target: &Arc<Target>, traffic: &Traffic, ttl_s: u64) -> Result<()> {
    let minutes = ttl_s.div_ceil(60);
    let ttl_s = u32::try_from(ttl_s).unwrap_or(u32::MAX);
    let needed = Needed::of(traffic, ttl_s);
    if needed.keys + needed.users == 0 {
        return Ok(());
    }
    say::aside(format_args!(
        "Storing what the traffic reads through {}: {} keys for {minutes} minutes, and {} users where \
         they are missing, who stay (--no-fill: nothing).",
        target.url(),
        needed.keys,
        needed.users,
    ));
    let edge = Edge::at(target.url());
    steps::step(
        "The stores are filled",
        "5 s of it let the edge's own copies grow old, or L1 would look too good",
        fill(&edge, needed),
    )
    .await?;
    Ok(())
}

/// What was recorded is sent, writes as well: better known before than after.
fn warn_of_writes(traffic: &Traffic, targets: &[Arc<Target>]) {
    let writes = traffic
        .requests
        .iter()
        .filter(|request| !matches!(request.operation.effect(), Effect::Read | Effect::None))
        .count();
    let elsewhere: Vec<&str> = targets
        .iter()
        .filter(|target| !target.is_loopback())
        .map(|target| target.url())
        .collect();
    if writes > 0 && !elsewhere.is_empty() {
        say::aside(format_args!(
            "The traffic has {writes} writes, which are sent to {} as they were recorded.",
            elsewhere.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::traffic::Request;

    #[test]
    fn what_is_not_sent_is_left_out_and_a_flow_is_whole() {
        let mut traffic = Traffic::default();
        for flow in [0, 7, 0, 7] {
            let request = Request {
                flow,
                ..Request::new(0, Operation::Session, 0)
            };
            traffic.push(request);
        }
        let limits = Limits {
            requests: Some(2),
            ..Limits::default()
        };
        leave_out_what_is_not_sent(&mut traffic, Pace::Recorded { speed: 1.0 }, limits);
        let flows: Vec<u32> = traffic.requests.iter().map(|one| one.flow).collect();
        assert_eq!(flows, [0, 7, 7]);
    }
}
