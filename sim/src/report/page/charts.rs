//! What the page draws: latencies, tiers and load over time, staleness.
//!
//! Says under each chart in words what it shows, for who does not see it. Does
//! not know how a shape becomes SVG.

use maud::{Markup, html};

use super::plot::{Plot, Scale, Step, labelled};
use crate::report::figures::{count, duration, milliseconds, share};
use crate::report::{Bucket, Latency, Row, Staleness, StoreLoad, Timeline};

/// The shortest latency that is told from none: 0.1 ms.
const LATENCY_DECADE: i32 = -1;
/// Where the guide's targets are read.
const JUDGED_AT: f64 = 0.95;
const SMALL_PX: f64 = 110.0;
const TIERS_PX: f64 = 180.0;
const LOAD_PX: f64 = 120.0;
/// More would be narrower than a finger, and than most pixels of a phone.
const BUCKETS_MAX: usize = 180;

/// One small chart for each operation, all on the same axes.
pub fn latencies(rows: &[Row]) -> Option<Markup> {
    let shown: Vec<&Row> = rows
        .iter()
        .filter(|row| !row.latency.curve.is_empty())
        .collect();
    if shown.is_empty() {
        return None;
    }
    let longest_ms = shown
        .iter()
        .map(|row| {
            row.target_ms
                .map_or(0.0, f64::from)
                .max(in_ms(row.latency.max_us))
        })
        .fold(0.0, f64::max);
    let x = Scale::decades(LATENCY_DECADE, longest_ms);
    Some(html! {
        p {
            "Which part of the answers took no longer than a time, which grows tenfold with each mark. "
            "A target is met where the curve crosses the line of 95 % to the left of it."
        }
        div.small-charts { @for row in shown { (latency(row, x)) } }
    })
}

fn latency(row: &Row, x: Scale) -> Markup {
    let Latency {
        p50_us,
        p95_us,
        p99_us,
        max_us,
        ..
    } = row.latency;
    let plot = Plot {
        x,
        y: Scale::linear(1.0),
        x_ticks: labelled(x.ticks(), axis_ms),
        y_ticks: labelled(vec![0.0, 0.5, JUDGED_AT], |part| {
            format!("{:.0} %", part * 100.0)
        }),
        height_px: SMALL_PX,
    };
    let points: Vec<(f64, f64)> = row
        .latency
        .curve
        .iter()
        .map(|(us, part)| (in_ms(*us), *part))
        .collect();
    let target_ms = row.target_ms.map(f64::from);
    let shapes = html! {
        @if let Some(ms) = target_ms { (plot.beyond(ms)) }
        (plot.curve(&points))
    };
    let quantiles = [(0.5, p50_us), (0.95, p95_us), (0.99, p99_us)];
    let marks = html! {
        @if let Some(ms) = row.target_ms {
            (plot.line_at(f64::from(ms), &format!("target {ms} ms")))
        }
        @for (part, us) in quantiles {
            (plot.dot(in_ms(us), part, &format!("{:.0} % took at most {} ms", part * 100.0, milliseconds(us))))
        }
    };
    let judged = match (row.target_ms, row.verdict()) {
        (Some(ms), Some(true)) => format!(" The target of {ms} ms is met."),
        (Some(ms), Some(false)) => format!(" The target of {ms} ms is missed."),
        _ => String::new(),
    };
    let description = format!(
        "Of {} answers half took at most {} ms, 95 % {} ms, 99 % {} ms, the slowest {} ms.{judged}",
        count(row.requests),
        milliseconds(p50_us),
        milliseconds(p95_us),
        milliseconds(p99_us),
        milliseconds(max_us),
    );
    html! {
        figure {
            figcaption {
                h3 { (row.operation) }
                @match row.verdict() {
                    Some(true) => span.met { "met" },
                    Some(false) => span.missed { "missed" },
                    None => {},
                }
            }
            (plot.svg(&format!("Latency of {}", row.operation), &description, &shapes, &marks))
            p.figures {
                @for (name, us) in [("p50", p50_us), ("p95", p95_us), ("p99", p99_us)] {
                    span { (name) " " b { (milliseconds(us)) } }
                }
                span { "ms" }
            }
        }
    }
}

/// Who answered which part, stacked from the nearest tier to the farthest.
pub fn tiers(timeline: &Timeline) -> Option<Markup> {
    let spans = spans(timeline)?;
    let total = spans
        .iter()
        .fold(Bucket::default(), |sum, span| sum.with(&span.bucket));
    if total.known() == 0 {
        return None;
    }
    let plot = over_time(&spans, Scale::linear(1.0), TIERS_PX, |part| {
        format!("{:.0} %", part * 100.0)
    });
    let runs = spans.chunk_by(|a, b| (a.bucket.known() > 0) == (b.bucket.known() > 0));
    let answered: Vec<&[Span]> = runs
        .filter(|run| run.iter().all(|span| span.bucket.known() > 0))
        .collect();
    let shapes = html! {
        @for (tier, class) in ["l1", "l2", "l3"].into_iter().enumerate() {
            @for run in &answered {
                path class=(class) d=(plot.steps(&layer(run, tier))) {}
            }
        }
    };
    let marks = html! {
        @for span in &spans {
            @if span.bucket.errors > 0 { (plot.notch(span.start_ms, span.end_ms)) }
            (plot.column(span.start_ms, span.end_ms, &span.answers()))
        }
    };
    let of_all = |tier| share(tier, total.known());
    let description = format!(
        "Of all answers L1 gave {} %, L2 {} %, L3 {} %.",
        of_all(total.l1),
        of_all(total.l2),
        of_all(total.l3)
    );
    Some(html! {
        p { (description) @if total.errors > 0 { " " (count(total.errors)) " errors are marked above." } }
        ul.legend {
            li.l1 { "L1, the isolate's memory" }
            li.l2 { "L2, Valkey" }
            li.l3 { "L3, PostgreSQL" }
            @if total.errors > 0 { li.error { "errors" } }
        }
        figure { (plot.svg("Answers by tier over time", &description, &shapes, &marks)) }
        (resolution(&spans))
    })
}

fn layer(run: &[Span], tier: usize) -> Vec<Step> {
    run.iter()
        .map(|span| {
            let known = span.bucket.known() as f64;
            let below = |tier| {
                span.bucket
                    .tiers()
                    .iter()
                    .take(tier)
                    .map(|answers| *answers as f64)
                    .sum::<f64>()
                    / known
            };
            Step {
                start: span.start_ms,
                end: span.end_ms,
                bottom: below(tier),
                top: below(tier + 1),
            }
        })
        .collect()
}

/// What reached each store, with its busiest second.
pub fn loads(timeline: &Timeline, stores: &[StoreLoad]) -> Option<Markup> {
    let spans = spans(timeline)?;
    let named = |name| stores.iter().find(|load| load.store == name);
    Some(html! {
        div.charts {
            (load(&spans, "Valkey", "commands", named("Valkey"), |bucket| bucket.valkey_commands))
            (load(&spans, "PostgreSQL", "statements", named("PostgreSQL"), |bucket| bucket.postgres_statements))
        }
        (resolution(&spans))
    })
}

fn load(
    spans: &[Span],
    store: &str,
    unit: &str,
    known: Option<&StoreLoad>,
    of: fn(&Bucket) -> u64,
) -> Markup {
    let title = html! { figcaption { h3 { (store) ", " (unit) " per second" } } };
    let busiest = spans.iter().map(|span| span.per_s(of)).fold(0.0, f64::max);
    let peak = known.map(|load| load.peak_per_s as f64);
    let high = peak.map_or(busiest, |peak| peak.max(busiest));
    if high <= 0.0 {
        return html! { figure { (title) p { "None reached it." } } };
    }
    let plot = over_time(spans, Scale::linear(high), LOAD_PX, axis_count);
    let steps: Vec<Step> = spans
        .iter()
        .map(|span| Step {
            start: span.start_ms,
            end: span.end_ms,
            bottom: 0.0,
            top: span.per_s(of),
        })
        .collect();
    let shapes = html! {
        path.below d=(plot.steps(&steps)) {}
        path.line d=(plot.edge(&steps)) {}
    };
    let marks = html! {
        @for span in spans {
            (plot.column(span.start_ms, span.end_ms, &span.load(unit, of)))
        }
        @if let Some(load) = known { (peak_of(&plot, load)) }
    };
    let of_a_step = format!("In no step more than {}/s on average.", axis_count(busiest));
    let description = match known {
        Some(load) => format!("With its {}. {of_a_step}", peak_in_words(load)),
        None => of_a_step,
    };
    html! {
        figure {
            (title)
            (plot.svg(&format!("Load on {store} over time"), &description, &shapes, &marks))
        }
    }
}

fn peak_of(plot: &Plot, load: &StoreLoad) -> Markup {
    let (at_ms, per_s) = (load.peak_at_ms as f64, load.peak_per_s as f64);
    let words = peak_in_words(load);
    html! {
        (plot.stem(at_ms, per_s))
        (plot.dot(at_ms, per_s, &words))
        (plot.words(at_ms, per_s, &words))
    }
}

fn peak_in_words(load: &StoreLoad) -> String {
    format!(
        "peak {}/s after {}",
        count(load.peak_per_s),
        duration(load.peak_at_ms)
    )
}

/// How far those answers lay behind that were not the truth any more.
pub fn staleness(staleness: &Staleness) -> Option<Markup> {
    if staleness.answers == 0 {
        return None;
    }
    let answers = count(staleness.answers);
    if staleness.stale == 0 {
        return Some(
            html! { p { "Each of " (answers) " answers to reads that could be judged was the truth." } },
        );
    }
    let said = format!(
        "{} of {answers} answers to reads ({} %) were not the truth any more. Of these half had been overtaken for at most {}, \
         99 % for at most {}, and none for more than {}.",
        count(staleness.stale),
        share(staleness.stale, staleness.answers),
        duration(staleness.p50_ms),
        duration(staleness.p99_ms),
        duration(staleness.max_ms),
    );
    Some(html! {
        p { (said) }
        @if !staleness.curve.is_empty() { (behind(staleness, &said)) }
    })
}

fn behind(staleness: &Staleness, said: &str) -> Markup {
    let x = Scale::decades(0, staleness.max_ms as f64);
    let plot = Plot {
        x,
        y: Scale::linear(1.0),
        x_ticks: labelled(x.ticks(), axis_ms),
        y_ticks: labelled(vec![0.0, 0.5, 1.0], |part| format!("{:.0} %", part * 100.0)),
        height_px: LOAD_PX,
    };
    let points: Vec<(f64, f64)> = staleness
        .curve
        .iter()
        .map(|(ms, part)| (*ms as f64, *part))
        .collect();
    let marks = html! {
        @for (part, ms) in [(0.5, staleness.p50_ms), (0.99, staleness.p99_ms)] {
            (plot.dot(ms as f64, part, &format!("{:.0} % lay at most {} behind", part * 100.0, duration(ms))))
        }
        (plot.line_at(staleness.max_ms as f64, &format!("at most {}", duration(staleness.max_ms))))
    };
    html! {
        figure {
            figcaption { h3 { "Part of the stale answers that lay no further behind" } }
            (plot.svg("Staleness", said, &plot.curve(&points), &marks))
        }
    }
}

/// Buckets of a timeline as one piece.
struct Span {
    start_ms: f64,
    end_ms: f64,
    bucket: Bucket,
}

/// None where there is nothing to draw.
fn spans(timeline: &Timeline) -> Option<Vec<Span>> {
    let length_ms = timeline.bucket_ms as f64;
    if timeline.bucket_ms == 0 || timeline.buckets.is_empty() {
        return None;
    }
    let together = timeline.buckets.len().div_ceil(BUCKETS_MAX);
    let mut start_ms = 0.0;
    let spans = timeline.buckets.chunks(together).map(|buckets| {
        let end_ms = start_ms + buckets.len() as f64 * length_ms;
        let bucket = buckets
            .iter()
            .fold(Bucket::default(), |sum, bucket| sum.with(bucket));
        let span = Span {
            start_ms,
            end_ms,
            bucket,
        };
        start_ms = end_ms;
        span
    });
    Some(spans.collect())
}

impl Span {
    fn per_s(&self, of: fn(&Bucket) -> u64) -> f64 {
        of(&self.bucket) as f64 * 1000.0 / (self.end_ms - self.start_ms)
    }

    fn when(&self) -> String {
        format!("{} to {}", whole(self.start_ms), whole(self.end_ms))
    }

    fn load(&self, unit: &str, of: fn(&Bucket) -> u64) -> String {
        format!(
            "{}: {} {unit}, {}/s",
            self.when(),
            count(of(&self.bucket)),
            axis_count(self.per_s(of))
        )
    }

    fn answers(&self) -> String {
        let Bucket {
            requests,
            errors,
            l1,
            l2,
            l3,
            ..
        } = self.bucket;
        let known = self.bucket.known();
        format!(
            "{}: {} requests; L1 {} %, L2 {} %, L3 {} %; {} errors",
            self.when(),
            count(requests),
            share(l1, known),
            share(l2, known),
            share(l3, known),
            count(errors)
        )
    }
}

impl Bucket {
    /// From the nearest to the farthest.
    fn tiers(&self) -> [u64; 3] {
        [self.l1, self.l2, self.l3]
    }

    fn known(&self) -> u64 {
        self.tiers().into_iter().fold(0, u64::saturating_add)
    }

    fn with(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            l1: self.l1.saturating_add(other.l1),
            l2: self.l2.saturating_add(other.l2),
            l3: self.l3.saturating_add(other.l3),
            errors: self.errors.saturating_add(other.errors),
            valkey_commands: self.valkey_commands.saturating_add(other.valkey_commands),
            postgres_statements: self
                .postgres_statements
                .saturating_add(other.postgres_statements),
        }
    }
}

fn over_time(spans: &[Span], y: Scale, height_px: f64, y_label: fn(f64) -> String) -> Plot {
    let x = Scale::linear(spans.last().map_or(0.0, |span| span.end_ms));
    Plot {
        x,
        y,
        x_ticks: labelled(x.ticks_ms(), |ms| {
            if ms == 0.0 { "0".to_owned() } else { whole(ms) }
        }),
        y_ticks: labelled(y.ticks(), y_label),
        height_px,
    }
}

fn resolution(spans: &[Span]) -> Markup {
    let step_ms = spans
        .first()
        .map_or(0.0, |span| span.end_ms - span.start_ms);
    html! { p.caption { "From the first request on; one step is " (whole(step_ms)) "." } }
}

fn in_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A moment that was computed with as a fraction.
fn whole(ms: f64) -> String {
    // Saturates, and is never negative.
    duration(ms.round() as u64)
}

fn axis_ms(ms: f64) -> String {
    if ms < 1.0 {
        format!("{ms:.1} ms")
    } else {
        whole(ms)
    }
}

/// Short enough to stand beside an axis.
fn axis_count(number: f64) -> String {
    const THOUSANDS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut rest = number;
    let mut unit = "";
    for next in THOUSANDS {
        unit = next;
        if rest < 1000.0 {
            break;
        }
        if next != "E" {
            rest /= 1000.0;
        }
    }
    let digits = match rest {
        ..1.0 => format!("{rest:.3}"),
        ..10.0 => format!("{rest:.1}"),
        _ => format!("{rest:.0}.0"),
    };
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_an_axis_are_short() {
        for (number, said) in [
            (0.0, "0"),
            (0.025, "0.025"),
            (2.5, "2.5"),
            (100.0, "100"),
            (2500.0, "2.5k"),
            (1.2e6, "1.2M"),
            (u64::MAX as f64, "18E"),
        ] {
            assert_eq!(axis_count(number), said);
        }
    }
}
